package engine

import (
	"encoding/json"
	"net/textproto"
	"slices"
	"strings"
	"unicode"

	"hookbolt/engine/jsonread"
	"hookbolt/engine/send"
)

// Limits of what a webhook sends along for its endpoint.
const (
	maxHeaders      = 32
	maxHeaderValue  = 4096 // bytes
	maxHeadersBytes = 16 << 10
	maxCredential   = 4096 // bytes of a user name, password, client id, client secret or token request
	maxScopes       = 64
)

// OAuth2Setting returns the members of the setting oauth2 that makes o, as ParseWebhookPatch reads it, so that one of them can be
// changed. They hold credentials: they must not be shown.
func OAuth2Setting(o *OAuth2) map[string]json.RawMessage {
	stored := *o
	if o.IsJSON {
		stored.Body, stored.IsJSON = "", false
	}
	text, err := json.Marshal(stored)
	if err != nil {
		panic(err) // cannot be: strings
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		panic(err) // cannot be: it was just written
	}
	if o.IsJSON {
		members["body"] = json.RawMessage(o.Body)
	}
	return members
}

// ownHeaders are the names that are not a webhook's to set: hookbolt's own, those that shape the connection or the message, and those
// with which net/http would send a request again by itself.
var ownHeaders = []string{"Accept-Encoding", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Date", "Expect", "Host",
	"Idempotency-Key", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "User-Agent", "X-Idempotency-Key"}

// ownHeaderPrefixes are what names begin with that are not a webhook's to set.
var ownHeaderPrefixes = []string{"Hookbolt-", "Webhook-", "Proxy-", "Sec-"}

// isOwnHeader tells whether a header, by its canonical name, is not a webhook's to set.
func isOwnHeader(name string) bool {
	return slices.Contains(ownHeaders, name) || slices.ContainsFunc(ownHeaderPrefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// badHeaderName is why a name of a header is refused.
const badHeaderName = "a header's name must be letters, digits, - and the like, without spaces"

// readHeaders reads headers: an object of names and values. ofToken says that they are for a request for a token: they may have a
// Content-Type, and no value has a form that says whether it is secret.
func readHeaders(r *jsonread.Reader, ofToken bool) map[string]Header {
	headers := make(map[string]Header)
	total := 0
	r.Object(func(key []byte) bool {
		name := textproto.CanonicalMIMEHeaderKey(string(key))
		_, twice := headers[name]
		switch isOurs := !(ofToken && name == "Content-Type") && isOwnHeader(name); {
		case !isToken(name):
			r.Fail(badHeaderName)
		case isOurs:
			r.Fail("this header is hookbolt's own and cannot be set")
		case twice:
			r.Fail("the header stands twice; its name is the same in any case")
		}
		if r.Peek() == '{' && !ofToken {
			headers[name] = readHeaderObject(r)
		} else {
			headers[name] = Header{Value: readHeaderValue(r)}
		}
		total += len(name) + len(headers[name].Value)
		return true
	})
	if len(headers) > maxHeaders || total > maxHeadersBytes {
		r.Fail("must have at most %d headers with %d bytes in all (got %d with %d)", maxHeaders, maxHeadersBytes, len(headers), total)
	}
	return headers
}

// readHeaderObject reads a header's value that comes with whether it is secret.
func readHeaderObject(r *jsonread.Reader) (h Header) {
	r.Object(func(key []byte) bool {
		switch string(key) {
		case "value":
			h.Value = readHeaderValue(r)
		case "secret":
			h.Secret = new(r.Bool())
		default:
			return false
		}
		return true
	})
	switch {
	case h.Value == "":
		r.FailAt("value", "is required")
	case h.Secret == nil:
		r.FailAt("secret", "is required: true or false; or give the value alone, as a string")
	}
	return h
}

// readHeaderValue reads a header's value.
func readHeaderValue(r *jsonread.Reader) Credential {
	value := readText(r, "a header's value", maxHeaderValue)
	if strings.ContainsFunc(value, func(c rune) bool { return unicode.IsControl(c) && c != '\t' }) {
		r.Fail("a header's value %s", noControls)
	} else if err := send.CheckEnds(value); err != nil {
		r.Fail("a header's value %v", err)
	}
	return Credential(value)
}

// isToken tells whether a header's name is one (RFC 9110, section 5.6.2).
func isToken(name string) bool {
	const others = "!#$%&'*+-.^_`|~"
	return name != "" && !strings.ContainsFunc(name, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && !strings.ContainsRune(others, c)
	})
}

// readText reads a string that must not be empty.
func readText(r *jsonread.Reader, what string, most int) string {
	s := r.Text()
	if s == "" || len(s) > most {
		r.Fail("%s must have 1 to %d bytes (got %d)", what, most, len(s))
	}
	return s
}

// noControls is why a credential is refused that would break the header or the form that it is sent in.
const noControls = "must not hold line breaks or other control characters"

// readCredential reads a user name, a password or the like. A space at an end may be meant, what cannot be seen there is not.
func readCredential(r *jsonread.Reader) Credential {
	s := r.Text()
	if strings.ContainsFunc(s, unicode.IsControl) {
		r.Fail(noControls)
	} else if err := send.CheckEnds(strings.Trim(s, " ")); err != nil {
		r.Fail("%v", err)
	}
	return Credential(s)
}

// readClientPart is readCredential for what must not be empty.
func readClientPart(r *jsonread.Reader, what string) Credential {
	s := readCredential(r)
	if s == "" || len(s) > maxCredential {
		r.Fail("%s must have 1 to %d bytes (got %d)", what, maxCredential, len(s))
	}
	return s
}

func readBasicAuth(r *jsonread.Reader) *BasicAuth {
	var b BasicAuth
	hasUser, hasPassword := false, false
	r.Object(func(key []byte) bool {
		switch string(key) {
		case "username":
			hasUser = true
			b.Username = readCredential(r)
			if strings.Contains(string(b.Username), ":") {
				r.Fail("must not hold a colon, which ends it (RFC 7617)")
			}
		case "password":
			hasPassword = true
			b.Password = readCredential(r)
		default:
			return false
		}
		return true
	})
	switch {
	case !hasUser:
		r.FailAt("username", "is required")
	case !hasPassword:
		r.FailAt("password", `is required; it may be ""`)
	case len(b.Username)+len(b.Password) > maxCredential:
		r.Fail("must have at most %d bytes in all (got %d)", maxCredential, len(b.Username)+len(b.Password))
	}
	return &b
}

func readOAuth2(r *jsonread.Reader) *OAuth2 {
	var o OAuth2
	hasStyle := false
	r.Object(func(key []byte) bool {
		switch string(key) {
		case "token_url":
			o.TokenURL = Credential(readURL(r))
		case "client_id":
			o.ClientID = readClientPart(r, "client_id")
		case "client_secret":
			o.ClientSecret = readClientPart(r, "client_secret")
		case "scopes":
			r.Array(func(int) {
				scope := readClientPart(r, "a scope")
				if strings.Contains(string(scope), " ") {
					r.Fail("a scope must not hold white space: each is a string of its own")
				}
				o.Scopes = append(o.Scopes, scope)
			})
			if len(o.Scopes) > maxScopes {
				r.Fail("must have at most %d scopes (got %d)", maxScopes, len(o.Scopes))
			}
		case "auth_style":
			hasStyle = true
			o.AuthStyle = readAuthStyle(r)
		case "headers":
			o.Headers = make(map[string]Credential)
			for name, header := range readHeaders(r, true) {
				o.Headers[name] = header.Value
			}
		case "body":
			o.Body, o.IsJSON = readTokenBody(r)
		default:
			return false
		}
		return true
	})
	standard := o.ClientID != "" || o.ClientSecret != "" || o.Scopes != nil
	switch {
	case o.TokenURL == "":
		r.FailAt("token_url", "is required: where to get a token")
	case o.Body != "" && hasStyle:
		r.FailAt("auth_style", "is how client_id and client_secret are sent, which body replaces: leave it out")
	case o.Body != "" && standard:
		r.FailAt("body", "replaces client_id, client_secret and scopes: give either body or these")
	case o.Body == "" && o.ClientID == "":
		r.FailAt("client_id", "is required, with client_secret; or body in their place")
	case o.Body == "" && o.ClientSecret == "":
		r.FailAt("client_secret", "is required with client_id")
	}
	return &o
}

// readAuthStyle reads how the client's id and secret are sent.
func readAuthStyle(r *jsonread.Reader) send.AuthStyle {
	switch s := r.Text(); s {
	case "auto":
		return send.AuthStyleAuto
	case string(send.AuthStyleHeader), string(send.AuthStyleBody):
		return send.AuthStyle(s)
	default:
		r.Fail(`must be "auto", "header" or "body" (got %q)`, jsonread.Excerpt(s))
		return ""
	}
}

// readTokenBody reads the body of a token request: a string, which is sent as it is, or an object, which is sent as JSON.
func readTokenBody(r *jsonread.Reader) (body Credential, isJSON bool) {
	if r.Peek() != '{' {
		text := readText(r, "body", maxCredential)
		if strings.ContainsFunc(text, func(c rune) bool { return unicode.IsControl(c) && !strings.ContainsRune("\t\r\n", c) }) {
			r.Fail("must not hold control characters but tabs and line breaks")
		}
		return Credential(text), false
	}
	raw := r.Raw()
	if len(raw) > maxCredential {
		r.Fail("body must have 1 to %d bytes (got %d)", maxCredential, len(raw))
	}
	if !ValidJSON(raw) { // it is sent as it is, to readers that may refuse it
		r.Fail("must not hold half of a surrogate pair, which is no character")
	}
	return Credential(raw), true
}

// checkCredentials refuses two ways to fill one header, of signature, too.
func (w *Webhook) checkCredentials() error {
	_, header := w.Headers["Authorization"]
	const detail = "only one of basic_auth, oauth2 and the header Authorization can be set"
	switch {
	case w.BasicAuth != nil && w.OAuth2 != nil, w.BasicAuth != nil && header:
		return InputErrors{{Field: "basic_auth", Detail: detail}}
	case w.OAuth2 != nil && header:
		return InputErrors{{Field: "oauth2", Detail: detail}}
	}
	return w.checkSignature()
}

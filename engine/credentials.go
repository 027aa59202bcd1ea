package engine

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"html"
	"log/slog"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"hookbolt/engine/jsonread"
)

// Limits of what a webhook sends along for its endpoint.
const (
	maxHeaders      = 32
	maxHeaderValue  = 4096 // bytes
	maxHeadersBytes = 16 << 10
	maxCredential   = 4096 // bytes of a user name, password, client id, client secret or token request
	maxScopes       = 64
)

// Credential is a piece of text that opens something at an endpoint. It is stored, sent to the endpoint, and shown to nobody.
type Credential string

// String keeps the credential out of text, LogValue out of logs.
func (c Credential) String() string { return "…" }

// LogValue is what a log shows.
func (c Credential) LogValue() slog.Value { return slog.StringValue(c.String()) }

// BasicAuth is a user name and a password, sent as RFC 7617 says.
type BasicAuth struct {
	Username Credential `json:"username"`
	Password Credential `json:"password"`
}

// String and LogValue keep both out of text and logs, as those of Credential cannot where a whole struct is printed.
func (b BasicAuth) String() string { return "…" }

// LogValue is what a log shows.
func (b BasicAuth) LogValue() slog.Value { return slog.StringValue(b.String()) }

// authorization is the value of the Authorization header.
func (b *BasicAuth) authorization() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(string(b.Username)+":"+string(b.Password)))
}

// OAuth2 is how to get an access token by the client credentials grant (RFC 6749, section 4.4): in the standard form, or with a
// body and headers of the caller's own. The token is sent as RFC 6750 says.
type OAuth2 struct {
	// TokenURL may hold a credential in its query, so it is none of what is shown.
	TokenURL     Credential   `json:"token_url"`
	ClientID     Credential   `json:"client_id,omitzero"`
	ClientSecret Credential   `json:"client_secret,omitzero"`
	Scopes       []Credential `json:"scopes,omitempty"`
	// Body is sent as it is, in place of the standard form; "" means the standard form. IsJSON tells what it was given as.
	Body   Credential `json:"body,omitzero"`
	IsJSON bool       `json:"is_json,omitzero"`
	// Headers are sent to the token endpoint.
	Headers map[string]Credential `json:"headers,omitempty"`
}

// String and LogValue are as those of BasicAuth.
func (o OAuth2) String() string { return "…" }

// LogValue is what a log shows.
func (o OAuth2) LogValue() slog.Value { return slog.StringValue(o.String()) }

// Setting returns the members of the setting oauth2 that makes o, as ParseWebhookPatch reads it, so that one of them can be changed. They
// hold credentials: nobody is to be shown them.
func (o *OAuth2) Setting() map[string]json.RawMessage {
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
var ownHeaderPrefixes = []string{"Webhook-", "Proxy-", "Sec-"}

// readHeaders reads headers: an object of names and values. mayContentType allows Content-Type among them.
func readHeaders(r *jsonread.Reader, mayContentType bool) map[string]Credential {
	headers := make(map[string]Credential)
	total := 0
	r.Object(func(key []byte) bool {
		name := textproto.CanonicalMIMEHeaderKey(string(key))
		_, twice := headers[name]
		switch isOurs := !(mayContentType && name == "Content-Type") && (slices.Contains(ownHeaders, name) ||
			slices.ContainsFunc(ownHeaderPrefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })); {
		case !isToken(name):
			r.Fail("a header's name must be letters, digits, - and the like, without spaces")
		case isOurs:
			r.Fail("this header is hookbolt's own and cannot be set")
		case twice:
			r.Fail("the header stands twice; its name is the same in any case")
		}
		value := readText(r, "a header's value", maxHeaderValue)
		if strings.TrimSpace(value) != value || strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
			r.Fail("a header's value must not begin or end with a space, nor hold line breaks or other control characters")
		}
		headers[name] = Credential(value)
		total += len(name) + len(value)
		return true
	})
	if len(headers) > maxHeaders || total > maxHeadersBytes {
		r.Fail("must have at most %d headers with %d bytes in all (got %d with %d)", maxHeaders, maxHeadersBytes, len(headers), total)
	}
	return headers
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

func readBasicAuth(r *jsonread.Reader) *BasicAuth {
	var b BasicAuth
	hasUser, hasPassword := false, false
	r.Object(func(key []byte) bool {
		switch string(key) {
		case "username":
			hasUser = true
			b.Username = Credential(r.Text())
			if strings.Contains(string(b.Username), ":") {
				r.Fail("must not hold a colon, which ends it (RFC 7617)")
			}
		case "password":
			hasPassword = true
			b.Password = Credential(r.Text())
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
	r.Object(func(key []byte) bool {
		switch string(key) {
		case "token_url":
			o.TokenURL = Credential(r.Text())
			if err := checkURL(string(o.TokenURL)); err != nil {
				r.Fail("%v", err)
			}
		case "client_id":
			o.ClientID = Credential(readText(r, "client_id", maxCredential))
		case "client_secret":
			o.ClientSecret = Credential(readText(r, "client_secret", maxCredential))
		case "scopes":
			r.Array(func(int) {
				scope := readText(r, "a scope", maxCredential)
				if strings.ContainsAny(scope, " \t\r\n") {
					r.Fail("a scope must not hold white space: each is a string of its own")
				}
				o.Scopes = append(o.Scopes, Credential(scope))
			})
			if len(o.Scopes) > maxScopes {
				r.Fail("must have at most %d scopes (got %d)", maxScopes, len(o.Scopes))
			}
		case "headers":
			o.Headers = readHeaders(r, true)
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
	case o.Body != "" && standard:
		r.FailAt("body", "takes the place of client_id, client_secret and scopes: give the one or the others")
	case o.Body == "" && o.ClientID == "":
		r.FailAt("client_id", "is required, with client_secret; or body in their place")
	case o.Body == "" && o.ClientSecret == "":
		r.FailAt("client_secret", "is required with client_id")
	}
	return &o
}

// readTokenBody reads the body of a token request: a string, which is sent as it is, or an object, which is sent as JSON.
func readTokenBody(r *jsonread.Reader) (body Credential, isJSON bool) {
	if r.Peek() != '{' {
		return Credential(readText(r, "body", maxCredential)), false
	}
	raw := r.Raw()
	if len(raw) > maxCredential {
		r.Fail("body must have 1 to %d bytes (got %d)", maxCredential, len(raw))
	}
	return Credential(raw), true
}

// checkCredentials refuses two ways to fill one header.
func (w *Webhook) checkCredentials() error {
	_, header := w.Headers["Authorization"]
	const detail = "only one of basic_auth, oauth2 and the header Authorization can be set"
	switch {
	case w.BasicAuth != nil && w.OAuth2 != nil, w.BasicAuth != nil && header:
		return InputErrors{{Field: "basic_auth", Detail: detail}}
	case w.OAuth2 != nil && header:
		return InputErrors{{Field: "oauth2", Detail: detail}}
	}
	return nil
}

// authorize sets a webhook's own headers on a request. authorization is what its OAuth token makes of that header, "" where there is none.
func (w *Webhook) authorize(h http.Header, authorization string) {
	for name, value := range w.Headers {
		h.Set(name, string(value))
	}
	switch {
	case w.BasicAuth != nil:
		h.Set("Authorization", w.BasicAuth.authorization())
	case authorization != "":
		h.Set("Authorization", authorization)
	}
}

// secrets returns what a webhook's attempts send that nobody may see, longest first. An endpoint that answers with what it was sent
// must not carry it into what is kept of its answers.
func (w *Webhook) secrets(authorization string) []string {
	if w.BasicAuth != nil {
		authorization = w.BasicAuth.authorization()
	}
	if authorization == "" && len(w.Headers) == 0 {
		return nil
	}
	list := []string{authorization}
	for _, value := range w.Headers {
		list = append(list, string(value))
	}
	for _, value := range list {
		if _, credentials, ok := strings.Cut(value, " "); ok { // of "Bearer …"
			list = append(list, credentials)
		}
	}
	if w.BasicAuth != nil {
		list = append(list, string(w.BasicAuth.Password), string(w.BasicAuth.Username))
	}
	for _, value := range list {
		list = append(list, spellings(value)...)
	}
	// What is too short is no secret, and would riddle the answers.
	list = slices.DeleteFunc(list, func(s string) bool { return len(s) < minRedacted })
	slices.SortFunc(list, func(a, b string) int { return cmp.Or(len(b)-len(a), cmp.Compare(a, b)) })
	return slices.Compact(list)
}

// spellings are other forms in which an endpoint may write what it was sent: in JSON, with slashes escaped or not, in a URL, in HTML.
func spellings(value string) []string {
	var inJSON bytes.Buffer
	enc := json.NewEncoder(&inJSON)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(value) // a string can always be written
	plain := strings.Trim(strings.TrimSuffix(inJSON.String(), "\n"), `"`)
	ascii := strings.Trim(strconv.QuoteToASCII(value), `"`)
	escaped, _ := json.Marshal(value)
	list := []string{plain, ascii, strings.Trim(string(escaped), `"`), url.QueryEscape(value), url.PathEscape(value), html.EscapeString(value)}
	for _, s := range list[:3] {
		list = append(list, strings.ReplaceAll(s, "/", `\/`))
	}
	return list
}

const (
	// minRedacted is the length from which on a credential is looked for in answers.
	minRedacted = 4
	redacted    = "[redacted]"
)

// redactName replaces a header's name that holds a secret, in whatever case: net/http has written the name its own way.
func redactName(name string, secrets []string) string {
	for _, s := range secrets {
		if strings.Contains(strings.ToLower(name), strings.ToLower(s)) {
			return redacted
		}
	}
	return name
}

// redact replaces what belongs to a secret in a text, also where secrets overlap, and the beginning of one at its end, where it may have
// been cut off.
func redact(text []byte, secrets []string) []byte {
	var ends []int // by where a secret begins, the end of the longest that does; 0 where none does
	cover := func(from, to int) {
		if ends == nil {
			ends = make([]int, len(text))
		}
		ends[from] = max(ends[from], to)
	}
	for _, s := range secrets {
		for from := 0; ; from++ {
			at := bytes.Index(text[from:], []byte(s))
			if at < 0 {
				break
			}
			from += at
			cover(from, from+len(s))
		}
		for n := min(len(s)-1, len(text)); n >= minRedacted; n-- {
			if bytes.HasSuffix(text, []byte(s[:n])) {
				cover(len(text)-n, len(text))
				break
			}
		}
	}
	if ends == nil {
		return text
	}
	var clean []byte
	covered := -1 // up to where
	for i, c := range text {
		if ends[i] > 0 {
			if i > covered {
				clean = append(clean, redacted...)
			}
			covered = max(covered, ends[i])
		}
		if i >= covered {
			clean = append(clean, c)
		}
	}
	return clean
}

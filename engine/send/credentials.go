package send

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Credential is a text that gives access to an endpoint. It is stored and sent to the endpoint; it is never shown or logged.
type Credential string

// String keeps the credential out of text, LogValue out of logs.
func (c Credential) String() string { return hidden }

// LogValue is what a log shows.
func (c Credential) LogValue() slog.Value { return slog.StringValue(c.String()) }

// hidden stands for a credential where it is not shown.
const hidden = "…"

// Header is the value of a header that an endpoint wants to see. It is never shown. Only if it is secret, it is kept out of what the
// endpoint answers.
type Header struct {
	Value Credential
	// Secret says whether the value is a credential; nil means that its name and its form say it.
	Secret *bool
}

// headerObject is the stored form of a Header whose Secret is set. Of any other it is the value alone.
type headerObject struct {
	Value  Credential `json:"value"`
	Secret bool       `json:"secret"`
}

// MarshalJSON returns the stored form, which is also how the setting is given.
func (h Header) MarshalJSON() ([]byte, error) {
	if h.Secret == nil {
		return json.Marshal(string(h.Value))
	}
	return json.Marshal(headerObject{h.Value, *h.Secret})
}

// UnmarshalJSON reads the stored form.
func (h *Header) UnmarshalJSON(text []byte) error {
	if bytes.HasPrefix(text, []byte("{")) {
		var o headerObject
		err := json.Unmarshal(text, &o)
		*h = Header{o.Value, &o.Secret}
		return err
	}
	*h = Header{}
	return json.Unmarshal(text, &h.Value)
}

// String and LogValue are as those of BasicAuth.
func (h Header) String() string { return hidden }

// LogValue is what a log shows.
func (h Header) LogValue() slog.Value { return slog.StringValue(h.String()) }

// secretNames are parts of the names of headers that hold credentials. In doubt a name is one: a text that is replaced too much is a lesser
// harm than a credential that is kept.
var secretNames = []string{"auth", "token", "key", "secret", "password", "passwd", "pwd", "passphrase", "signature", "hmac", "session", "cookie", "credential", "jwt", "bearer",
	"csrf", "xsrf", "otp", "access"}

// isSecret reports whether the value is a credential, under that name.
func (h Header) isSecret(name string) bool {
	if h.Secret != nil {
		return *h.Secret
	}
	name = strings.ToLower(name)
	return slices.ContainsFunc(secretNames, func(part string) bool { return strings.Contains(name, part) }) || looksRandom(string(h.Value))
}

// looksRandom reports whether a value has a run of letters and digits that nobody would write by hand. Some services have their keys in
// headers whose names do not tell.
func looksRandom(value string) bool {
	const shortest = 16
	isWord := func(r rune) bool { return r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r)) }
	for run := range strings.FieldsFuncSeq(value, func(r rune) bool { return !isWord(r) }) {
		if len(run) >= shortest && strings.ContainsFunc(run, unicode.IsLetter) && strings.ContainsFunc(run, unicode.IsDigit) {
			return true
		}
	}
	return false
}

// BasicAuth is a user name and a password, sent as RFC 7617 specifies.
type BasicAuth struct {
	Username Credential `json:"username"`
	Password Credential `json:"password"`
}

// String and LogValue hide both values. Those of Credential are not called where a whole struct is printed.
func (b BasicAuth) String() string { return hidden }

// LogValue is what a log shows.
func (b BasicAuth) LogValue() slog.Value { return slog.StringValue(b.String()) }

// authorization returns the value of the header Authorization.
func (b *BasicAuth) authorization() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(string(b.Username)+":"+string(b.Password)))
}

// OAuth2 is how to get an access token by the client credentials grant (RFC 6749, section 4.4): with the standard form, or with a body
// and headers of the caller's own. The token is sent as RFC 6750 specifies.
type OAuth2 struct {
	// TokenURL is the token endpoint. It is never shown: its query may hold a credential.
	TokenURL     Credential   `json:"token_url"`
	ClientID     Credential   `json:"client_id,omitzero"`
	ClientSecret Credential   `json:"client_secret,omitzero"`
	Scopes       []Credential `json:"scopes,omitempty"`
	// AuthStyle is how the client id and secret are sent.
	AuthStyle AuthStyle `json:"auth_style,omitzero"`
	// Body is sent as it is instead of the standard form; "" means the standard form. IsJSON says that it is JSON, and sent as such.
	Body   Credential `json:"body,omitzero"`
	IsJSON bool       `json:"is_json,omitzero"`
	// Headers are sent to the token endpoint.
	Headers map[string]Credential `json:"headers,omitempty"`
}

// String and LogValue are as those of BasicAuth.
func (o OAuth2) String() string { return hidden }

// LogValue is what a log shows.
func (o OAuth2) LogValue() slog.Value { return slog.StringValue(o.String()) }

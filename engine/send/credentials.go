package send

import (
	"encoding/base64"
	"log/slog"
)

// Credential is a text that gives access to an endpoint. It is stored and sent to the endpoint; it is never shown or logged.
type Credential string

// String keeps the credential out of text, LogValue out of logs.
func (c Credential) String() string { return hidden }

// LogValue is what a log shows.
func (c Credential) LogValue() slog.Value { return slog.StringValue(c.String()) }

// hidden stands for a credential where it is not shown.
const hidden = "…"

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

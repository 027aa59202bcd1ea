package send

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// tokenAnswer is what a token endpoint's response says. Of its text nothing is quoted but an error code and the name of a type: the rest
// may hold what the endpoint was sent.
type tokenAnswer struct {
	form        string // of the body: "" for JSON or a form, else what it is in their place
	accessToken string
	tokenType   string
	errorCode   string
	// lifetime is how long the token is valid; 0 if the answer does not say. Many send 0, -1 or nonsense for a token that does not expire.
	// If it does expire, the endpoint's 401 tells.
	lifetime time.Duration
}

// readTokenAnswer reads a body as RFC 6749 has it, which is JSON, whatever its content type, or as a form, as old endpoints send it.
func readTokenAnswer(body []byte) (a tokenAnswer) {
	body = bytes.TrimSpace(bytes.TrimPrefix(bytes.TrimSpace(body), []byte("\ufeff"))) // a byte order mark is no part of the text
	var members struct {
		AccessToken json.RawMessage `json:"access_token"`
		TokenType   json.RawMessage `json:"token_type"`
		ExpiresIn   json.RawMessage `json:"expires_in"`
		Error       json.RawMessage `json:"error"`
	}
	switch {
	case len(body) == 0:
		a.form = "nothing"
	case body[0] == '<':
		a.form = "HTML or XML"
	case body[0] == '{':
		if json.Unmarshal(body, &members) != nil {
			a.form = "broken JSON"
			return a
		}
		a.accessToken, a.errorCode = accessTokenOf(members.AccessToken), textOf(members.Error)
		a.tokenType, a.lifetime = textOf(members.TokenType), lifetime(textOf(members.ExpiresIn))
	default:
		form, err := url.ParseQuery(string(body))
		if err != nil || !form.Has("access_token") && !form.Has("error") {
			a.form = "other text"
			return a
		}
		a.accessToken, a.errorCode = form.Get("access_token"), form.Get("error")
		a.tokenType, a.lifetime = form.Get("token_type"), lifetime(form.Get("expires_in"))
	}
	return a
}

// textOf returns the text of a JSON string, of a number as it is written, and "" of null and of what is absent. Anything else is returned as
// it is: it is no type and no number.
func textOf(raw json.RawMessage) string {
	var s string
	if len(raw) == 0 || json.Unmarshal(raw, &s) == nil { // null leaves it empty
		return s
	}
	return string(raw)
}

// accessTokenOf is textOf for a token: what is neither a string nor a number is none.
func accessTokenOf(raw json.RawMessage) string {
	if len(raw) > 0 && raw[0] != '"' && raw[0] != '-' && (raw[0] < '0' || raw[0] > '9') {
		return ""
	}
	return textOf(raw)
}

// lifetime reads expires_in: seconds, also as a string or with a fraction.
func lifetime(text string) time.Duration {
	seconds, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil && !math.IsInf(seconds, 1) || !(seconds > 0) {
		return 0
	}
	const longest = 10 * 365 * 24 * 3600 // more is as good as for ever, and would overflow
	return time.Duration(min(seconds, longest) * float64(time.Second))
}

// token returns the access token. Some endpoints put the scheme of the header in front of it.
func (a *tokenAnswer) token() string {
	const scheme = "bearer "
	if len(a.accessToken) > len(scheme) && strings.EqualFold(a.accessToken[:len(scheme)], scheme) {
		return a.accessToken[len(scheme):]
	}
	return a.accessToken
}

// grantErrors are those of RFC 6749, section 5.2. Other text of a token endpoint is not quoted.
var grantErrors = []string{"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope"}

// trouble says why an answer gives no token that can be sent; "" if it gives one.
func (a *tokenAnswer) trouble(status int, o *OAuth2) string {
	answered := fmt.Sprintf("the token endpoint answered %d", status)
	switch {
	case slices.Contains(grantErrors, a.errorCode):
		return answered + ": " + a.errorCode
	case status/100 != 2:
		return answered
	case a.errorCode != "":
		return answered + " with an error that is none of RFC 6749"
	case a.form != "":
		return answered + " with " + a.form + " in place of JSON"
	case a.accessToken == "":
		return answered + " without an access_token"
	case !isBearer(a.tokenType):
		return answered + " with a token of " + o.typeName(a.tokenType) + "; hookbolt sends Bearer tokens"
	case strings.ContainsFunc(a.accessToken, func(c rune) bool { return c < ' ' || c > '~' }):
		return answered + " with a token that is not valid in a header" // cached, it would fail every attempt
	}
	return ""
}

// bearerTypes are what endpoints call the type Bearer, in lower case and without what stands between words.
var bearerTypes = []string{"", "bearer", "bearertoken", "accesstoken", "oauthbearer", "oauth2bearer", "jwt", "jwtbearer"}

// isBearer tells whether a token_type means a Bearer token. Case does not count (RFC 6749, section 5.1), and the type is required, but many
// endpoints leave it out, or give it another name; RFC 8693 has URNs for types of tokens.
func isBearer(tokenType string) bool {
	name := strings.TrimPrefix(strings.ToLower(strings.TrimSpace(tokenType)), "urn:ietf:params:oauth:token-type:")
	return slices.Contains(bearerTypes, strings.NewReplacer(" ", "", "_", "", "-", "").Replace(name))
}

// typeName names a token_type, unless it is no name, or could be a part of what the token endpoint was sent.
func (o *OAuth2) typeName(tokenType string) string {
	const longest = 40
	name := strings.TrimSpace(tokenType)
	odd := func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-._:/+", r)
	}
	if name == "" || len(name) > longest || strings.ContainsFunc(name, odd) {
		return "an unknown type"
	}
	sent := []Credential{o.TokenURL, o.ClientID, o.ClientSecret, o.Body}
	for _, value := range o.Headers {
		sent = append(sent, value)
	}
	for _, value := range append(sent, o.Scopes...) {
		if value != "" && (strings.Contains(string(value), name) && len(name) >= minRedacted || strings.Contains(name, string(value)) && len(value) >= minRedacted) {
			return "an unknown type"
		}
	}
	return fmt.Sprintf("type %q", name)
}

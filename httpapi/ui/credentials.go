package ui

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"hookbolt/engine"
	"hookbolt/httpapi/jsonobject"
)

// headerInputs are one for each header that is set, and one for more of them.
func headerInputs(w *engine.Webhook) (inputs []input) {
	for _, name := range slices.Sorted(maps.Keys(w.Headers)) {
		inputs = append(inputs,
			input{Name: "headers." + name, Label: name, Kind: secretInput, Hidden: true, Set: true},
			input{Name: removal("headers." + name), Label: "Remove " + name, Kind: checkInput})
	}
	return append(inputs, input{Name: "headers", Label: "More headers", Unit: "one on a line", Kind: areaInput, Hidden: true,
		Help: "Each as “Name: value”, such as “X-Api-Key: 12345”. The values of headers that are named like credentials are removed from what endpoints answer."})
}

func basicInputs(w *engine.Webhook) []input {
	set := w.BasicAuth != nil
	return removable(set, "basic_auth", []input{
		{Name: "basic_auth.username", Label: "User name", Kind: textInput, Hidden: true, Set: set},
		{Name: "basic_auth.password", Label: "Password", Kind: secretInput, Hidden: true, Set: set},
	})
}

func oauthInputs(w *engine.Webhook) []input {
	o := w.OAuth2
	set := o != nil
	if !set {
		o = &engine.OAuth2{}
	}
	return removable(set, "oauth2", []input{
		{Name: "oauth2.token_url", Label: "Token URL", Kind: urlInput, Hidden: true, Set: set, Help: "Where to get a token, by http or https."},
		{Name: "oauth2.client_id", Label: "Client id", Kind: textInput, Hidden: true, Set: o.ClientID != ""},
		{Name: "oauth2.client_secret", Label: "Client secret", Kind: secretInput, Hidden: true, Set: o.ClientSecret != ""},
		{Name: "oauth2.scopes", Label: "Scopes", Unit: "with spaces between", Kind: textInput, Hidden: true, Set: len(o.Scopes) > 0},
		{Name: "oauth2.auth_style", Label: "Client authentication", Kind: textInput, Value: string(o.AuthStyle), Placeholder: "auto",
			Help: "How client id and secret are sent: “header”, “body”, or “auto”, which tries the header first."},
		{Name: "oauth2.body", Label: "Token request", Kind: areaInput, Hidden: true, Set: o.Body != "",
			Help: "In place of client id, client secret and scopes, for servers that want something else: sent as it is, as JSON if it is a JSON object, else as a form."},
		{Name: "oauth2.headers", Label: "Headers of the token request", Unit: "one on a line", Kind: areaInput, Hidden: true, Set: len(o.Headers) > 0,
			Help: "Each as “Name: value”. What you type takes the place of all that are set."},
	})
}

// tlsInputs are one for each member. What is PEM is not shown again, what names files is.
func tlsInputs(w *engine.Webhook) []input {
	set, t := w.TLS != nil, w.TLS
	if !set {
		t = &engine.TLS{}
	}
	return removable(set, "tls", []input{
		{Name: "tls.ca", Label: "Trusted certificates", Unit: "PEM", Kind: areaInput, Hidden: true, Set: t.CA != "", Placeholder: "-----BEGIN CERTIFICATE-----",
			Help: "Of the authority, or the endpoint's own self-signed one. They take the place of the public authorities for this webhook."},
		{Name: "tls.cert", Label: "Client certificate", Unit: "PEM", Kind: areaInput, Hidden: true, Set: t.Cert != "", Placeholder: "-----BEGIN CERTIFICATE-----",
			Help: "Yours, for an endpoint that asks who you are; its intermediates after it."},
		{Name: "tls.key", Label: "Private key", Unit: "PEM", Kind: areaInput, Hidden: true, Set: t.Key != "", Placeholder: "-----BEGIN PRIVATE KEY-----",
			Help: "Of the client certificate, without a passphrase. It is stored and shown to nobody."},
		{Name: "tls.server_name", Label: "Server name", Kind: textInput, Value: t.ServerName,
			Help: "The name that the endpoint's certificate must have. Empty: the URL's host."},
		{Name: "tls.min_version", Label: "Lowest version", Kind: textInput, Value: t.MinVersion, Help: "“1.2” or “1.3”. Empty: 1.2."},
		{Name: "tls.ca_file", Label: "File of trusted certificates", Kind: textInput, Value: t.CAFile,
			Help: "In place of the text: the name of a file within the server's delivery.tls_dir, which is read again as it changes."},
		{Name: "tls.cert_file", Label: "File of the client certificate", Kind: textInput, Value: t.CertFile, Help: "As above."},
		{Name: "tls.key_file", Label: "File of the private key", Kind: textInput, Value: t.KeyFile, Help: "As above."},
	})
}

// tls is like headers. What was not typed of the PEM texts stays, but what a file takes the place of, and what is for another host.
func (f *webhookForm) tls() (settings any, changed bool) {
	present, removed := f.present.TLS, f.values.Has(removal("tls"))
	if present == nil || removed {
		present = &engine.TLS{}
	}
	var after engine.TLS
	for _, m := range []struct {
		name       string
		text, kept string
		at         *string
	}{
		{"ca", "tls.ca", present.CA, &after.CA}, {"cert", "tls.cert", present.Cert, &after.Cert}, {"key", "tls.key", string(present.Key), (*string)(&after.Key)},
	} {
		*m.at = strings.ReplaceAll(f.values.Get(m.text), "\r\n", "\n")
		isFile := f.trimmed("tls."+m.name+"_file") != ""
		if strings.TrimSpace(*m.at) == "" {
			*m.at = ""
			if !isFile && !(f.moved && m.name != "ca") {
				*m.at = m.kept
			}
		}
	}
	after.CAFile, after.CertFile, after.KeyFile = f.trimmed("tls.ca_file"), f.trimmed("tls.cert_file"), f.trimmed("tls.key_file")
	after.ServerName, after.MinVersion = f.trimmed("tls.server_name"), f.trimmed("tls.min_version")
	if removed { // what is still shown of it was not typed
		after = f.typedTLS(after)
	}
	switch {
	case f.present.TLS == nil && after == engine.TLS{}, f.present.TLS != nil && after == *f.present.TLS && !f.moved:
		return nil, false
	case after == engine.TLS{}:
		return nil, true
	}
	return jsonObject(after), true
}

// typedTLS returns what was typed anew of TLS settings, whose old ones are to be removed.
func (f *webhookForm) typedTLS(after engine.TLS) engine.TLS {
	old := f.present.TLS
	if old == nil {
		return after
	}
	for _, m := range []struct{ now, before *string }{
		{&after.CAFile, &old.CAFile}, {&after.CertFile, &old.CertFile}, {&after.KeyFile, &old.KeyFile}, {&after.ServerName, &old.ServerName}, {&after.MinVersion, &old.MinVersion},
	} {
		if *m.now == *m.before {
			*m.now = ""
		}
	}
	return after
}

// jsonObject returns what is stored as the API has it.
func jsonObject(stored any) json.RawMessage {
	text, err := json.Marshal(stored)
	if err != nil {
		panic(err) // cannot be: strings
	}
	return text
}

// tlsText says what is set of TLS.
func tlsText(w *engine.Webhook) string {
	t := w.TLS
	if t == nil {
		return ""
	}
	var parts []string
	say := func(is bool, words string) {
		if is {
			parts = append(parts, words)
		}
	}
	say(t.CA != "", "trusted certificates of its own")
	say(t.CAFile != "", "trusted certificates in "+t.CAFile)
	say(t.Cert != "", "a client certificate")
	say(t.CertFile != "", "a client certificate in "+t.CertFile)
	say(t.ServerName != "", "the name "+t.ServerName)
	say(t.MinVersion != "", "TLS "+t.MinVersion+" or later")
	return strings.Join(parts, ", ")
}

// signatureInputs are those for what signs beside the signature v1.
func signatureInputs(w *engine.Webhook) []input {
	s := w.Signature
	if s == nil {
		s = &engine.Signature{}
	}
	inputs := []input{
		{Name: "signature.header", Label: "Header for the HMAC of the body", Kind: textInput, Value: s.Header, Placeholder: "X-Hub-Signature-256",
			Help: "For endpoints that verify signatures as GitHub, Shopify or Typeform make them. Empty: none."},
		{Name: "signature.prefix", Label: "What stands before the HMAC", Kind: textInput, Value: s.Prefix, Placeholder: "sha256=", Help: "Empty: nothing."},
		{Name: "signature.encoding", Label: "Encoding of the HMAC", Kind: textInput, Value: string(s.Encoding), Placeholder: "hex", Help: "“hex” or “base64”. Empty: hex."},
		{Name: "signature.secret", Label: "Secret of the header", Kind: secretInput, Hidden: true, Set: s.Secret != "",
			Help: "Any text that the endpoint has, too. Empty: the whole text of the signing secret."},
	}
	if s.Secret != "" {
		inputs = append(inputs, input{Name: removal("signature.secret"), Label: "Use the signing secret for it", Kind: checkInput})
	}
	return append(inputs,
		input{Name: "signature.v1a", Label: "Also sign with a key pair (v1a)", Kind: checkInput, Checked: s.Key != "",
			Help: "Endpoints verify it with a public key, and cannot sign. hookbolt makes the key pair; the page of the secret shows the public key."},
		input{Name: "signature.secret_key", Label: "Own secret key", Kind: secretInput, Hidden: true, Set: s.Key != "",
			Help: "Give one only if its public key is known already: whsk_ and the base64 of 64 or 32 bytes. Empty: hookbolt makes one, or keeps the one that it has."})
}

// secretInputs let the caller give the secret of a new webhook. That of one that exists has a page of its own.
func secretInputs(w *engine.Webhook) []input {
	if w.ID != 0 {
		return nil
	}
	return []input{{Name: "secret", Label: "Own secret", Kind: secretInput, Hidden: true,
		Help: "Signs what is sent. Give one only if the endpoint has it already: whsec_ and the base64 of 24 to 64 bytes. Empty: hookbolt makes one, and shows it to you next."}}
}

// removable adds what removes a setting, if it is set.
func removable(set bool, name string, inputs []input) []input {
	if set {
		inputs = append(inputs, input{Name: removal(name), Label: "Remove what is set", Kind: checkInput, Help: "What you type above then stands alone."})
	}
	return inputs
}

// removal is the name of the input that removes a setting.
func removal(name string) string { return "remove." + name }

// headerLines reads headers, one on a line. They stay in their order.
func (f *webhookForm) headerLines(name string) (o jsonobject.Object) {
	for line := range strings.Lines(f.values.Get(name)) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		header, value, ok := strings.Cut(line, ":")
		if header = strings.TrimSpace(header); !ok || strings.ContainsAny(header, " \t") { // the line may be a credential: it is not repeated
			f.fail(name, "must have a name, without spaces, and a colon on each line, as in “X-Api-Key: 12345”")
			continue
		}
		o.Add(header, strings.TrimSpace(value))
	}
	return o
}

// headers are those that the webhook has, but for what was removed or got another value, and the new ones. changed tells whether that
// is something else than what it has.
func (f *webhookForm) headers() (headers any, changed bool) {
	added := f.headerLines("headers")
	changed = len(added) > 0
	var o jsonobject.Object
	for _, name := range slices.Sorted(maps.Keys(f.present.Headers)) {
		typed, removed := f.values.Get("headers."+name), f.values.Has(removal("headers."+name))
		again := slices.ContainsFunc(added, func(m jsonobject.Member) bool { return strings.EqualFold(m.Name, name) })
		switch {
		case again: // its new value comes with the others
		case typed != "":
			o.Add(name, engine.Header{Value: engine.Credential(typed), Secret: f.present.Headers[name].Secret})
			changed = true
		case removed:
			changed = true
		case !f.moved:
			o.Add(name, f.present.Headers[name])
		}
	}
	return append(o, added...), changed
}

// basicAuth is like headers. Of the two parts, what was not typed stays.
func (f *webhookForm) basicAuth() (basic any, changed bool) {
	username, password := f.values.Get("basic_auth.username"), f.values.Get("basic_auth.password")
	present, removed := f.present.BasicAuth, f.values.Has(removal("basic_auth"))
	if removed {
		present = nil
	}
	if username == "" && password == "" {
		return nil, removed
	}
	if present != nil && f.moved {
		f.again("basic_auth.username", true)
		f.again("basic_auth.password", present.Password != "")
	}
	var o jsonobject.Object
	switch {
	case username != "":
		o.Add("username", username)
	case present != nil:
		o.Add("username", present.Username)
	}
	if password == "" && present != nil {
		o.Add("password", present.Password)
	} else {
		o.Add("password", password)
	}
	return o, true
}

// oauth2 is like headers. Of the parts, what was not typed stays, but what a typed one takes the place of does not.
func (f *webhookForm) oauth2() (oauth any, changed bool) {
	present, removed := f.present.OAuth2, f.values.Has(removal("oauth2"))
	if present == nil || removed {
		present = &engine.OAuth2{}
	}
	body, headers := strings.ReplaceAll(f.values.Get("oauth2.body"), "\r\n", "\n"), f.headerLines("oauth2.headers")
	var typed jsonobject.Object
	for _, name := range []string{"token_url", "client_id", "client_secret"} {
		if value := f.values.Get("oauth2." + name); value != "" {
			typed.Add(name, value)
		}
	}
	if scopes := strings.Fields(f.values.Get("oauth2.scopes")); len(scopes) > 0 {
		typed.Add("scopes", scopes)
	}
	switch trimmed := strings.TrimSpace(body); {
	case trimmed == "":
	case !strings.HasPrefix(trimmed, "{"):
		typed.Add("body", body)
	case engine.ValidJSON([]byte(trimmed)):
		typed.Add("body", json.RawMessage(trimmed))
	default:
		f.fail("oauth2.body", "begins as a JSON object and is none: a brace, a quote or a comma is missing or too many")
		return nil, false
	}
	if len(headers) > 0 {
		typed.Add("headers", headers)
	}
	if style := f.authStyle(len(typed) > 0 && removed && body == ""); style != "" {
		typed.Add("auth_style", style)
	}
	if len(typed) == 0 {
		return nil, removed
	}
	if url := f.values.Get("oauth2.token_url"); present.TokenURL != "" && (f.moved || url != "" && !engine.SameHost(string(present.TokenURL), url)) {
		f.again("oauth2.token_url", true)
		f.again("oauth2.client_id", body == "" && present.ClientID != "")
		f.again("oauth2.client_secret", body == "" && present.ClientSecret != "")
		f.again("oauth2.body", present.Body != "" && f.values.Get("oauth2.client_id") == "")
		f.again("oauth2.headers", len(present.Headers) > 0)
	}
	return append(typed, keptOAuth2(present, typed)...), true
}

// authStyle returns what was chosen for oauth2.auth_style, "" if that is what was shown. anew asks for it in any case: the rest is set anew.
func (f *webhookForm) authStyle(anew bool) string {
	shown := "auto"
	if o := f.present.OAuth2; o != nil {
		shown = cmp.Or(string(o.AuthStyle), shown)
	}
	style := cmp.Or(f.trimmed("oauth2.auth_style"), "auto")
	if !f.values.Has("oauth2.auth_style") || style == shown && !anew {
		return ""
	}
	return style
}

// again refuses an input that is empty although its part of a setting is set: what is set is for another host, and is not sent to this one.
func (f *webhookForm) again(name string, isSet bool) {
	if isSet && f.values.Get(name) == "" {
		f.fail(name, "must be typed again, since it was for another host; or remove what is set")
	}
}

// keptOAuth2 is what stays beside what was typed.
func keptOAuth2(present *engine.OAuth2, typed jsonobject.Object) (kept jsonobject.Object) {
	has := func(names ...string) bool {
		return slices.ContainsFunc(typed, func(m jsonobject.Member) bool { return slices.Contains(names, m.Name) })
	}
	keep := func(name string, isSet bool, value any) {
		if isSet && !has(name) {
			kept.Add(name, value)
		}
	}
	keep("token_url", present.TokenURL != "", present.TokenURL)
	keep("headers", len(present.Headers) > 0, present.Headers)
	if !has("body") {
		keep("client_id", present.ClientID != "", present.ClientID)
		keep("client_secret", present.ClientSecret != "", present.ClientSecret)
		keep("auth_style", present.AuthStyle != "", present.AuthStyle)
		keep("scopes", len(present.Scopes) > 0, present.Scopes)
	}
	if !has("client_id", "client_secret", "scopes") {
		var body any = present.Body
		if present.IsJSON {
			body = json.RawMessage(present.Body)
		}
		keep("body", present.Body != "", body)
	}
	return kept
}

// signature is like headers. Of its secrets, what was not typed stays. It is sent with all other settings, as what is not secret of it is
// in the form.
func (f *webhookForm) signature() (signature any, changed bool) {
	if !f.values.Has("signature.header") {
		return nil, false
	}
	present := f.present.Signature
	if present == nil {
		present = &engine.Signature{}
	}
	var o jsonobject.Object
	header := f.trimmed("signature.header")
	if header != "" {
		o.Add("header", header)
	}
	if header != "" || present.Header == "" { // a header that is emptied takes along what belongs to it
		if prefix := strings.TrimLeft(f.values.Get("signature.prefix"), " "); prefix != "" {
			o.Add("prefix", prefix)
		}
		if encoding := f.trimmed("signature.encoding"); encoding != "" {
			o.Add("encoding", encoding)
		}
		if secret := f.values.Get("signature.secret"); secret != "" {
			o.Add("secret", secret)
		} else if present.Secret != "" && !f.values.Has(removal("signature.secret")) {
			o.Add("secret", present.Secret)
		}
	}
	if f.values.Has("signature.v1a") {
		o.Add("v1a", true)
	}
	if key := f.trimmed("signature.secret_key"); key != "" {
		o.Add("secret_key", key)
	}
	if len(o) == 0 {
		return nil, true
	}
	return o, true
}

// secret is that of a new webhook, if one was typed.
func (f *webhookForm) secret() (secret any, changed bool) {
	text := f.trimmed("secret")
	return text, text != "" && f.ID == 0
}

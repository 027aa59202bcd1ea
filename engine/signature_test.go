package engine

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"hookbolt/engine/send"
)

// The key pair of Svix's test vector, whole and as a seed.
const (
	vectorKey  = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
	vectorSeed = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc="
)

// signedWebhook is a webhook with all that can sign, and an overlap of each.
func signedWebhook(now time.Time) Webhook {
	w := changedWebhook()
	w.Signature = &Signature{
		Header: "X-Signature", Prefix: "p=", Encoding: send.EncodingBase64, Secret: "own", PreviousSecrets: []Previous[Credential]{{"before", now.Add(time.Hour)}},
		Key: vectorKey, PreviousKeys: []Previous[SigningKey]{{send.NewSigningKey(), now.Add(2 * time.Hour)}},
	}
	return w
}

// TestSignatureSetting replaces the setting, or merges members of it.
func TestSignatureSetting(t *testing.T) {
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	const kept, none, made = "kept", "none", "made"
	for _, tt := range []struct {
		name        string
		merge       bool
		change      string
		want        string // what answers show
		secret, key string // what has become of them: kept with its overlap, none, made or the new one
		fromNoneToo bool   // the change leads to the same answer from a webhook without a signature
	}{
		{"nothing", true, `{}`, `{"header":"X-Signature","prefix":"p=","encoding":"base64","secret":true,"v1a":true}`, kept, kept, false},
		{"a prefix", true, `{"prefix":"sha256="}`, `{"header":"X-Signature","prefix":"sha256=","encoding":"base64","secret":true,"v1a":true}`, kept, kept, false},
		{"another header, no prefix", true, `{"header":"x-hub-signature-256","prefix":null,"encoding":null}`,
			`{"header":"X-Hub-Signature-256","prefix":"","encoding":"hex","secret":true,"v1a":true}`, kept, kept, false},
		{"no header", true, `{"header":null}`, `{"header":null,"prefix":null,"encoding":null,"secret":null,"v1a":true}`, none, kept, false},
		{"no key pair", true, `{"v1a":false}`, `{"header":"X-Signature","prefix":"p=","encoding":"base64","secret":true,"v1a":false}`, kept, none, false},
		{"no key pair, with null", true, `{"v1a":null}`, `{"header":"X-Signature","prefix":"p=","encoding":"base64","secret":true,"v1a":false}`, kept, none, false},
		{"neither", true, `{"v1a":false,"header":null}`, `null`, none, none, true},
		{"no secret of its own", true, `{"secret":null}`, `{"header":"X-Signature","prefix":"p=","encoding":"base64","secret":null,"v1a":true}`, none, kept, false},
		{"another secret", true, `{"secret":"another"}`, `{"header":"X-Signature","prefix":"p=","encoding":"base64","secret":true,"v1a":true}`, "another", kept, false},
		{"another key pair", true, `{"secret_key":"` + vectorSeed + `"}`, `{"header":"X-Signature","prefix":"p=","encoding":"base64","secret":true,"v1a":true}`, kept, kept, false},
		{"a made key pair", true, `{"secret_key":null}`, `{"header":"X-Signature","prefix":"p=","encoding":"base64","secret":true,"v1a":true}`, kept, made, false},

		{"as a whole: a key pair", false, `{"v1a":true}`, `{"header":null,"prefix":null,"encoding":null,"secret":null,"v1a":true}`, none, kept, true},
		{"as a whole: null for its key", false, `{"v1a":true,"secret_key":null}`, `{"header":null,"prefix":null,"encoding":null,"secret":null,"v1a":true}`, none, made, true},
		{"as a whole: a given key pair", false, `{"secret_key":"` + vectorKey + `"}`, `{"header":null,"prefix":null,"encoding":null,"secret":null,"v1a":true}`, none, kept, true},
		{"as a whole: a header", false, `{"header":"X-A"}`, `{"header":"X-A","prefix":"","encoding":"hex","secret":null,"v1a":false}`, none, none, true},
		{"as a whole: nulls", false, `{"header":null,"prefix":null,"encoding":null,"secret":null,"v1a":null,"secret_key":null}`, `null`, none, none, true},
		{"as a whole: the same secret", false, `{"header":"X-A","secret":"own"}`, `{"header":"X-A","prefix":"","encoding":"hex","secret":true,"v1a":false}`, kept, none, false},
		{"as a whole: null", false, `null`, `null`, none, none, true},
	} {
		parse := ParseWebhookPatch
		if tt.merge {
			parse = ParseMergePatch
		}
		patch, err := parse([]byte(`{"signature":` + tt.change + `}`))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		before := signedWebhook(now)
		stored, was := jsonText(t, &before), *before.Signature
		w := before
		if _, err := patch.applyTo(&w); err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if got := string(SettingNamed("signature").JSON(&w)); got != tt.want {
			t.Errorf("%s: shown as %s, want %s", tt.name, got, tt.want)
		}
		after := Signature{}
		if w.Signature != nil {
			after = *w.Signature
		}
		checkSecret(t, tt.name+": the secret", tt.secret, after.Secret, was.Secret, after.PreviousSecrets, was.PreviousSecrets)
		checkSecret(t, tt.name+": the key pair", tt.key, after.Key, was.Key, after.PreviousKeys, was.PreviousKeys)
		if jsonText(t, &before) != stored {
			t.Errorf("%s: the webhook that was read has changed", tt.name)
		}
		if tt.fromNoneToo {
			w = changedWebhook()
			if _, err := patch.applyTo(&w); err != nil || string(SettingNamed("signature").JSON(&w)) != tt.want {
				t.Errorf("%s, from none: %s, %v", tt.name, SettingNamed("signature").JSON(&w), err)
			}
		}
	}
}

// checkSecret compares a secret after a change, and those before it, with what is wanted of it.
func checkSecret[T ~string](t *testing.T, what, want string, got, was T, previous, before []Previous[T]) {
	t.Helper()
	fits := false
	switch want {
	case "kept":
		fits = got == was && reflect.DeepEqual(previous, before)
	case "none":
		fits = got == "" && len(previous) == 0
	case "made":
		fits = got != "" && got != was && len(previous) == 0
	default:
		fits = string(got) == want && len(previous) == 0
	}
	if !fits {
		t.Errorf("%s is not %s: %q, %v", what, want, string(got), previous)
	}
}

func jsonText(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestSignatureSettingRefuses: what was meant for another member, or is no header, is refused with what to do, and not repeated.
func TestSignatureSettingRefuses(t *testing.T) {
	for _, tt := range []struct{ settings, field, detail string }{
		{`"signature":"X-Signature"`, "signature", "must be an object"},
		{`"signature":{"name":"X-A"}`, "signature.name", "unknown field"},
		{`"signature":{"header":"X A"}`, "signature.header", "letters, digits, -"},
		{`"signature":{"header":""}`, "signature.header", "letters, digits, -"},
		{`"signature":{"header":"webhook-signature"}`, "signature.header", "hookbolt's own"},
		{`"signature":{"header":"content-type"}`, "signature.header", "hookbolt's own"},
		{`"signature":{"header":"Hookbolt-Sig"}`, "signature.header", "hookbolt's own"},
		{`"signature":{"header":"` + strings.Repeat("a", 257) + `"}`, "signature.header", "at most 256"},
		{`"signature":{"prefix":"sha256="}`, "signature.header", "is required with prefix"},
		{`"signature":{"encoding":"hex"}`, "signature.header", "is required with encoding"},
		{`"signature":{"secret":"sekret","v1a":true}`, "signature.header", "is required with secret"},
		{`"signature":{"header":"X-A","encoding":"HEX"}`, "signature.encoding", `must be "hex" or "base64"`},
		{`"signature":{"header":"X-A","encoding":"base64url"}`, "signature.encoding", `must be "hex" or "base64"`},
		{`"signature":{"header":"X-A","prefix":" x"}`, "signature.prefix", "must not begin with a space"},
		{`"signature":{"header":"X-A","prefix":"ü"}`, "signature.prefix", "ASCII"},
		{`"signature":{"header":"X-A","prefix":"a\r\nB: c"}`, "signature.prefix", "ASCII"},
		{`"signature":{"header":"X-A","prefix":"` + strings.Repeat("a", 65) + `"}`, "signature.prefix", "at most 64"},
		{`"signature":{"header":"X-A","secret":""}`, "signature.secret", "1 to 4096 bytes"},
		{`"signature":{"header":"X-A","secret":"sekret\n"}`, "signature.secret", "control characters"},
		{`"signature":{"header":"X-A","secret":"whsk_sekret"}`, "signature.secret", "the secret key (whsk_) of a key pair"},
		{`"signature":{"header":"X-A","secret":"whpk_sekret"}`, "signature.secret", "a public key (whpk_)"},
		{`"signature":{"v1a":"yes"}`, "signature.v1a", "must be true or false"},
		{`"signature":{"v1a":false,"secret_key":"` + vectorKey + `"}`, "signature.v1a", "must be true, or left out"},
		{`"signature":{"secret_key":"whsec_sekret"}`, "signature.secret_key", "a secret (whsec_) of signatures v1"},
		{`"signature":{"secret_key":"sekret"}`, "signature.secret_key", "whsk_ in front of it is missing"},
		{`"signature":{"secret_key":"whpk_sekret"}`, "signature.secret_key", "a public key (whpk_)"},
		{`"secret":"whsk_sekret"`, "secret", "the secret key (whsk_) of a key pair"},
		{`"secret":"whpk_sekret"`, "secret", "a public key (whpk_)"},
		{`"headers":{"x-sig":"sekret"},"signature":{"header":"X-Sig"}`, "signature.header", "headers sets this header already"},
		{`"basic_auth":{"username":"u","password":"sekret"},"signature":{"header":"authorization"}`, "signature.header", "basic_auth or oauth2 sets this header"},
	} {
		patch, err := ParseWebhookPatch([]byte(`{"url":"https://a.example/",` + tt.settings + `}`))
		if err == nil {
			_, err = NewWebhook(patch)
		}
		bad, ok := err.(InputErrors)
		if !ok || len(bad) != 1 || bad[0].Field != tt.field || !strings.Contains(bad[0].Detail, tt.detail) || strings.Contains(err.Error(), "sekret") {
			t.Errorf("%.80s: got %v, want %s: …%s…", tt.settings, err, tt.field, tt.detail)
		}
	}
}

// TestSignatureOfAMove: the secrets that sign stay with a webhook that moves to another host, and one of them can be changed in the same call.
func TestSignatureOfAMove(t *testing.T) {
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	for _, change := range []string{`{"url":"https://b.example/"}`, `{"url":"https://b.example/","signature":{"prefix":"new="}}`} {
		w := signedWebhook(now)
		patch, err := ParseMergePatch([]byte(change))
		if err != nil {
			t.Fatal(err)
		}
		if dropped, err := patch.applyTo(&w); err != nil || len(dropped) > 0 || w.Signature.Secret != "own" || w.Signature.Key != vectorKey || len(w.Signature.PreviousKeys) != 1 {
			t.Errorf("%s: dropped %v, left %s, %v", change, dropped, jsonText(t, w.Signature), err)
		}
	}
}

// TestRotateSignature rotates each kind of secret, and all. The letters of want are the generations that sign, newest first: of the webhook's
// secret, of the header's in the order of attempts, of the key pair.
func TestRotateSignature(t *testing.T) {
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	names, generations := make(map[string]string), make(map[string]int) // what secrets are called, and how many of a kind there were
	called := func(kind, secret string) string {
		if names[kind+secret] == "" {
			generations[kind]++
			names[kind+secret] = string(rune('a' + generations[kind] - 1))
		}
		return names[kind+secret]
	}
	w := Webhook{Secret: send.NewSecret(), Signature: &Signature{Header: "X-Sig", Encoding: send.EncodingHex, Secret: "text", Key: send.NewSigningKey()}}
	state := func() string {
		var b strings.Builder
		for _, s := range w.signingSecrets(now) {
			b.WriteString(called("1", string(s)))
		}
		b.WriteByte(' ')
		for attempts := range 4 {
			b.WriteString(called("2", string(w.bodySignature(now, attempts).Key)))
		}
		b.WriteByte(' ')
		for _, k := range w.signingKeys(now) {
			b.WriteString(called("3", string(k)))
		}
		if len(w.PublicKeys(now)) != len(w.signingKeys(now)) || w.PublicKeys(now)[0].PublicKey != w.Signature.Key.Public() {
			t.Errorf("the public keys are %v", w.PublicKeys(now))
		}
		return b.String()
	}
	if got := state(); got != "a aaaa a" {
		t.Fatalf("at first %s sign", got)
	}
	for _, step := range []struct{ rotation, want string }{
		{`{"which":"signature.secret","overlap":"1h"}`, "a baba a"},
		{`{"which":"signature.secret_key","overlap":"3h"}`, "a baba ba"},
		{`{"which":"secret","overlap":"1h"}`, "ba baba ba"},
		{`{"which":"all","overlap":"2h"}`, "cba cbac cba"},
		{`{"which":"signature.secret","secret":"text","overlap":"2h"}`, "cba acba cba"}, // back to the first
		{`{"which":"all","overlap":"0s"}`, "dba dcbd dba"},                              // the present ones stop at once, earlier ones do not
	} {
		r, err := ParseRotation([]byte(step.rotation))
		if err != nil {
			t.Fatal(err)
		}
		r = r.made()
		if err := r.check(&w, false); err != nil {
			t.Fatalf("%s: %v", step.rotation, err)
		}
		before := w
		stored := jsonText(t, &before)
		r.apply(&w, now)
		if jsonText(t, &before) != stored {
			t.Errorf("%s has changed the webhook that was there before", step.rotation)
		}
		if got := state(); got != step.want {
			t.Errorf("%s: %s sign, want %s", step.rotation, got, step.want)
		}
	}
}

// TestHeaderWithTheWebhooksSecret: without a secret of its own, the header is made with the text of the webhook's secret, not with what it
// decodes to, and goes along with its rotation.
func TestHeaderWithTheWebhooksSecret(t *testing.T) {
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	w := Webhook{Secret: vectorSecret, Signature: &Signature{Header: "X-Sig", Encoding: send.EncodingHex}}
	if got := w.bodySignature(now, 0).Key; got != Credential(vectorSecret) || w.BodySecret() != got {
		t.Errorf("the key is %q", string(got))
	}
	r := Rotation{Overlap: time.Hour}.made()
	r.apply(&w, now)
	first, second := w.bodySignature(now, 0).Key, w.bodySignature(now, 1).Key
	if first != Credential(w.Secret) || second != Credential(vectorSecret) || w.bodySignature(now.Add(time.Hour), 1).Key != first || w.Signature.Secret != "" {
		t.Errorf("in the overlap the keys are %q and %q", string(first), string(second))
	}
}

// TestRotationRefuses: a rotation of what is not there, a secret of another kind, the current one.
func TestRotationRefuses(t *testing.T) {
	plain := Webhook{Secret: vectorSecret}
	header := Webhook{Secret: vectorSecret, Signature: &Signature{Header: "X-Sig"}}
	all := Webhook{Secret: vectorSecret, Signature: &Signature{Header: "X-Sig", Secret: "sekret", Key: vectorKey}}
	for _, tt := range []struct {
		w                       *Webhook
		rotation, field, detail string
	}{
		{&plain, `{"which":"v1a"}`, "which", `must be "secret", "signature.secret", "signature.secret_key" or "all" (got "v1a")`},
		{&plain, `{"which":7}`, "which", "must be a string"},
		{&plain, `{"which":"signature.secret"}`, "which", "has no signature.header"},
		{&header, `{"which":"signature.secret"}`, "which", "X-Sig is made with the webhook's own secret"},
		{&header, `{"which":"signature.secret_key"}`, "which", "no key pair: set signature.v1a"},
		{&all, `{"which":"all","secret":"sekret"}`, "secret", "must be left out where all"},
		{&all, `{"which":"signature.secret","secret":"sekret"}`, "secret", "is the current secret already"},
		{&all, `{"secret":"` + vectorKey + `","which":"signature.secret_key"}`, "secret", "is the current secret already"},
		{&all, `{"secret":"` + vectorSeed + `","which":"signature.secret_key"}`, "secret", "is the current secret already"},
		{&all, `{"which":"signature.secret_key","secret":"sekret"}`, "secret", "whsk_ in front of it is missing"},
		{&all, `{"which":"signature.secret","secret":"whpk_sekret"}`, "secret", "a public key"},
		{&all, `{"secret":"whsk_sekret"}`, "secret", "the secret key (whsk_) of a key pair"},
		{&all, `{"which":"secret","secret":"sekret"}`, "secret", "whsec_ in front of it is missing"},
	} {
		r, err := ParseRotation([]byte(tt.rotation))
		if err == nil {
			r = r.made()
			err = r.check(tt.w, false)
		}
		bad, ok := err.(InputErrors)
		if !ok || len(bad) != 1 || bad[0].Field != tt.field || !strings.Contains(bad[0].Detail, tt.detail) || strings.Contains(err.Error(), "sekret") {
			t.Errorf("%s: got %v, want %s: …%s…", tt.rotation, err, tt.field, tt.detail)
		}
	}
	r := Rotation{Which: AllSecrets}.made()
	if err := r.check(&all, true); err == nil || !strings.Contains(err.Error(), "delivery.operations_secret") {
		t.Errorf("of a secret that the configuration sets: %v", err)
	}
	if r.Which = SecretKey; r.check(&all, true) != nil {
		t.Error("the key pair beside a configured secret cannot be rotated")
	}
}

// TestStoredSignature: what is stored is read as it was, and a webhook that an older version has stored has no signature.
func TestStoredSignature(t *testing.T) {
	w := signedWebhook(time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC))
	var again, older Webhook
	if err := json.Unmarshal([]byte(jsonText(t, &w)), &again); err != nil || !reflect.DeepEqual(again, w) {
		t.Errorf("%v: got %s, want %s", err, jsonText(t, &again), jsonText(t, &w))
	}
	if err := json.Unmarshal([]byte(`{"id":1,"url":"https://a.example/","secret":"`+string(vectorSecret)+`"}`), &older); err != nil || older.Signature != nil {
		t.Errorf("%+v, %v", older.Signature, err)
	}
	if strings.Contains(jsonText(t, &older), "signature") {
		t.Error("a webhook without a signature is stored with one")
	}
}

package receiver

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestVerifyOthers: a signature v1a and the header with the HMAC of the body are checked if their key is given, and all that are checked must fit.
func TestVerifyOthers(t *testing.T) {
	now, body := time.Now(), []byte(`{"a": 1}`)
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	public := "whpk_" + base64.StdEncoding.EncodeToString(key.Public().(ed25519.PublicKey))
	second := strconv.FormatInt(now.Unix(), 10)
	m := hmac.New(sha256.New, []byte("text"))
	m.Write(body)
	h := http.Header{}
	h.Set("webhook-id", "i")
	h.Set("webhook-timestamp", second)
	h.Set("webhook-signature", "v1,AAAA v1a,"+base64.StdEncoding.EncodeToString(ed25519.Sign(key, []byte("i."+second+"."+string(body)))))
	h.Set("X-Sig", "p="+hex.EncodeToString(m.Sum(nil)))
	fits := HMAC{Header: "x-sig", Prefix: "p=", Secret: "text"}
	for name, tt := range map[string]struct {
		o    Options
		want string // a piece of the verdict; "" for valid
	}{
		"nothing": {Options{}, "not checked"}, "key": {Options{PublicKey: public}, ""}, "header": {Options{HMAC: fits}, ""}, "both": {Options{PublicKey: public, HMAC: fits}, ""},
		"another text":     {Options{PublicKey: public, HMAC: HMAC{Header: "X-Sig", Prefix: "p=", Secret: "other"}}, "does not match"},
		"another encoding": {Options{HMAC: HMAC{Header: "X-Sig", Prefix: "p=", Encoding: "base64", Secret: "text"}}, "does not match"},
		"no such header":   {Options{HMAC: HMAC{Header: "X-Other", Secret: "text"}}, "is missing"},
		"another key":      {Options{PublicKey: "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=", HMAC: fits}, "no signature matches"},
	} {
		err := tt.o.verify(h, body, now)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) || errors.Is(err, ErrUnchecked) != (name == "nothing") {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	for _, bad := range []Options{{PublicKey: "whsk_x"}, {HMAC: HMAC{Header: "X"}}, {HMAC: HMAC{Secret: "x"}}, {HMAC: HMAC{Prefix: "x"}}, {HMAC: HMAC{Header: "X", Secret: "x", Encoding: "HEX"}}} {
		if bad.Validate() == nil {
			t.Errorf("%+v is valid", bad)
		}
	}
}

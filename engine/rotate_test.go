package engine_test

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"hookbolt/engine"
)

// rotate rotates a webhook's secret; settings are those of POST /v1/webhooks/:id/rotate-secret.
func (w *world) rotate(id uint32, settings string) engine.Webhook {
	w.t.Helper()
	r, err := engine.ParseRotation([]byte(settings))
	if err != nil {
		w.t.Fatal(err)
	}
	hook, err := w.RotateSecret(w.t.Context(), id, r)
	if err != nil {
		w.t.Fatal(err)
	}
	return hook
}

// signers asks the reference library of Standard Webhooks which of some secrets have signed a request: a digit for each, its place
// among them.
func signers(t *testing.T, r received, secrets ...engine.Secret) string {
	t.Helper()
	var digits strings.Builder
	for i, s := range secrets {
		verifier, err := standardwebhooks.NewWebhook(string(s))
		if err != nil {
			t.Fatal(err)
		}
		switch err := verifier.VerifyIgnoringTimestamp(r.body, r.header); {
		case err == nil:
			fmt.Fprint(&digits, i)
		case !errors.Is(err, standardwebhooks.ErrNoMatchingSignature):
			t.Fatal(err)
		}
	}
	if n := strings.Count(r.header.Get("webhook-signature"), "v1,"); n != digits.Len() {
		t.Errorf("%d signatures, of which %d are by the secrets given", n, digits.Len())
	}
	return digits.String()
}

// TestRotateSecret makes three attempts of one delivery, an hour apart, with a rotation and a restart right after the first: each is
// signed by what signs when it is made, and the overlap ends to the nanosecond.
func TestRotateSecret(t *testing.T) {
	for _, tt := range []struct{ overlap, want string }{
		{"0s", "0 1 1"},
		{"1h", "0 01 1"},
		{"1h59m59.999999999s", "0 01 1"}, // ends with the third attempt's start
		{"2h", "0 01 01"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.net.answer = func(received, *http.Request) (*http.Response, error) { return answer(500), nil }
			hook := w.webhook(`{"url":"https://a.example/","retry_schedule":["1h","1h"]}`)
			if _, err := w.TestWebhook(t.Context(), hook.ID); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			time.Sleep(time.Nanosecond)
			rotated := w.rotate(hook.ID, `{"overlap":"`+tt.overlap+`"}`)
			if rotated.Secret == hook.Secret || !rotated.UpdatedAt.Equal(time.Now()) || rotated.Revision != hook.Revision+1 {
				t.Errorf("%s: rotated: %+v", tt.overlap, rotated)
			}
			w.restart()
			time.Sleep(2 * time.Hour)
			synctest.Wait()
			var got []string
			for _, r := range w.net.all() {
				got = append(got, signers(t, r, hook.Secret, rotated.Secret))
			}
			if got := strings.Join(got, " "); got != tt.want {
				t.Errorf("overlap of %s: signed by %s, want %s", tt.overlap, got, tt.want)
			}
		})
	}
}

// TestRotateWhatSignsBeside makes attempts, an hour apart, of a delivery that is always refused. The header with the HMAC has one value, by
// the new secret and the old one in turn while both may sign; the signatures v1a are by both key pairs.
func TestRotateWhatSignsBeside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.net.answer = func(received, *http.Request) (*http.Response, error) { return answer(401), nil }
		hook := w.webhook(`{"url":"https://a.example/","retry_schedule":["1h","1h","1h","1h"],
			"signature":{"header":"x-hub-signature-256","prefix":"sha256=","secret":"the first","v1a":true}}`)
		if _, err := w.TestWebhook(t.Context(), hook.ID); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		time.Sleep(time.Nanosecond)
		w.rotate(hook.ID, `{"which":"signature.secret","secret":"the second","overlap":"3h"}`)
		rotated := w.rotate(hook.ID, `{"which":"signature.secret_key","overlap":"2h"}`)
		if rotated.Secret != hook.Secret || rotated.Signature.Key == hook.Signature.Key {
			t.Errorf("rotated: %+v", rotated)
		}
		w.restart()
		time.Sleep(4 * time.Hour)
		synctest.Wait()
		var byText, byKey []string
		for _, r := range w.net.all() {
			for _, secret := range []string{"the first", "the second"} {
				m := hmac.New(sha256.New, []byte(secret))
				m.Write(r.body)
				if slices.Equal(r.header.Values("X-Hub-Signature-256"), []string{"sha256=" + hex.EncodeToString(m.Sum(nil))}) {
					byText = append(byText, secret)
				}
			}
			byKey = append(byKey, keySigners(t, r, hook.Signature.Key, rotated.Signature.Key))
			if got := signers(t, r, hook.Secret); got != "0" {
				t.Errorf("v1 is by %s", got)
			}
		}
		if got := strings.Join(byText, ", "); got != "the first, the first, the second, the first, the second" {
			t.Errorf("the header is by %s", got)
		}
		if got := strings.Join(byKey, " "); got != "0 10 10 1 1" {
			t.Errorf("v1a is by %s", got)
		}
	})
}

// keySigners verifies the signatures v1a of a request with crypto/ed25519: a digit for each, in their order.
func keySigners(t *testing.T, r received, keys ...engine.SigningKey) string {
	t.Helper()
	content := []byte(r.id + "." + r.header.Get("webhook-timestamp") + "." + string(r.body))
	var digits strings.Builder
	for entry := range strings.SplitSeq(r.header.Get("webhook-signature"), " ") {
		encoded, ok := strings.CutPrefix(entry, "v1a,")
		if !ok {
			continue
		}
		signature, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			t.Fatal(err)
		}
		for i, key := range keys {
			pair, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(string(key), "whsk_"))
			if err != nil {
				t.Fatal(err)
			}
			if ed25519.Verify(pair[32:], content, signature) {
				fmt.Fprint(&digits, i)
			}
		}
	}
	return digits.String()
}

// TestRotateSecretRefuses: the present secret, and a webhook that is not there.
func TestRotateSecretRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hook := w.webhook(`{"url":"https://a.example/"}`)
		_, err := w.RotateSecret(t.Context(), hook.ID, engine.Rotation{Overlap: time.Hour, Secret: hook.Secret})
		errs, ok := errors.AsType[engine.InputErrors](err)
		if !ok || errs[0].Field != "secret" || !strings.Contains(errs[0].Detail, "is the current secret already") {
			t.Errorf("to the present secret: %v", err)
		}
		if _, err := w.RotateSecret(t.Context(), hook.ID+1, engine.Rotation{}); !errors.Is(err, engine.ErrNotFound) {
			t.Errorf("of a webhook that is not there: %v", err)
		}
		got, err := w.Webhook(hook.ID)
		if err != nil || got.Revision != hook.Revision || got.Secret != hook.Secret || len(got.PreviousSecrets) != 0 {
			t.Errorf("now %+v, %v", got, err)
		}
	})
}

// TestRotateSecretAtOnce: rotations at the same time come one after another, none is lost.
func TestRotateSecretAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hook := w.webhook(`{"url":"https://a.example/"}`)
		made := make([]engine.Webhook, 2)
		var both sync.WaitGroup
		for i := range made {
			both.Go(func() { made[i] = w.rotate(hook.ID, "") })
		}
		both.Wait()
		slices.SortFunc(made, func(a, b engine.Webhook) int { return int(a.Revision) - int(b.Revision) })
		previous := made[1].PreviousSecrets
		if len(previous) != 2 || previous[0].Secret != made[0].Secret || previous[1].Secret != hook.Secret {
			t.Errorf("the second rotation has left %+v", made[1])
		}
	})
}

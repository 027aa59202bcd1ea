package send

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"sync"
	"testing"
)

// Each secret signs by its own key, also when there are more than are kept, and from many attempts at once.
func TestKeyedMACs(t *testing.T) {
	secrets := make([]Secret, maxKeyed+100)
	for i := range secrets {
		secrets[i] = NewSecret()
	}
	var attempts sync.WaitGroup
	for part := range 4 {
		attempts.Go(func() {
			for i := range secrets {
				s := secrets[(i+part*31)%len(secrets)]
				for _, body := range []string{"", "one", "another"} {
					got, err := signV1(s, "id", "1", []byte(body))
					if err != nil {
						t.Error(err)
						return
					}
					key, err := s.Key()
					if err != nil {
						t.Error(err)
						return
					}
					m := hmac.New(sha256.New, key)
					m.Write([]byte("id.1." + body))
					if want := base64.StdEncoding.EncodeToString(m.Sum(nil)); got != want {
						t.Errorf("%q is signed %s, want %s", body, got, want)
						return
					}
				}
			}
		})
	}
	attempts.Wait()
	if n := len(keyed.bySecret); n > maxKeyed {
		t.Errorf("%d secrets are kept, at most %d may be", n, maxKeyed)
	}
	if _, err := signV1("whsec_short", "id", "1", nil); err == nil {
		t.Error("a text that is no secret signs")
	}
}

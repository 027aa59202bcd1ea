package cli_test

import (
	"net/http"
	"strings"
	"testing"

	"hookbolt/internal/hookbolttest"
)

func TestListen(t *testing.T) {
	p := hookbolttest.Start(t, "listen", "-addr", "127.0.0.1:0", "-fail", "1", "-status", "503", "-secret", hookbolttest.Secret)
	url := p.Stdout.Find(t, `Listening on (\S+) and answering 503 to the first 1 of each delivery's attempts, then 200; signatures are checked\.`)
	for _, want := range []int{503, 200} {
		r := hookbolttest.SignedRequest(t.Context(), "x", "{}")
		req, err := http.NewRequestWithContext(t.Context(), "POST", url, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = r.Header
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("answer %d, want %d", resp.StatusCode, want)
		}
	}
	p.Stdout.Find(t, `attempt 2  signature ok  answered 200`)
	if code := p.End(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

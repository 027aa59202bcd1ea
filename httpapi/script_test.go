package httpapi

import (
	"net/http"
	"testing"
)

func TestScript(t *testing.T) {
	for _, cfg := range []Config{{}, {AdminTokens: []string{"admin"}}} {
		f := newFixture(t, cfg)
		rec := f.do("GET", "/hookbolt.js", "")
		if rec.Code != 200 || rec.Body.String() != string(script) || rec.Body.Len() == 0 || rec.Body.Len() >= 2560 {
			t.Errorf("got %d with %d bytes, want all %d and fewer than 2,560", rec.Code, rec.Body.Len(), len(script))
		}
		tag := rec.Header().Get("ETag")
		for name, want := range map[string]string{
			"Content-Type": "text/javascript; charset=utf-8", "Cache-Control": "public, max-age=3600", "Access-Control-Allow-Origin": "*",
			"X-Content-Type-Options": "nosniff", "Vary": "", "Set-Cookie": "",
		} {
			if got := rec.Header().Get(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		if len(tag) != 34 || tag[0] != '"' || tag[33] != '"' {
			t.Errorf("ETag %s", tag)
		}
		r := f.request("GET", "/hookbolt.js", "")
		r.Header.Set("If-None-Match", tag)
		if rec := f.serve(r); rec.Code != http.StatusNotModified || rec.Body.Len() != 0 || rec.Header().Get("ETag") != tag {
			t.Errorf("who has it gets %d with %d bytes", rec.Code, rec.Body.Len())
		}
		if rec := f.do("HEAD", "/hookbolt.js", ""); rec.Code != 200 || rec.Body.Len() != 0 || rec.Header().Get("ETag") != tag {
			t.Errorf("HEAD gets %d with %d bytes", rec.Code, rec.Body.Len())
		}
	}
}

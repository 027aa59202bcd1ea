package httpapi

import (
	"net/http"
	"testing"
)

func TestScript(t *testing.T) {
	for _, cfg := range []Config{{}, {AdminTokens: []string{"admin"}}} {
		f := newFixture(t, cfg)
		rec := f.do("GET", "/hookbolt.js", "")
		if rec.Code != 200 || rec.Body.String() != string(script) || rec.Body.Len() == 0 || rec.Body.Len() >= 3072 {
			t.Errorf("got %d with %d bytes, want all %d and fewer than 3,072", rec.Code, rec.Body.Len(), len(script))
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
		// There are no ranges and no conditions but that one: the description knows no 206, 412 or 416.
		for name, value := range map[string]string{"Range": "bytes=0-1", "If-Match": `"x"`, "If-Unmodified-Since": "Mon, 02 Jan 2006 15:04:05 GMT", "If-None-Match": `"x"`} {
			for _, value := range []string{value, "bytes=9999-"} {
				r := f.request("GET", "/hookbolt.js", "")
				r.Header.Set(name, value)
				if rec := f.serve(r); rec.Code != 200 || rec.Body.String() != string(script) || rec.Header().Get("Accept-Ranges") != "" {
					t.Errorf("%s: %s: %d %v", name, value, rec.Code, rec.Header())
				}
			}
		}
		for _, tags := range []string{"*", "W/" + tag, `"x", ` + tag, `"x" ,W/` + tag + `, "y"`} {
			r := f.request("GET", "/hookbolt.js", "")
			r.Header.Set("If-None-Match", tags)
			if rec := f.serve(r); rec.Code != http.StatusNotModified {
				t.Errorf("If-None-Match: %s: %d", tags, rec.Code)
			}
		}
		if rec := f.do("HEAD", "/hookbolt.js", ""); rec.Code != 200 || rec.Header().Get("ETag") != tag { // net/http leaves out the body
			t.Errorf("HEAD gets %d", rec.Code)
		}
	}
}

package browser

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
)

// servePage serves one page with these elements at every path except /missing. Its policy lets only scripts of the page run.
func servePage(t *testing.T, elements string) *server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "style-src 'none'; script-src 'nonce-ours'")
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if r.URL.Path == "/missing" {
			w.WriteHeader(http.StatusNotFound)
		}
		fmt.Fprintf(w, `<!doctype html><html lang="en"><head><title>Control</title><link rel="icon" href="data:,"></head><body><main><h1>Control</h1>%s</main></body></html>`, elements)
	}))
	t.Cleanup(s.Close)
	return &server{t: t, url: s.URL}
}

// watch finds everything that a page must not do: a page that does nothing has no findings, and each of these pages has its own.
func TestTroubleIsSeen(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		elements string
		want     []string
	}{
		"nothing":           {`<p>quiet</p><script nonce="ours">console.log("as well")</script>`, nil},
		"console":           {`<script nonce="ours">console.error("oh no")</script>`, []string{"oh no"}},
		"exception":         {`<script nonce="ours">undefined.field</script>`, []string{"TypeError"}},
		"rejection":         {`<script nonce="ours">Promise.reject(new Error("left alone"))</script>`, []string{"left alone"}},
		"dialog":            {`<script nonce="ours">alert("got in")</script>`, []string{"got in"}},
		"inline handler":    {`<img src="data:,x" onerror="location = 'https://example.com'" alt="">`, []string{"script-src"}},
		"inline style":      {`<p style="color: red">red</p>`, []string{"style-src"}},
		"foreign request":   {`<img src="http://127.0.0.1:1/x.png" alt="">`, []string{"a request to elsewhere", "ERR_UNSAFE_PORT"}},
		"failed request":    {`<script nonce="ours">fetch("http://127.0.0.1:1/").catch(() => {})</script>`, []string{"a request to elsewhere", "ERR_UNSAFE_PORT"}},
		"error status":      {`<img src="/missing" alt="">`, []string{"status 404"}},
		"name not resolved": {`<img src="http://localhost.example/x.png" alt="">`, []string{"a request to elsewhere", "ERR_NAME_NOT_RESOLVED"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPage(t, servePage(t, c.elements), look{})
			for _, want := range c.want {
				p.expect(want) // fails the test if there is no such trouble
			}
			p.open("/")
			p.wait(`document.readyState === "complete"`)
			for _, want := range c.want {
				p.awaitExpected(want)
			}
		})
	}
}

func TestAxeSees(t *testing.T) {
	t.Parallel()
	p := newPage(t, servePage(t, `<input name="amount"><svg width="90" height="20"><rect width="90" height="20" fill="#fff"/></svg>`), look{})
	p.open("/")
	var rules []string
	for _, v := range violations(t, p) {
		rules = append(rules, v.ID)
	}
	if !slices.Equal(rules, []string{"label"}) {
		t.Errorf("axe found %q, want that the field has no label", rules)
	}
}

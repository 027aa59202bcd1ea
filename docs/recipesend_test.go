package docs

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"hookbolt/httpapi/ui"
	"hookbolt/internal/hookbolttest"
)

// arrived is a request as a receiver sees it.
type arrived struct {
	*http.Request
	body []byte
}

// TestDocumentationRecipesArrive sends the sample by each recipe to an endpoint on this machine, in the place of its receiver.
func TestDocumentationRecipesArrive(t *testing.T) {
	requests := make(chan arrived, 1)
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		requests <- arrived{r, body}
	}))
	t.Cleanup(endpoint.Close)
	base := hookbolttest.Serve(t, "", "")
	for i := range ui.Recipes {
		r := &ui.Recipes[i]
		settings := r.Settings()
		settings["url"] = endpoint.URL + strings.TrimPrefix(r.URL, "https://"+hostOf(t, r.URL))
		delete(settings, "rate_limit")
		status, answer := hookbolttest.Call(t, "POST", base+"/v1/webhooks", string(marshal(t, settings)))
		hookbolttest.WantStatus(t, http.StatusCreated, status, answer)
		id := firstMatch(t, `"id": ?(\d+)`, answer)
		status, answer = hookbolttest.Call(t, "POST", base+"/v1/webhooks/"+id+"/test", "")
		hookbolttest.WantStatus(t, http.StatusAccepted, status, answer)
		select {
		case got := <-requests:
			checkArrived(t, r, got)
		case <-time.After(hookbolttest.Timeout):
			t.Fatalf("%s: nothing has arrived", r.Name)
		}
	}
}

// firstMatch returns the group of a pattern's first match in a text.
func firstMatch(t *testing.T, pattern, text string) string {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no %s in %s", pattern, text)
	}
	return m[1]
}

func hostOf(t *testing.T, raw string) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

// checkArrived holds a request against its recipe, and its body against the receiver's limits.
func checkArrived(t *testing.T, r *ui.Recipe, got arrived) {
	t.Helper()
	want := map[string]string{"Content-Type": "application/json"}
	if r.ContentType != "" {
		want["Content-Type"] = r.ContentType
	}
	for _, h := range r.Headers {
		want[h.Name] = h.Value
	}
	if r.Username != "" {
		want["Authorization"] = "Basic " + base64.StdEncoding.EncodeToString([]byte(r.Username+":"+r.Password))
	}
	for name, value := range want {
		if got.Header.Get(name) != value {
			t.Errorf("%s: %s is %q, want %q", r.Name, name, got.Header.Get(name), value)
		}
	}
	if method := r.Method; got.Method != method && (method != "" || got.Method != "POST") {
		t.Errorf("%s: the method is %s", r.Name, got.Method)
	}
	// test@example.com
	if path := strings.ReplaceAll(strings.TrimPrefix(r.URL, "https://"+hostOf(t, r.URL)), "{subscriber}", "55502f40dc8b7c769880b10874abc9d0"); got.RequestURI != path {
		t.Errorf("%s: the path is %s, want %s", r.Name, got.RequestURI, path)
	}
	if err := recipeSchema(t, r.Name).Validate(sent(t, r, got.body)); err != nil {
		t.Errorf("%s: %v\n%s", r.Name, err, got.body)
	}
}

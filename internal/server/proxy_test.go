package server_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"hookbolt/internal/hookbolttest"
)

// A proxy of the environment is used only where the configuration says so, and addresses in plain sight are refused all the same.
// net/http reads the environment once, so each case is a process of its own.
func TestProxyFromEnvironment(t *testing.T) {
	// A label that begins with a hyphen ends a lookup before it begins: only the proxy can get there.
	const endpoint = "http://-a.example/hook"
	for _, honoured := range []bool{true, false} {
		t.Run(fmt.Sprint(honoured), func(t *testing.T) {
			asked := make(chan string, 10)
			proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked <- r.Method + " " + r.RequestURI }))
			defer proxy.Close()
			config := hookbolttest.WriteConfig(t, t.TempDir(), "", fmt.Sprintf("proxy_from_environment = %t\nretry_schedule = []", honoured))
			child := hookbolttest.Spawn(t, config, "HTTP_PROXY="+proxy.URL, "http_proxy="+proxy.URL, "NO_PROXY=", "no_proxy=")
			defer func() {
				child.Process.Signal(os.Interrupt)
				child.Wait()
			}()
			status, answer := hookbolttest.Call(t, "POST", child.URL+"/v1/webhooks", `{"url":"http://10.0.0.1/"}`)
			hookbolttest.WantStatus(t, http.StatusBadRequest, status, answer)
			status, answer = hookbolttest.Call(t, "POST", child.URL+"/v1/webhooks", `{"url":"`+endpoint+`"}`)
			hookbolttest.WantStatus(t, http.StatusCreated, status, answer)
			status, answer = hookbolttest.Call(t, "POST", child.URL+"/v1/webhooks/1/test", "")
			hookbolttest.WantStatus(t, http.StatusAccepted, status, answer)
			if honoured {
				if got := <-asked; got != "POST "+endpoint {
					t.Errorf("the proxy was asked for %s", got)
				}
				return
			}
			child.Log.Find(t, `msg="delivery failed for good" .*(error_class=dns)`)
			if len(asked) != 0 {
				t.Errorf("the proxy was asked for %s", <-asked)
			}
		})
	}
}

package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

// A proxy of the environment is used only where the configuration says so, and addresses in plain sight are refused all the same.
// net/http reads the environment once, so each case is a process of its own.
func TestProxyFromEnvironment(t *testing.T) {
	// A label of more than 63 characters ends a look-up before it begins: only the proxy can get there.
	endpoint := "http://" + strings.Repeat("a", 64) + ".example/hook"
	for _, honoured := range []bool{true, false} {
		t.Run(fmt.Sprint(honoured), func(t *testing.T) {
			asked := make(chan string, 10)
			proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked <- r.Method + " " + r.RequestURI }))
			defer proxy.Close()
			config := writeConfig(t, t.TempDir(), "", fmt.Sprintf("proxy_from_environment = %t\nretry_schedule = []", honoured))
			cmd, api := spawn(t, config, "HTTP_PROXY="+proxy.URL, "http_proxy="+proxy.URL, "NO_PROXY=", "no_proxy=")
			defer func() {
				cmd.Process.Signal(os.Interrupt)
				cmd.Wait()
			}()
			status, answer := call(t, "POST", api+"/v1/webhooks", `{"url":"http://10.0.0.1/"}`)
			wantStatus(t, http.StatusBadRequest, status, answer)
			status, answer = call(t, "POST", api+"/v1/webhooks", `{"url":"`+endpoint+`"}`)
			wantStatus(t, http.StatusCreated, status, answer)
			status, answer = call(t, "POST", api+"/v1/webhooks/1/test", "")
			wantStatus(t, http.StatusAccepted, status, answer)
			if honoured {
				if got := <-asked; got != "POST "+endpoint {
					t.Errorf("the proxy was asked for %s", got)
				}
				return
			}
			cmd.Stderr.(*output).find(t, `msg="delivery failed for good" .*(error_class=dns)`)
			if len(asked) != 0 {
				t.Errorf("the proxy was asked for %s", <-asked)
			}
		})
	}
}

package httpapi

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestErase(t *testing.T) {
	f := newFixture(t, Config{})
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/"}`)
	f.want(202, "POST", "/v1/events", start(sessionA)+finish(sessionA)+start(sessionB))

	const one = `{"sessions":1,"events":2,"deliveries":1,"attempts":0,"damaged":0}` + "\n"
	if got := f.want(200, "DELETE", "/v1/sessions/"+sessionA, ""); got != one {
		t.Errorf("got %s, want %s", got, one)
	}
	f.want(404, "GET", "/v1/sessions/"+sessionA, "")
	if p := wantProblem(t, f.do("DELETE", "/v1/sessions/"+sessionA, ""), 404); !strings.Contains(p.Detail, sessionA) {
		t.Errorf("detail %q", p.Detail)
	}
	for _, stranger := range []string{"8", "0", "-7", "9223372036854775807", "-9223372036854775808"} {
		const none = `{"sessions":0,"events":0,"deliveries":0,"attempts":0,"damaged":0}` + "\n"
		if got := f.want(200, "DELETE", "/v1/visitors/"+stranger, ""); got != none {
			t.Errorf("visitor %s: %s", stranger, got)
		}
	}
	f.want(200, "GET", "/v1/sessions/"+sessionB, "")
	var got struct{ Sessions, Events, Deliveries, Attempts int }
	f.wantJSON(&got, 200, "DELETE", "/v1/visitors/7", "")
	if got.Sessions != 1 || got.Events != 1 {
		t.Errorf("%+v", got)
	}
	nothingStored(t, f)
}

func TestEraseRefuses(t *testing.T) {
	f := newFixture(t, Config{})
	f.want(202, "POST", "/v1/events", start(sessionA))
	for _, bad := range []string{"x", "7x", "+7", "07", "-0", "7.0", "1e3", "%207", "9223372036854775808", "-9223372036854775809", "0x7", "null", sessionA} {
		wantInputProblem(t, f.do("DELETE", "/v1/visitors/"+bad, ""), 0, "poltio_user_id", "must be an integer of 64 bits")
	}
	for _, bad := range []string{"x", "7", strings.ReplaceAll(sessionA, "-", ""), "00000000-0000-0000-0000-000000000000"} {
		wantInputProblem(t, f.do("DELETE", "/v1/sessions/"+bad, ""), 0, "id", "must be a UUID")
	}
	wantInputProblem(t, f.do("DELETE", "/v1/visitors/7?dry_run=true", ""), 0, "dry_run", "takes none")
	for _, path := range []string{"/v1/visitors/", "/v1/visitors", "/v1/sessions/"} {
		wantProblem(t, f.do("DELETE", path, ""), 404)
	}
	f.want(200, "GET", "/v1/sessions/"+sessionA, "")
}

// In a large database an erasure takes longer than an answer may otherwise. What follows on the connection is bounded as ever.
func TestEraseTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := slowFixture(t)
		conn := startServer(t, f)()
		in := bufio.NewReader(conn)
		ask := func(status int, call string) {
			fmt.Fprint(conn, call+" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatalf("%s: %v", call, err)
			}
			if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != status {
				t.Errorf("%s: %d %s: %v", call, resp.StatusCode, body, err)
			}
		}
		ask(303, "POST /sessions/"+sessionA+"/erase")
		ask(200, "DELETE /v1/visitors/7")
		ask(200, "DELETE /v1/visitors/7")
		fmt.Fprint(conn, "DELETE /v1/visitors/7 HTTP/1.1\r\nHost: localhost\r\n\r\n")
		time.Sleep(40*time.Minute + 61*time.Second) // the erasure takes four steps, and nobody reads the answer
		if _, err := http.ReadResponse(in, nil); err == nil {
			t.Error("an answer was kept for a client that did not read it")
		}
	})
}

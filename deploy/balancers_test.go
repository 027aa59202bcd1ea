package deploy

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hookbolt/internal/hookbolttest"
	"hookbolt/internal/postgrestest"
)

// balancers start a balancer of deploy/ in front of three members, and return its URL.
var balancers = []struct {
	name  string
	start func(t *testing.T, members []string, edits ...string) string
}{
	{"Caddy", startCaddyFleet}, {"nginx", startNginxFleet}, {"HAProxy", startHAProxy},
}

func startCaddyFleet(t *testing.T, members []string, edits ...string) string {
	t.Helper()
	return runCaddy(t, lookFor(t, "caddy"), edited(t, "deploy/Caddyfile.fleet", edits), "HOOKBOLT_MEMBERS="+strings.Join(members, " "))
}

func startNginxFleet(t *testing.T, members []string, edits ...string) string {
	t.Helper()
	upstream := withMembers(t, edited(t, "deploy/nginx.fleet.conf", edits), members)
	site := regexp.MustCompile(`(?s)upstream hookbolt \{.*?\n\}\n`).ReplaceAllLiteralString(hookbolttest.ReadFile(t, "deploy/nginx.conf"), upstream)
	address, _ := runNginx(t, lookFor(t, "nginx"), site)
	return "https://" + address
}

func startHAProxy(t *testing.T, members []string, edits ...string) string {
	t.Helper()
	haproxy, dir, address := lookFor(t, "haproxy"), t.TempDir(), hookbolttest.FreeAddress(t)
	certFile, keyFile, _ := hookbolttest.WriteCertificate(t, dir, 1)
	pem := hookbolttest.Write(t, filepath.Join(dir, "both.pem"), hookbolttest.Read(t, certFile)+hookbolttest.Read(t, keyFile))
	text := withMembers(t, edited(t, "deploy/haproxy.cfg", edits), members)
	text = replaceOnce(t, text, "bind :443 ssl crt /etc/haproxy/certs/hooks.example.com.pem", "bind "+address+" ssl crt "+pem)
	cmd := exec.CommandContext(t.Context(), haproxy, "-f", hookbolttest.Write(t, filepath.Join(dir, "haproxy.cfg"), text), "-db")
	out := hookbolttest.NewOutput()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			return "https://" + address
		}
		if time.Since(began) > hookbolttest.Timeout {
			t.Fatalf("%v; it said:\n%s", err, out)
		}
	}
}

// edited is a file with edits: texts and what stands in their place, in turn.
func edited(t *testing.T, name string, edits []string) string {
	t.Helper()
	text := hookbolttest.ReadFile(t, name)
	for i := 0; i < len(edits); i += 2 {
		text = replaceOnce(t, text, edits[i], edits[i+1])
	}
	return text
}

func replaceOnce(t *testing.T, text, old, new string) string {
	t.Helper()
	if strings.Count(text, old) != 1 {
		t.Fatalf("the file has %q %d times", old, strings.Count(text, old))
	}
	return strings.Replace(text, old, new, 1)
}

// withMembers puts the addresses of members in the place of the examples.
func withMembers(t *testing.T, text string, members []string) string {
	t.Helper()
	for i, member := range members {
		text = replaceOnce(t, text, fmt.Sprintf("10.0.0.1%d:8080", i+1), member)
	}
	return text
}

// browserLike is a client that keeps connections, and repeats nothing.
func browserLike(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConnsPerHost: 8}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// post sends a request that the client does not repeat, and returns an error for every answer but the wanted one.
func post(client *http.Client, url, body string, want int) error {
	req, err := http.NewRequest("POST", url, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.GetBody = nil
	req.Header.Set("Authorization", "Bearer "+frontToken)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	if resp.Body.Close(); resp.StatusCode != want {
		return errors.New(resp.Status)
	}
	return nil
}

// Behind each balancer, members are stopped one after another while events come, and none is lost: the balancer notices, or tries another one.
func TestRollingRestartBehindBalancers(t *testing.T) {
	c := postgrestest.Shared(t)
	for _, b := range balancers {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			config := hookbolttest.Write(t, filepath.Join(t.TempDir(), "config.toml"), fmt.Sprintf("[http]\nlisten = \"127.0.0.1:0\"\nadmin_tokens = [%q]\n"+
				"trusted_proxies = [\"127.0.0.1\"]\nshutdown_delay = \"6s\"\n[storage]\ndriver = \"postgres\"\npostgres_url = %q\npostgres_schema = %q\n", frontToken, c.URL(), c.Schema(t)))
			var members []*hookbolttest.Process
			var addresses []string
			for range 3 {
				p := hookbolttest.Start(t, "serve", "-config", config)
				members, addresses = append(members, p), append(addresses, strings.TrimPrefix(p.URL(t), "http://"))
			}
			url := b.start(t, addresses)
			client := browserLike(t)
			for began := time.Now(); post(client, url+"/v1/events", hookbolttest.NewSession(), http.StatusAccepted) != nil; time.Sleep(50 * time.Millisecond) {
				if time.Since(began) > hookbolttest.Timeout {
					t.Fatal("the balancer lets nothing through")
				}
			}
			var sent, failed atomic.Int64
			var first atomic.Pointer[error]
			end := make(chan struct{})
			var work sync.WaitGroup
			for range 4 {
				work.Go(func() {
					for {
						select {
						case <-end:
							return
						case <-time.After(60 * time.Millisecond): // four are within the 100 requests a second that nginx.conf allows an address
						}
						sent.Add(1)
						if err := post(client, url+"/v1/events", hookbolttest.NewSession(), http.StatusAccepted); err != nil {
							failed.Add(1)
							first.CompareAndSwap(nil, &err)
						}
					}
				})
			}
			for _, p := range members[:2] {
				if code := p.End(t); code != 0 {
					t.Errorf("exit code %d:\n%s", code, p.Stderr)
				}
				p.Stderr.Find(t, "until balancers have noticed")
			}
			close(end)
			work.Wait()
			if n := sent.Load(); n < 100 {
				t.Errorf("only %d requests were sent: too little to see anything", n)
			}
			// nginx does not ask for /readyz. A connection that it makes as a port closes may still wait to be accepted, and is reset: once for each of the two.
			allowed := map[string]int64{"nginx": 2}[b.name]
			if n := failed.Load(); n > allowed {
				t.Errorf("%d of %d requests failed, such as: %v", n, sent.Load(), *first.Load())
			}
		})
	}
}

// swallower starts a server that takes a request and hangs up, as a member does that is killed meanwhile. Checks of its health it answers.
func swallower(t *testing.T, taken *atomic.Int64) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			return
		}
		taken.Add(1)
		bufio.NewReader(r.Body).WriteTo(new(strings.Builder))
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// A request that may have been carried out is not sent once more by a balancer. One that could not be sent is.
func TestBalancersRepeatOnlyWhatWasNotSent(t *testing.T) {
	for _, b := range balancers {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			if taken, err := swallowed(t, b.start); taken != 1 || err == nil {
				t.Errorf("a request that was taken, and not answered, came %d times, and its client got %v", taken, err)
			}
			// Two members are gone without a word.
			var served atomic.Int64
			there := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { served.Add(1) }))
			defer there.Close()
			url := b.start(t, []string{hookbolttest.FreeAddress(t), hookbolttest.FreeAddress(t), strings.TrimPrefix(there.URL, "http://")})
			client := browserLike(t)
			for i := range 5 {
				if err := post(client, url+"/v1/webhooks/1/test", "{}", http.StatusOK); err != nil {
					t.Errorf("request %d, with one member left: %v", i+1, err)
				}
			}
		})
	}
}

// The test would notice a balancer that repeats what was sent.
func TestRepeatedRequestsAreNoticed(t *testing.T) {
	repeating := func(t *testing.T, members []string, _ ...string) string {
		return startNginxFleet(t, members, "\tkeepalive 16;\n}", "\tkeepalive 16;\n}\nproxy_next_upstream error timeout non_idempotent;")
	}
	if taken, err := swallowed(t, repeating); taken < 2 {
		t.Errorf("a request came %d times (%v): nothing would be noticed", taken, err)
	}
}

// swallowed sends a request to members that take it and do not answer. It returns how often it came, and what the client got.
func swallowed(t *testing.T, start func(*testing.T, []string, ...string) string) (int64, error) {
	t.Helper()
	var taken atomic.Int64
	url := start(t, []string{swallower(t, &taken), swallower(t, &taken), swallower(t, &taken)})
	err := post(browserLike(t), url+"/v1/webhooks/1/test", "{}", http.StatusOK)
	return taken.Load(), err
}

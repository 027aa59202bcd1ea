package cli_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"hookbolt/internal/cli"
	"hookbolt/internal/hookbolttest"
)

func TestMain(m *testing.M) { hookbolttest.Main(m) }

// spawnBuilt starts a server of the program as it is built: what main has is not in the test binary.
func spawnBuilt(t *testing.T, config string) *hookbolttest.Child {
	t.Helper()
	cmd, log := exec.CommandContext(t.Context(), hookbolttest.Build(t), "serve", "-config", config), hookbolttest.NewOutput()
	cmd.Stderr = log
	return hookbolttest.Launch(t, cmd, log)
}

func TestSignals(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be sent SIGTERM on Windows")
	}
	arrived, quit := make(chan struct{}), make(chan struct{})
	endpoint := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-quit
	}))
	defer endpoint.Close()
	defer close(quit)
	config := hookbolttest.WriteConfig(t, t.TempDir(), "", `allow_networks = ["127.0.0.1"]`)
	child := spawnBuilt(t, config)
	child.Process.Signal(syscall.SIGTERM)
	if err := child.Wait(); err != nil {
		t.Fatalf("after SIGTERM: %v\n%s", err, child.Log)
	}
	if got := child.Log.String(); !strings.Contains(got, `cause="signal: terminated"`) {
		t.Errorf("the log does not name the signal:\n%s", got)
	}

	// A second signal does not wait for the attempt that is under way.
	child = spawnBuilt(t, config)
	status, text := hookbolttest.Call(t, "POST", child.URL+"/v1/webhooks", fmt.Sprintf(`{"url": %q, "delay": 0}`, endpoint.URL))
	hookbolttest.WantStatus(t, 201, status, text)
	status, text = hookbolttest.Call(t, "POST", child.URL+"/v1/events", hookbolttest.Session)
	hookbolttest.WantStatus(t, 202, status, text)
	<-arrived
	child.Process.Signal(os.Interrupt)
	child.Log.Find(t, "msg=stopping")
	child.Process.Signal(syscall.SIGTERM)
	var exit *exec.ExitError
	if err := child.Wait(); !errors.As(err, &exit) || exit.ExitCode() != cli.ExitFailure {
		t.Errorf("after the second signal: %v, want exit code 1\n%s", err, child.Log)
	}
}

// What an endpoint sends unasked may repeat what was sent to it: none of it may reach the log.
func TestEndpointCannotWriteToTheLog(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	delivered, closed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(closed)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if req, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			io.Copy(io.Discard, req.Body)
		}
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		<-delivered // the connection is idle now
		io.WriteString(conn, "ada@example.com was here")
		io.Copy(io.Discard, conn) // until hookbolt has seen it and closes
	}()
	child := spawnBuilt(t, hookbolttest.WriteConfig(t, t.TempDir(), "", `allow_networks = ["127.0.0.1"]`))
	status, text := hookbolttest.Call(t, "POST", child.URL+"/v1/webhooks", fmt.Sprintf(`{"url": "http://%s/", "delay": 0}`, listener.Addr()))
	hookbolttest.WantStatus(t, 201, status, text)
	status, text = hookbolttest.Call(t, "POST", child.URL+"/v1/events", hookbolttest.Session)
	hookbolttest.WantStatus(t, 202, status, text)
	for deadline := time.Now().Add(hookbolttest.Timeout); ; {
		if _, text = hookbolttest.Call(t, "GET", child.URL+"/v1/deliveries", ""); strings.Contains(text, `"status":"delivered"`) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not delivered: %s", text)
		}
	}
	close(delivered)
	<-closed
	if got := child.Log.String(); strings.Contains(got, "ada@") {
		t.Errorf("the log repeats what an endpoint sent:\n%s", got)
	}
}

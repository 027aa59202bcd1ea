package cli_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"hookbolt/internal/cli"
	"hookbolt/internal/hookbolttest"
)

// The others end while the command waits: nobody can take what the server still has, and the command says so at once.
func TestDrainOfWhatBecomesTheLast(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		others := 1
		if r.Method == http.MethodGet && asked.Add(1) == 3 {
			others = 0
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"draining":true,"lanes":4,"free":1,"background":true,"others":%d}`, others)
	}))
	defer server.Close()
	code, stdout, stderr := hookbolttest.Run(t, "drain", "-url", server.URL)
	if code != cli.ExitFailure || stdout != "" || !strings.Contains(stderr, "no other server is left that could take the lanes of 5 webhooks") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
	if n := asked.Load(); n != 3 {
		t.Errorf("it asked %d times, want 3", n)
	}
}

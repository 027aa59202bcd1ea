package cli

import (
	"errors"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hookbolt/internal/client"
)

// clientOf makes the client that a command with these flags would have.
func clientOf(t *testing.T, args ...string) (*client.Client, error) {
	t.Helper()
	flags := flag.NewFlagSet("test", flag.ContinueOnError)
	connect := clientFlags(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	c, err := connect()
	if err == nil {
		t.Cleanup(c.Close)
	}
	return c, err
}

func TestClientToken(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte(`"` + r.Header.Get("Authorization") + `"`))
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte("token-of-the-file\r\nanother-one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	write := func(text string) string {
		path := filepath.Join(t.TempDir(), "tokens")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tc := range []struct {
		variable string
		flags    []string
		want     string
	}{
		{"", nil, ""},
		{"token-of-the-environment", nil, "Bearer token-of-the-environment"},
		{"token-of-the-environment\r\n", nil, "Bearer token-of-the-environment"},
		{"token-of-the-environment", []string{"-token-file", file}, "Bearer token-of-the-file"},
		{"", []string{"-token-file", write("\r\n\ntoken-of-the-file\n")}, "Bearer token-of-the-file"},
		{"", []string{"-token-file", write("token-of-the-file\ranother-one\r")}, "Bearer token-of-the-file"},
	} {
		t.Setenv(tokenVariable, tc.variable)
		c, err := clientOf(t, append(tc.flags, "-url", server.URL)...)
		if err != nil {
			t.Fatal(err)
		}
		var got string
		if err := c.Call(t.Context(), "GET", "/", nil, &got); err != nil || got != tc.want {
			t.Errorf("with %q and %v: sent %q, %v; want %q", tc.variable, tc.flags, got, err, tc.want)
		}
	}
	if _, err := clientOf(t, "-token-file", file+".not"); err == nil || !strings.Contains(err.Error(), "-token-file: ") {
		t.Errorf("got %v, want an error that names the flag", err)
	}
	for _, base := range []string{"127.0.0.1:8080", "", "ftp://example.com", "http://user:secret@example.com", "http:///x", "http://a/?b=c", "http://a/?", "http://a/ ", "http://a:0", "http://a..b"} {
		_, err := clientOf(t, "-url", base)
		if _, ok := errors.AsType[usageError](err); !ok {
			t.Errorf("-url %q: %v, want a usage error", base, err)
		}
	}
}

// TestClientURLWithPassword: what is refused because of a password is not told with it.
func TestClientURLWithPassword(t *testing.T) {
	_, err := clientOf(t, "-url", "https://me:sekret@hooks.example.com")
	if err == nil || !strings.HasSuffix(err.Error(), `-url must not hold a user name or password: credentials are set apart from the URL`) {
		t.Errorf("got %v", err)
	}
}

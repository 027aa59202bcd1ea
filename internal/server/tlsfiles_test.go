package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hookbolt/internal/config"
)

// TestTLSFilesOfTheConfiguration: a file of authorities or a directory that cannot be used keeps a server from starting, and says why.
func TestTLSFilesOfTheConfiguration(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(file, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ ca, dir, want string }{
		{"", "", ""},
		{"", dir, ""},
		{file, "", "delivery.ca_file: " + file + " must be PEM text"},
		{filepath.Join(dir, "none"), "", "delivery.ca_file: "},
		{"", file, "delivery.tls_dir: " + file + " is no directory"},
	} {
		c := config.Default()
		c.Storage.Path = filepath.Join(dir, "x.db")
		c.Delivery.CAFile, c.Delivery.TLSDir = tt.ca, tt.dir
		err := Check(&c)
		if (err == nil) != (tt.want == "") || err != nil && !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%q, %q: %v", tt.ca, tt.dir, err)
		}
		if e := engineConfig(&c, ""); e.CAFile != tt.ca || e.TLSDir != tt.dir {
			t.Errorf("the engine gets %q, %q", e.CAFile, e.TLSDir)
		}
	}
}

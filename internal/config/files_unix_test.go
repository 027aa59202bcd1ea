//go:build unix

package config

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// TestExposures: of the files with secrets, those that others may read or change are named, each once.
func TestExposures(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for name, text := range map[string]string{
		"tokens": "a-token-of-number-one\na-token-of-number-two\n", "hb.db": "", "key.pem": "k", "cert.pem": "c",
		"plain.toml":   "[storage]\npath = \"hb.db\"\n",
		"secret.toml":  "[http]\nadmin_tokens = [\"a-token-of-my-own\"]\n[storage]\npath = \"hb.db\"\n",
		"url.toml":     "[delivery]\noperations_url = \"https://a.example/token\"\n[storage]\npath = \"none.db\"\n",
		"files.toml":   "[http]\nadmin_tokens = []\nadmin_tokens_file = \"tokens\"\ntls_cert_file = \"cert.pem\"\ntls_key_file = \"key.pem\"\n",
		"default.toml": "",
	} {
		writeFile(t, filepath.Join(dir, name), text)
	}
	for _, tc := range []struct {
		file, modes, want string
		environ           []string
	}{
		{"secret.toml", "", "", nil},
		{"secret.toml", "secret.toml=0644", "secret.toml 0644 chmod go= secret.toml", nil},
		{"secret.toml", "secret.toml=0640", "secret.toml 0640 chmod go= secret.toml", nil},
		{"secret.toml", "secret.toml=0400", "", nil},
		{"secret.toml", "secret.toml=0700 hb.db=0660", "hb.db 0660 chmod go= hb.db", nil},
		{"secret.toml", "secret.toml=0602 hb.db=0604", "hb.db 0604 chmod go= hb.db; secret.toml 0602 chmod go= secret.toml", nil},
		{"plain.toml", "plain.toml=0644", "", nil},
		{"plain.toml", "plain.toml=0644", "", []string{"HOOKBOLT_HTTP_ADMIN_TOKENS=a-token-of-my-own"}},
		{"url.toml", "url.toml=0644", "url.toml 0644 chmod go= url.toml", nil},
		{"files.toml", "files.toml=0644 tokens=0644 key.pem=0640 cert.pem=0644", "key.pem 0640 chmod go= key.pem; tokens 0644 chmod go= tokens", nil},
		{"default.toml", "default.toml=0644", "", nil},
	} {
		for name := range strings.SplitSeq("tokens hb.db key.pem cert.pem "+tc.file, " ") {
			if err := os.Chmod(name, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for change := range strings.FieldsSeq(tc.modes) {
			var mode os.FileMode
			name, octal, _ := strings.Cut(change, "=")
			if _, err := fmt.Sscanf(octal, "%o", &mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(name, mode); err != nil {
				t.Fatal(err)
			}
		}
		cfg, from, err := (&Loader{Path: tc.file, Environ: tc.environ}).Load()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range cfg.Exposures(from) {
			got = append(got, fmt.Sprintf("%s %04o %s", e.Path, e.Mode.Perm(), e.Fix))
			if strings.Contains(e.String(), "token-of") {
				t.Errorf("it shows a secret: %s", e.String())
			}
		}
		if strings.Join(got, "; ") != tc.want {
			t.Errorf("%s with %s: got %q, want %q", tc.file, tc.modes, got, tc.want)
		}
	}
}

// TestExposureOfOthers: a file of somebody else is read through its group, as a Kubernetes secret with fsGroup is.
func TestExposureOfOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	writeFile(t, path, "a-token-of-my-own")
	if err := os.Chown(path, os.Geteuid()+1, -1); err != nil {
		t.Logf("only root may give a file away: %v", err)
		path = "/etc/hosts" // which is root's, and readable by all
		if e := ExposureOf(path); e == nil || e.Fix != "chmod g-w,o= "+path {
			t.Errorf("%s: %v", path, e)
		}
		return
	}
	for mode, exposed := range map[os.FileMode]bool{0o600: false, 0o440: false, 0o640: false, 0o444: true, 0o644: true, 0o660: true, 0o604: true} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if e := ExposureOf(path); (e != nil) != exposed || exposed && e.Fix != "chmod g-w,o= "+path {
			t.Errorf("%04o: %v; want exposed: %t", mode, e, exposed)
		}
	}
}

// TestNoRegularFile: a FIFO is refused and not waited for. A symbolic link is followed, as to the files of a Kubernetes secret.
func TestNoRegularFile(t *testing.T) {
	dir := t.TempDir()
	fifo, link := filepath.Join(dir, "fifo"), filepath.Join(dir, "link")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{fifo: "fifo is no regular file (p", dir: " is no regular file (d", os.DevNull: "/dev/null is no regular file (D"} {
		if _, err := ReadSecret(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("secret %s: %v", path, err)
		}
		if _, _, err := (&Loader{Path: path}).Load(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("settings %s: %v", path, err)
		}
		if _, _, err := (&Loader{Environ: []string{"HOOKBOLT_HTTP_ADMIN_TOKENS_FILE=" + path}}).Load(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("tokens %s: %v", path, err)
		}
	}
	// A client's token may come from another program.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString("piped-token\n"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if runtime.GOOS == "linux" {
		if token, err := ReadToken(fmt.Sprintf("/dev/fd/%d", r.Fd())); token != "piped-token" || err != nil {
			t.Errorf("a pipe: got %q, %v", token, err)
		}
	}
	// What the kubelet makes: token -> ..data/token, ..data -> ..2026_01_01.
	data := filepath.Join(dir, "..2026_01_01")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(data, "token"), "a-token-of-my-own\n")
	for _, err := range []error{os.Symlink("..2026_01_01", filepath.Join(dir, "..data")), os.Symlink("..data/token", link)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if token, err := ReadToken(link); token != "a-token-of-my-own" || err != nil {
		t.Errorf("got %q, %v", token, err)
	}
}

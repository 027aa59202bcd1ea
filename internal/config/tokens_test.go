package config

import (
	"maps"
	"path/filepath"
	"slices"
	"testing"
)

// TestNamedTokens: a token has a name in front of it in the file, in the environment and in a file of its own. What could be a token before
// there were names is one still.
func TestNamedTokens(t *testing.T) {
	file := writeFile(t, filepath.Join(t.TempDir(), "tokens"), "alice admin-token-number-1\nadmin-token:number=2\r\nbob\tadmin-token-number-3\n")
	for _, l := range []*Loader{
		{Path: writeFile(t, filepath.Join(t.TempDir(), "config.toml"), "[http]\nadmin_tokens = [\"alice admin-token-number-1\", \"admin-token:number=2\", \"bob  admin-token-number-3\"]")},
		{Environ: []string{"HOOKBOLT_HTTP_ADMIN_TOKENS=alice admin-token-number-1, admin-token:number=2,bob admin-token-number-3"}},
		{Environ: []string{"HOOKBOLT_HTTP_ADMIN_TOKENS_FILE=" + file}},
	} {
		cfg, _, err := l.Load()
		if err != nil {
			t.Error(err)
			continue
		}
		tokens, names := Tokens(cfg.HTTP.AdminTokens...)
		if !slices.Equal(tokens, []string{"admin-token-number-1", "admin-token:number=2", "admin-token-number-3"}) ||
			!maps.Equal(names, map[string]string{"admin-token-number-1": "alice", "admin-token-number-3": "bob"}) {
			t.Errorf("%q %q", tokens, names)
		}
	}
	if token, err := ReadToken(file); err != nil || token != "admin-token-number-1" {
		t.Errorf("%q, %v", token, err)
	}
}

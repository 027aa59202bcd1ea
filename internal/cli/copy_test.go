package cli_test

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.etcd.io/bbolt"

	"hookbolt/internal/hookbolttest"
	"hookbolt/internal/postgrestest"
)

// A user outgrows the file, and comes back.
func TestCopyAndCheckPostgres(t *testing.T) {
	cluster := postgrestest.Shared(t)
	schema, path := cluster.Schema(t), makeDatabase(t, 20)
	config := hookbolttest.Write(t, filepath.Join(t.TempDir(), "postgres.toml"), fmt.Sprintf("[storage]\ndriver = \"postgres\"\npostgres_url = %q\npostgres_schema = %q\n", cluster.URL(), schema))
	back := filepath.Join(t.TempDir(), "back.db")
	ok := func(want string, args ...string) {
		t.Helper()
		if code, stdout, stderr := hookbolttest.Run(t, args...); code != 0 || stderr != "" || !regexp.MustCompile(want).MatchString(stdout) {
			t.Errorf("%q: %d, %q, %q, want %q", args, code, stdout, stderr, want)
		}
	}
	refused := func(want string, args ...string) {
		t.Helper()
		if code, _, stderr := hookbolttest.Run(t, args...); code != 1 || !regexp.MustCompile(want).MatchString(stderr) || strings.Contains(stderr, cluster.URL()) {
			t.Errorf("%q: %d, %q, want %q", args, code, stderr, want)
		}
	}
	refused(`no tables of hookbolt`, "check", "-config", config, "postgres")
	refused(`no tables of hookbolt`, "copy", "-config", config, "postgres", back)
	ok(`(?m)^sessions +20 +20  [0-9a-f]{16} [0-9a-f]{16}$[\s\S]*^ok: copied and compared in \d+s\n$`, "copy", "-config", config, path, "postgres")
	ok(`^ok: 20 sessions, 20 deliveries, 1 webhooks\n$`, "check", "-config", config, "postgres")
	ok(`^ok: 20 sessions`, "check", "-schema", schema, cluster.URL())
	refused(`^hookbolt: copy: copy to the database: the target holds data already: the table webhooks of the schema "?`+schema, "copy", "-schema", schema, path, cluster.URL())
	ok(`(?m)^ok: copied`, "copy", "-config", config, "postgres", back)
	ok(`^ok: 20 sessions, 20 deliveries, 1 webhooks`, "check", back)
	refused(`back.db: the target holds data already`, "copy", "-config", config, "postgres", back)
	refused(`the same file`, "copy", path, path)
	refused(`set storage.driver = "postgres"`, "copy", path, "postgres")
	refused(`no such file`, "copy", filepath.Join(t.TempDir(), "no.db"), back)

	conn, err := pgx.Connect(t.Context(), cluster.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	tables := pgx.Identifier{schema}.Sanitize()
	for _, sql := range []string{"DELETE FROM " + tables + ".queue", "UPDATE " + tables + ".sessions SET head = '\\x00' WHERE no = 1"} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	code, stdout, stderr := hookbolttest.Run(t, "check", "-config", config, "postgres")
	if code != 1 || strings.Count(stdout, "not at its place in the queue\n") != 20 || strings.Count(stdout, "stored record is damaged: session ") != 1 || !strings.HasPrefix(stderr, "hookbolt: check: the database is damaged") {
		t.Errorf("check of a damaged database: %d, %q, %q", code, stdout, stderr)
	}
	refused(`(?s)not at its place in the queue.*the source has damaged records, which a copy cannot have: see above`, "copy", "-config", config, "postgres", filepath.Join(t.TempDir(), "x.db"))
	code, stdout, stderr = hookbolttest.Run(t, "copy", "-leave-out-damaged", "-config", config, "postgres", filepath.Join(t.TempDir(), "x.db"))
	if code != 0 || !strings.Contains(stderr, "left out: stored record is damaged: session ") || !regexp.MustCompile(`(?m)^sessions +19 +19 `).MatchString(stdout) {
		t.Errorf("copy without damaged records: %d, %q, %q", code, stdout, stderr)
	}
}

// A damaged file is refused, and each damaged record named. It is copied without them if that is asked for.
func TestCopyOfDamagedFile(t *testing.T) {
	cluster := postgrestest.Shared(t)
	path := makeDatabase(t, 5)
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("deliveries"))
		k, v := b.Cursor().First()
		v = append([]byte{}, v...)
		v[10] ^= 1
		return b.Put(append([]byte{}, k...), v)
	})
	if err == nil {
		err = db.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	schema := cluster.Schema(t)
	code, _, stderr := hookbolttest.Run(t, "copy", "-schema", schema, path, cluster.URL())
	if code != 1 || !strings.Contains(stderr, "deliveries 0000000000000001: checksum mismatch") || !strings.Contains(stderr, "-leave-out-damaged") {
		t.Errorf("a damaged file: %d, %q", code, stderr)
	}
	code, stdout, stderr := hookbolttest.Run(t, "copy", "-leave-out-damaged", "-schema", schema, path, cluster.URL())
	if code != 0 || !strings.Contains(stderr, "left out: ") || !regexp.MustCompile(`(?m)^deliveries +4 +4 `).MatchString(stdout) {
		t.Errorf("without the damaged record: %d, %q, %q", code, stdout, stderr)
	}
	if code, stdout, stderr := hookbolttest.Run(t, "check", "-schema", schema, cluster.URL()); code != 0 {
		t.Errorf("check: %d, %q, %q", code, stdout, stderr)
	}
}

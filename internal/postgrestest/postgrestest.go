// Package postgrestest runs PostgreSQL for tests: a throw-away cluster, made from the installed binaries.
//
// A test binary has one cluster, which [Shared] starts at the first call. Each test uses a schema of its own; see [Cluster.Schema]. A cluster has a
// watchdog, a shell that holds one end of a pipe: it stops the server and removes its files when the test binary ends, also if that is killed.
//
// Without PostgreSQL, tests are left out, and say so with -v. If HOOKBOLT_REQUIRE_POSTGRES is 1, that is an error.
package postgrestest

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// requireVar is the environment variable that makes it an error if PostgreSQL is missing.
const requireVar = "HOOKBOLT_REQUIRE_POSTGRES"

// startTimeout bounds how long a cluster may take to start. A slow machine makes one in some seconds.
const startTimeout = 2 * time.Minute

// Options configure a Cluster.
type Options struct {
	// Durable turns fsync on. Tests that kill no server are faster without it.
	Durable bool
	// Checksums has the server check its pages.
	Checksums bool
	// Settings are further lines of postgresql.conf, such as "max_connections = 20".
	Settings []string
	// Replicates lets the server have standbys; see [Cluster.Standby].
	Replicates bool
	// WAL is an empty directory for the write-ahead log, see AsServer. Defaults to one beside the data.
	WAL string

	primary *Cluster // for a standby
	name    string   // of the standby, by which the primary knows it
}

// Cluster is a running server. Its superuser is "hookbolt", its database "hookbolt".
type Cluster struct {
	dir  string
	bin  string
	hold *os.File // the pipe whose end the watchdog waits for
	cmd  *exec.Cmd

	admin Database // has no schema

	filing    sync.Mutex
	layout    string      // guarded by filing; of the first schema that a Database has emptied
	databases []*Database // guarded by filing; nobody uses them

	mu      sync.Mutex     // held while the watchdog is told something
	answers *bufio.Scanner // a line for each word that it was told
	out     *os.File       // what answers reads
}

// shared is the cluster of the test binary, durable the one with fsync.
var (
	shared  = sync.OnceValues(func() (*Cluster, error) { return start(Options{}) })
	durable = sync.OnceValues(func() (*Cluster, error) { return start(Options{Durable: true}) })
)

// Shared returns the cluster that the tests of a binary share. It is not durable. It starts it at the first call.
func Shared(tb testing.TB) *Cluster {
	tb.Helper()
	c, err := shared()
	return found(tb, c, err)
}

// SharedDurable is Shared with Options.Durable, which is another cluster.
func SharedDurable(tb testing.TB) *Cluster {
	tb.Helper()
	c, err := durable()
	return found(tb, c, err)
}

// Start starts a cluster for one test, and stops it at its end.
func Start(tb testing.TB, o Options) *Cluster {
	tb.Helper()
	c, err := start(o)
	c = found(tb, c, err)
	tb.Cleanup(c.stop)
	return c
}

// Standby starts a server that replicates what c does, and stops it at the end of the test. The primary knows it by a name, which synchronous_standby_names may
// have. o is as for c.
func (c *Cluster) Standby(tb testing.TB, name string, o Options) *Cluster {
	tb.Helper()
	o.primary, o.name = c, name
	return Start(tb, o)
}

// Promote makes a standby a primary, and returns when it takes writes.
func (c *Cluster) Promote() error { return c.await(startTimeout, "SELECT pg_promote()") }

// errMissing is returned by start if PostgreSQL is not installed.
var errMissing = errors.New("PostgreSQL is not installed: no initdb in PATH, /usr/lib/postgresql or /usr/local")

// found skips the test if there is no PostgreSQL, and fails it if one could not be started.
func found(tb testing.TB, c *Cluster, err error) *Cluster {
	tb.Helper()
	switch {
	case errors.Is(err, errMissing) && os.Getenv(requireVar) != "1":
		tb.Skipf("left out: %v (%s=1 makes this an error)", err, requireVar)
	case err != nil:
		tb.Fatalf("start PostgreSQL: %v", err)
	}
	return c
}

// URL returns the URL of the database.
func (c *Cluster) URL() string {
	return (&url.URL{Scheme: "postgres", User: url.User("hookbolt"), Path: "/hookbolt", RawQuery: url.Values{"host": {c.dir}}.Encode()}).String()
}

// Dir returns the directory of the server's socket, whose name is .s.PGSQL.5432.
func (c *Cluster) Dir() string { return c.dir }

// schemas counts the schemas of this process.
var schemas atomic.Int64

// Schema returns the name of a schema that nobody uses. It does not create it, but drops it at the end of a test.
func (c *Cluster) Schema(tb interface{ Cleanup(func()) }) string {
	name := newSchema()
	tb.Cleanup(func() {
		_ = c.admin.exec(`DROP SCHEMA IF EXISTS ` + pgx.Identifier{name}.Sanitize() + ` CASCADE`) // the cluster is thrown away
	})
	return name
}

func newSchema() string { return fmt.Sprintf("test %d", schemas.Add(1)) } // the space shows where a name is not quoted

// script is the watchdog. It makes and runs the server, stops and starts it as it is told, and ends it when its standard input ends. The binaries' directory
// and that of the cluster come by arguments, then how to reach the primary of a standby, or nothing, then more for initdb. A test binary that is killed must not end it by a signal.
const script = `
trap '' PIPE
bin=$1 dir=$2 primary=$3
shift 3
make() {
	if [ -n "$primary" ]; then
		"$bin/pg_basebackup" -D "$dir/data" -d "$primary" -R -c fast --no-sync
	else
		"$bin/initdb" -D "$dir/data" -A trust -U hookbolt -E UTF8 --locale=C --no-sync "$@"
	fi
}
make "$@" >"$dir/log" 2>&1 &&
cat "$dir/conf" >>"$dir/data/postgresql.conf" || { cat >/dev/null; rm -rf "$dir"; exit 1; }
serve() {
	"$bin/postgres" -D "$dir/data" >>"$dir/log" 2>&1 &
	server=$!
}
end() {
	kill -$1 $server 2>/dev/null
	wait $server
}
serve
while read -r word; do
	case $word in
	start) serve ;;
	*) end $word ;;
	esac
	echo "$word"
done
end QUIT
rm -rf "$dir"
`

func start(o Options) (*Cluster, error) {
	bin := binaries()
	if bin == "" {
		return nil, errMissing
	}
	dir, err := os.MkdirTemp("", "hbpg") // short, for the path of the socket
	if err != nil {
		return nil, err
	}
	settings := append([]string{"listen_addresses = ''", "unix_socket_directories = '" + dir + "'", "port = 5432", "max_connections = 300", "shared_buffers = 64MB",
		"wal_level = minimal", "max_wal_senders = 0", "max_wal_size = 512MB"}, o.Settings...)
	primary, ready := "", "CREATE DATABASE hookbolt"
	if o.primary != nil {
		primary, ready = fmt.Sprintf("host=%s user=hookbolt dbname=postgres application_name=%s", o.primary.dir, o.name), "SELECT"
	}
	if o.Replicates {
		settings = append(settings, "wal_level = replica", "max_wal_senders = 5")
	}
	if !o.Durable {
		settings = append(settings, "fsync = off", "full_page_writes = off")
	}
	if err := os.WriteFile(filepath.Join(dir, "conf"), []byte(strings.Join(settings, "\n")+"\n"), 0o644); err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	c := &Cluster{dir: dir, bin: bin, hold: w, cmd: exec.Command("/bin/sh", "-c", script, "sh", bin, dir, primary)}
	c.admin.cluster = c
	if o.WAL != "" {
		c.cmd.Args = append(c.cmd.Args, "-X", o.WAL)
	}
	if o.Checksums {
		c.cmd.Args = append(c.cmd.Args, "--data-checksums")
	}
	c.cmd.Stdin, c.cmd.Dir = r, dir
	if err := asUser(c.cmd, dir, filepath.Join(dir, "conf")); err != nil {
		return nil, err
	}
	out, said, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer said.Close()
	c.out, c.answers, c.cmd.Stdout = out, bufio.NewScanner(out), said
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	if err := c.await(startTimeout, ready); err != nil {
		defer c.stop()
		return nil, fmt.Errorf("%w\n%s", err, c.Log())
	}
	return c, nil
}

// Log returns what the server has said.
func (c *Cluster) Log() string {
	log, _ := os.ReadFile(filepath.Join(c.dir, "log")) // it is for the message of a failed test
	return string(log)
}

// await waits until the server answers, and runs a statement.
func (c *Cluster) await(patience time.Duration, statement string) error {
	admin := strings.Replace(c.URL(), "/hookbolt?", "/postgres?", 1)
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		conn, err := pgx.Connect(ctx, admin)
		if err == nil {
			_, err = conn.Exec(ctx, statement)
			err = errors.Join(err, conn.Close(ctx))
		}
		cancel()
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}

// Signals for Stop.
const (
	Immediately = "QUIT" // as pg_ctl stop -m immediate does: as if it had crashed
	Fast        = "INT"  // sessions are ended, and the server stops in order
)

// Stop stops the server by a signal and waits for its end. It may have ended by itself.
func (c *Cluster) Stop(signal string) error { return c.tell(signal) }

// Restart starts a server that was stopped, and waits until it answers.
func (c *Cluster) Restart() error {
	if err := c.tell("start"); err != nil {
		return err
	}
	return c.Await()
}

// Await waits until a server that was started, or that recovers, answers.
func (c *Cluster) Await() error {
	if err := c.await(startTimeout, "SELECT"); err != nil {
		return fmt.Errorf("%w\n%s", err, c.Log())
	}
	return nil
}

// tell tells the watchdog a word and waits until it has done it.
func (c *Cluster) tell(word string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.out.SetReadDeadline(time.Now().Add(startTimeout)); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(c.hold, word); err != nil {
		return fmt.Errorf("tell the watchdog: %w", err)
	}
	if !c.answers.Scan() {
		log := strings.Split(strings.TrimSpace(c.Log()), "\n")
		return fmt.Errorf("the watchdog was told %s: %w; the server's log ends with\n%s", word, cmp.Or(c.answers.Err(), io.EOF), strings.Join(log[max(0, len(log)-40):], "\n"))
	}
	return nil
}

// AsServer lets a command run as the user that servers run as, in a session of its own, and gives that user files.
func AsServer(cmd *exec.Cmd, paths ...string) error { return asUser(cmd, paths...) }

// stop ends the server, by force where it does not end for a minute.
func (c *Cluster) stop() {
	c.hold.Close()
	force := time.AfterFunc(time.Minute, func() {
		kill(c.cmd)
		_ = os.RemoveAll(c.dir)
	})
	defer force.Stop()
	_ = c.cmd.Wait() // the server was ended by a signal
	c.out.Close()
}

// binaries returns the directory of the newest installed server; "" if there is none.
func binaries() string {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(path)
		}
	}
	var all []string
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin/initdb", "/usr/pgsql-*/bin/initdb", "/usr/local/pgsql*/bin/initdb", "/usr/local/bin/initdb",
		"/usr/local/opt/postgresql*/bin/initdb", "/opt/homebrew/opt/postgresql*/bin/initdb"} {
		found, _ := filepath.Glob(pattern) // the patterns are well-formed
		all = append(all, found...)
	}
	if len(all) == 0 {
		return ""
	}
	return filepath.Dir(slices.MaxFunc(all, func(a, b string) int { return cmp.Compare(version(a), version(b)) }))
}

// version returns the number in a path such as /usr/lib/postgresql/15/bin/initdb; 0 if there is none.
func version(path string) int {
	for part := range strings.FieldsFuncSeq(path, func(r rune) bool { return r < '0' || r > '9' }) {
		if n, err := strconv.Atoi(part); err == nil {
			return n
		}
	}
	return 0
}

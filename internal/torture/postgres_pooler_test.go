package torture

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hookbolt/internal/postgrestest"
)

// poolerEnv names the PgBouncer to use; else it is looked for in PATH.
const poolerEnv = "HOOKBOLT_PGBOUNCER"

// pgbouncer returns the path of a PgBouncer, and whether it is 1.21 or later: from then on prepared statements work in transaction mode.
func pgbouncer(t *testing.T) (path string, suits bool) {
	t.Helper()
	path = os.Getenv(poolerEnv)
	if path == "" {
		var err error
		if path, err = exec.LookPath("pgbouncer"); err != nil {
			if path, err = exec.LookPath("/usr/sbin/pgbouncer"); err != nil {
				t.Skipf("left out: no pgbouncer in PATH, and no %s", poolerEnv)
			}
		}
	}
	said, err := exec.CommandContext(t.Context(), path, "--version").Output()
	var major, minor int
	if err == nil {
		_, err = fmt.Sscanf(string(said), "PgBouncer %d.%d", &major, &minor)
	}
	if err != nil {
		t.Fatalf("%s --version: %v", path, err)
	}
	return path, major > 1 || minor >= 21
}

// PgBouncer stands in between in transaction mode, with few connections to the server, and is killed and started again under load: as without it. An older
// one, which knows no prepared statements, is refused at the start.
func TestPostgresPooler(t *testing.T) {
	experiment(t)
	path, suits := pgbouncer(t)
	if !suits {
		p := startPooler(t, path)
		g := newRig(t, rigOptions{binary: build(t), schema: p.rig(t)})
		for range 2 { // the second time it finds what the first one has left in the pool
			if wrong := refuses(g.launch(), "it must be PgBouncer 1.21 or later"); wrong != "" {
				t.Error(wrong)
			}
		}
		summarize(t, "PgBouncer: left out: %s is older than 1.21 (%s names another one); hookbolt refuses it", path, poolerEnv)
		return
	}
	var total verdict
	var n int
	for round := range scale(1, 5) {
		v, kills := poolerRound(t, path, build(t), random(t, "adversary", round), scale(6, 20), 20*time.Second)
		total.add(v)
		n += kills
	}
	summarize(t, "PgBouncer in transaction mode: %d times killed; %v", n, &total)
	total.hold(t)
	if total.Unrecorded > 0 {
		t.Errorf("%d attempts were unrecorded", total.Unrecorded)
	}
}

func TestPostgresPoolerControl(t *testing.T) {
	experiment(t)
	path, suits := pgbouncer(t)
	if !suits || !*longForm {
		t.Skipf("left out: in the long form only, and from 1.21 on: %s", path) // the mutant is that of TestPostgresCutControl
	}
	line := caught(t, "no settling", func(r *rand.Rand) *verdict {
		v, _ := poolerRound(t, path, build(t, unsettledPostgres...), r, 15, 8*time.Second)
		return v
	})
	if line != "" {
		summarize(t, "PgBouncer, control %q: caught: %s", "no settling", firstLines(line, 1))
	}
}

// pooler is a PgBouncer in front of the shared server.
type pooler struct {
	path, dir string
	cluster   *postgrestest.Cluster
	cmd       *exec.Cmd
	port      int
	log       bytes.Buffer
}

func startPooler(t *testing.T, path string) *pooler {
	t.Helper()
	dir, err := os.MkdirTemp("", "hbpb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	p := &pooler{path: path, dir: dir, cluster: postgrestest.SharedDurable(t), port: l.Addr().(*net.TCPAddr).Port}
	files := map[string]string{"users": "\"hookbolt\" \"\"\n", "ini": fmt.Sprintf("[databases]\nhookbolt = host=%s user=pooled\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %d\n"+
		"unix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 4\nignore_startup_parameters = extra_float_digits\nserver_login_retry = 0.2\n", p.cluster.Dir(), p.port)}
	if _, suits := pgbouncer(t); suits {
		files["ini"] += "max_prepared_statements = 200\n"
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p.start(t)
	t.Cleanup(p.kill)
	return p
}

func (p *pooler) start(t *testing.T) {
	t.Helper()
	p.cmd = exec.Command(p.path, filepath.Join(p.dir, "ini"))
	p.cmd.Stderr = &p.log
	err := postgrestest.AsServer(p.cmd, p.dir)
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", p.port)
	if !await(10*time.Second, func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}) {
		t.Fatalf("pgbouncer does not listen:\n%s", p.log.String())
	}
}

func (p *pooler) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait() // it was killed
}

// rig is a schema that is reached through it, with a role whose settings are made at the start.
func (p *pooler) rig(t *testing.T) *schema {
	t.Helper()
	who := newRole(t, p.cluster)
	ini, err := os.ReadFile(filepath.Join(p.dir, "ini"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(ini), "user=pooled", "user='"+strings.Trim(who.name, `"`)+"'", 1)
	if err := os.WriteFile(filepath.Join(p.dir, "ini"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	p.kill()
	p.start(t)
	who.schema.url = (&url.URL{Scheme: "postgres", User: url.User("hookbolt"), Host: fmt.Sprintf("127.0.0.1:%d", p.port), Path: "/hookbolt", RawQuery: "sslmode=disable"}).String()
	return who.schema
}

// poolerRound kills the pooler of a rig under load n times, and the server's processes behind it.
func poolerRound(t *testing.T, path, binary string, r *rand.Rand, n int, patience time.Duration) (v *verdict, kills int) {
	p := startPooler(t, path)
	g := newRig(t, rigOptions{binary: binary, schema: p.rig(t), manner: difficult})
	s := g.setUp()
	load := g.produce(16)
	for i := range n {
		pass(between(r, 50*time.Millisecond, 400*time.Millisecond), s.exited)
		if kills++; r.IntN(3) > 0 {
			p.kill()
			pass(between(r, 0, 200*time.Millisecond), nil)
			p.start(t)
		} else if err := execute(t, g.opts.schema.direct, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename LIKE 'role %' AND application_name = 'hookbolt'"); err != nil {
			t.Error(err)
		}
		if _, err := g.takenIn(s, patience); err != nil {
			g.books.complain("kill %d: %v\n%s", i+1, err, p.log.String())
			return g.abandon(load), kills
		}
	}
	load.halt()
	return g.finish(s), kills
}

package torture

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"hookbolt/internal/postgrestest"
	"hookbolt/internal/torture/lossyfs"
)

// carefreePostgres answers callers whose change found no room as if it were stored.
var carefreePostgres = mutantFlock.shared("postgres-carefree", edit{file: "storage/postgres/writer.go", old: "\t\t\tanswerAll(left, fmt.Errorf(\"%w: the database server has none\", engine.ErrFull))\n",
	new: "\t\t\tanswerAll(left, mutated(\"postgres-carefree\", nil, fmt.Errorf(\"%w: the database server has none\", engine.ErrFull)))\n"})

// The disk of the database is full under load, and has room again: events are refused by 503 and by nothing else, what was acknowledged is delivered, and events
// are taken in again by themselves. Where it is the disk of the log, the server ends, and is started again; hookbolt goes on all the time.
func TestPostgresFullDisk(t *testing.T) {
	experiment(t)
	binary := build(t)
	var fill databaseFillings
	total := fill.tables(t, binary, scale(1, 10), false)
	if *longForm {
		total.add(fill.log(t, binary, 5))
	}
	summarize(t, "PostgreSQL, full disk: %v; %v", &fill, total)
	total.hold(t)
	if total.Unrecorded > 0 {
		t.Errorf("%d attempts were unrecorded", total.Unrecorded)
	}
}

func TestPostgresFullDiskControl(t *testing.T) {
	experiment(t)
	var fill databaseFillings
	line := caught(t, "no room, and no word", func(*rand.Rand) *verdict { return fill.tables(t, build(t, carefreePostgres...), 1, true) })
	if line != "" {
		summarize(t, "PostgreSQL, full disk, control %q: caught: %s", "no room, and no word", firstLines(line, 1))
	}
}

// databaseFillings counts what happened.
type databaseFillings struct {
	times, ended, refused int
	slowest               time.Duration // until events were taken in again
}

func (c *databaseFillings) String() string {
	return fmt.Sprintf("%d times, in %d of which the server ended, %d requests refused by 503, nothing else; events taken in again at most %v after there was room", c.times, c.ended,
		c.refused, c.slowest.Round(time.Millisecond))
}

// smallDisk is a file system with little room, in memory, with a file that takes what it is to lack.
type smallDisk struct{ dir, ballast string }

func newSmallDisk(t *testing.T, size string) *smallDisk {
	t.Helper()
	lossyfs.Require(t) // who may mount that may mount this
	d := &smallDisk{dir: t.TempDir()}
	for dir := d.dir; dir != os.TempDir() && len(dir) > 1; dir = filepath.Dir(dir) { // the server's user must get there
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mount("tmpfs", d.dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatalf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(d.dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	d.ballast = filepath.Join(d.dir, "ballast")
	return d
}

// leave leaves so many bytes of room.
func (d *smallDisk) leave(room int64) error {
	var s syscall.Statfs_t
	if err := syscall.Statfs(d.dir, &s); err != nil {
		return err
	}
	err := os.WriteFile(d.ballast, make([]byte, max(int64(s.Bavail)*s.Bsize-room, 0)), 0o600)
	if errors.Is(err, syscall.ENOSPC) { // the server was faster: it is full already
		return nil
	}
	return err
}

func (d *smallDisk) clear() error { return os.Remove(d.ballast) }

// owned is a directory on it that belongs to the server.
func (d *smallDisk) owned(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(d.dir, name)
	err := os.Mkdir(path, 0o700)
	if err == nil {
		err = postgrestest.AsServer(new(exec.Cmd), path)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// tables fills the disk of the tables.
func (c *databaseFillings) tables(t *testing.T, binary string, times int, enough bool) *verdict {
	d := newSmallDisk(t, "96m")
	cluster := postgrestest.Start(t, postgrestest.Options{Durable: true})
	for _, text := range []string{fmt.Sprintf("CREATE TABLESPACE small LOCATION '%s'", d.owned(t, "tables")), "CREATE DATABASE small TABLESPACE small"} {
		if err := execute(t, cluster.URL(), text); err != nil {
			t.Fatal(err)
		}
	}
	opts := rigOptions{binary: binary, schema: newSchema(t, cluster)}
	opts.schema.direct = strings.Replace(cluster.URL(), "/hookbolt?", "/small?", 1)
	opts.schema.url = opts.schema.direct
	return c.round(t, opts, d, times, enough, func(load *refusable, s *server) error {
		if !await(30*time.Second, func() bool { return load.count(http.StatusServiceUnavailable) > 0 || !s.running() }) {
			return fmt.Errorf("no request was refused")
		}
		if why := notReady(s); !strings.HasPrefix(why, "200") && !strings.Contains(why, "no space") && !strings.Contains(why, "full") {
			return fmt.Errorf("/readyz says: %s", why)
		}
		return nil
	}, nil)
}

// log fills the disk of the write-ahead log: the server cannot go on then.
func (c *databaseFillings) log(t *testing.T, binary string, times int) *verdict {
	d := newSmallDisk(t, "160m")
	cluster := postgrestest.Start(t, postgrestest.Options{Durable: true, WAL: d.owned(t, "wal"), Settings: []string{"max_wal_size = 64MB", "min_wal_size = 32MB", "wal_recycle = off"}})
	opts := rigOptions{binary: binary, schema: newSchema(t, cluster)}
	return c.round(t, opts, d, times, false, func(load *refusable, s *server) error {
		if !await(90*time.Second, func() bool { return load.count(http.StatusServiceUnavailable) > 0 || !s.running() }) {
			return fmt.Errorf("no request was refused")
		}
		c.ended++
		return nil
	}, func() error { // as an operator does
		if err := cluster.Stop(postgrestest.Immediately); err != nil {
			return err
		}
		return cluster.Restart()
	})
}

// round fills the disk of a rig so many times and makes room again, after which repair is called.
func (c *databaseFillings) round(t *testing.T, opts rigOptions, d *smallDisk, times int, enough bool, isFull func(*refusable, *server) error, repair func() error) *verdict {
	opts.manner = difficult
	g := newRig(t, opts)
	s := g.setUp()
	load := g.refusable(16, 4000)
	ok := true
	wrong := func(err error) bool {
		if err == nil && !s.running() {
			err = fmt.Errorf("it ended by itself with code %d:\n%s", s.exitCode(), s.log)
		}
		if err != nil {
			ok = false
			g.books.complain("%v", err)
		}
		return err != nil
	}
	for n := 0; n < times && ok; n++ {
		c.times++
		load.forget()
		if wrong(d.leave(512<<10)) || wrong(isFull(load, s)) {
			break
		}
		pass(fullFor, s.exited)
		accepted := load.count(http.StatusAccepted)
		if wrong(d.clear()) || repair != nil && wrong(repair()) {
			break
		}
		began := time.Now()
		await(4*maxReturn, func() bool { return load.count(http.StatusAccepted) > accepted })
		took := time.Since(began)
		if c.slowest = max(c.slowest, took); took > maxReturn && !enough {
			wrong(fmt.Errorf("no events are taken in, %v after there was room", took))
		}
		c.refused += load.count(http.StatusServiceUnavailable)
	}
	if enough || !ok {
		s.kill()
		g.giveUp()
		load.halt()
		_ = d.clear() // it may be cleared already
		g.afterCut(false)
		return g.verdict()
	}
	load.halt()
	return g.finish(s)
}

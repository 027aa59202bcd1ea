package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hookbolt/engine"
)

// snapshot stands in for a copy of a database.
type snapshot struct {
	*bytes.Reader
	closed int
}

func (s *snapshot) Close() error { s.closed++; return nil }

func TestBackup(t *testing.T) {
	var made []*snapshot
	content := bytes.Repeat([]byte("page "), 100_000)
	f := newFixture(t, Config{Backup: func(context.Context) (Snapshot, error) {
		made = append(made, &snapshot{Reader: bytes.NewReader(content)})
		return made[len(made)-1], nil
	}})
	rec := f.do("GET", "/v1/backup", "")
	if rec.Code != 200 || !bytes.Equal(rec.Body.Bytes(), content) || rec.Header().Get("Content-Length") != "500000" {
		t.Errorf("%d with %d bytes, announced as %s", rec.Code, rec.Body.Len(), rec.Header().Get("Content-Length"))
	}
	if len(made) != 1 || made[0].closed != 1 {
		t.Errorf("%d snapshots, closed: %v", len(made), made)
	}
	head := f.do("HEAD", "/v1/backup", "")
	if head.Code != 200 || len(made) != 1 {
		t.Errorf("HEAD: %d, %d snapshots", head.Code, len(made))
	}
	for name, pattern := range map[string]string{"Content-Type": `^application/octet-stream$`,
		"Content-Disposition": `^attachment; filename="hookbolt-\d{8}T\d{6}Z\.db"$`, "Cache-Control": "^no-store$"} {
		for _, h := range []http.Header{rec.Header(), head.Header()} {
			if got := h.Get(name); !regexp.MustCompile(pattern).MatchString(got) {
				t.Errorf("%s: %q", name, got)
			}
		}
	}
	wantInputProblem(t, f.do("GET", "/v1/backup?since=x", ""), 0, "since", "takes none")
	wantProblem(t, newFixture(t, Config{}).do("GET", "/v1/backup", ""), 404)
}

func TestBackupRefused(t *testing.T) {
	for status, err := range map[int]error{
		409: fmt.Errorf("%w: another backup is being made", engine.ErrConflict),
		503: fmt.Errorf("%w: closed", engine.ErrUnavailable),
		507: fmt.Errorf("%w: a backup needs more", engine.ErrFull),
		500: errors.New("secret of the inside"),
	} {
		f := newFixture(t, Config{Backup: func(context.Context) (Snapshot, error) { return nil, err }})
		rec := f.do("GET", "/v1/backup", "")
		if p := wantProblem(t, rec, status); strings.Contains(p.Detail, "secret") {
			t.Errorf("detail %q", p.Detail)
		}
		if got := rec.Header().Get("Content-Disposition"); got != "" {
			t.Errorf("a problem is a file: %s", got)
		}
	}
}

// A client that goes on reading gets the whole of a backup, however long it takes; one that does not is cut off, and its copy goes.
// A server whose data is elsewhere says what to use instead.
func TestBackupElsewhere(t *testing.T) {
	f := newFixture(t, Config{NoBackup: "use pg_dump"})
	rec := f.do("GET", "/v1/backup", "")
	wantProblem(t, rec, 409)
	if !strings.Contains(rec.Body.String(), `"detail":"use pg_dump"`) {
		t.Errorf("%s", rec.Body)
	}
	if head := f.do("HEAD", "/v1/backup", ""); head.Code != 409 {
		t.Errorf("HEAD: %d", head.Code)
	}
}

func TestBackupToSlowClients(t *testing.T) {
	for _, stalls := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := &snapshot{Reader: bytes.NewReader(make([]byte, 10*backupStep))}
			f := newFixture(t, Config{Backup: func(context.Context) (Snapshot, error) {
				time.Sleep(10 * time.Minute) // it is large
				return s, nil
			}})
			conn := startServer(t, f)()
			fmt.Fprint(conn, "GET /v1/backup HTTP/1.1\r\nHost: localhost\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			buf := make([]byte, backupStep)
			for err == nil {
				pause := 50 * time.Second
				if stalls && n >= 3*backupStep {
					pause = 2 * time.Minute
				}
				time.Sleep(pause)
				var m int
				m, err = io.ReadFull(resp.Body, buf)
				n += m
			}
			if whole := n == 10*backupStep && err == io.EOF; whole == stalls {
				t.Errorf("stalls: %t; %d bytes, then %v", stalls, n, err)
			}
			synctest.Wait()
			if s.closed != 1 {
				t.Errorf("closed %d times", s.closed)
			}
		})
	}
}

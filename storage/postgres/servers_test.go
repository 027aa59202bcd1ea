package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
	"hookbolt/internal/postgrestest"
)

// urlOf names servers by host and port, with further settings.
func urlOf(hosts, ports []string, more string) string {
	return fmt.Sprintf("host=%s port=%s user=hookbolt dbname=hookbolt sslmode=disable %s", strings.Join(hosts, ","), strings.Join(ports, ","), more)
}

// A server that is named first and answers nothing does not keep the others from being tried, and is not waited for again.
func TestSilentServerBeforeAnother(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing, as a machine that hangs
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	_, port, _ := net.SplitHostPort(silent.Addr().String())
	c := postgrestest.Shared(t)
	s, err := Open(t.Context(), Options{URL: urlOf([]string{"127.0.0.1", c.Dir()}, []string{port, "5432"}, ""), Schema: c.Schema(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.servers.host() != c.Dir() {
		t.Errorf("it is connected to %s", s.servers.host())
	}
	began := time.Now()
	conn, err := s.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	closeConn(conn)
	if took := time.Since(began); took > addressTimeout/2 {
		t.Errorf("the next connection took %v: it waits for the silent server again", took)
	}
}

// Each server has its own time and its own TLS, whatever the URL says of the kind of server.
func TestServersOfAURL(t *testing.T) {
	for _, tc := range []struct {
		url  string
		want []string
	}{
		{"postgres://u@a.example.com,b.example.com:5433/db?sslmode=verify-full", []string{"a.example.com:5432 tls a.example.com", "b.example.com:5433 tls b.example.com"}},
		{"postgres://u@127.0.0.1,127.0.0.2/db?sslmode=prefer&target_session_attrs=any", []string{"127.0.0.1:5432 tls, then plain", "127.0.0.2:5432 tls, then plain"}},
		{"postgres://u@127.0.0.1:5432,127.0.0.1:5433/db?sslmode=disable&target_session_attrs=prefer-standby", []string{"127.0.0.1:5432 plain", "127.0.0.1:5433 plain"}},
	} {
		config, err := parseURL(tc.url, false)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, one := range newServers(config).all {
			text := fmt.Sprintf("%s:%d plain", one.Host, one.Port)
			if one.TLSConfig != nil {
				text = strings.TrimSpace(fmt.Sprintf("%s:%d tls %s", one.Host, one.Port, one.TLSConfig.ServerName))
			}
			for _, other := range one.Fallbacks {
				if text += ", then plain"; other.TLSConfig != nil {
					t.Errorf("%s: the fallback has TLS", tc.url)
				}
			}
			if got = append(got, text); one.ValidateConnect == nil || one.ConnectTimeout != addressTimeout {
				t.Errorf("%s: nothing sees to it that the server takes writes, or its time is %v", text, one.ConnectTimeout)
			}
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.url, got, tc.want)
		}
	}
	if _, err := parseURL("postgres://u@127.0.0.1,db.example.com/db?sslmode=require", false); err == nil || !strings.Contains(err.Error(), "the server db.example.com is another machine") {
		t.Errorf("one of several that is not protected: %v", err)
	}
}

// A failover to a synchronous standby loses nothing, and one to an asynchronous standby is told of if it does. The standby is named first, so it is passed over while
// it is one.
func TestPromotion(t *testing.T) {
	t.Parallel()
	for _, synchronous := range []bool{true, false} {
		t.Run(fmt.Sprintf("synchronous=%v", synchronous), func(t *testing.T) {
			t.Parallel()
			o := postgrestest.Options{Replicates: true}
			primary := postgrestest.Start(t, o)
			standby := primary.Standby(t, "other", o)
			if synchronous {
				read(t, primary.URL(), "ALTER SYSTEM SET synchronous_standby_names = 'other'")
				read(t, primary.URL(), "SELECT count(*) FROM (SELECT pg_reload_conf()) t")
			}
			var log bytes.Buffer
			s, err := Open(t.Context(), Options{URL: urlOf([]string{standby.Dir(), primary.Dir()}, []string{"5432", "5432"}, ""), Patience: time.Minute,
				Log: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			kept := appendMany(t, s, 5)
			for read(t, primary.URL(), "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn = pg_current_wal_lsn()") == 0 { // what is there the standby has
				time.Sleep(10 * time.Millisecond)
			}
			if !synchronous { // it misses what comes now
				if err := standby.Stop(postgrestest.Fast); err != nil {
					t.Fatal(err)
				}
			}
			last := appendMany(t, s, 5)
			if err := primary.Stop(postgrestest.Immediately); err != nil {
				t.Fatal(err)
			}
			if !synchronous {
				if err := standby.Restart(); err != nil {
					t.Fatal(err)
				}
			}
			if err := standby.Promote(); err != nil {
				t.Fatal(err)
			}
			after := appendMany(t, s, 1)
			lost := 0
			for _, id := range slices.Concat(kept, last, after) {
				if _, _, err := s.Session(t.Context(), id); errors.Is(err, engine.ErrNotFound) {
					lost++
				} else if err != nil {
					t.Error(err)
				}
			}
			wantLost, wantTold := 0, int64(0)
			if !synchronous {
				wantLost, wantTold = len(last), 1
			}
			if told := s.Figures().SetBacks; lost != wantLost || told != wantTold || strings.Count(log.String(), "has lost changes that were acknowledged") != int(wantTold) {
				t.Errorf("%d sessions are lost, and it is told %d times; want %d and %d:\n%s", lost, told, wantLost, wantTold, &log)
			}
		})
	}
}

// While the synchronous standby is away, a commit is stored on the primary alone: it is not acknowledged, whether hookbolt gives it up or somebody cancels its wait.
// Once the standby is back, it turns out to be stored.
func TestUnreplicatedCommitIsNotAcknowledged(t *testing.T) {
	t.Parallel()
	o := postgrestest.Options{Replicates: true}
	primary := postgrestest.Start(t, o)
	standby := primary.Standby(t, "other", o)
	read(t, primary.URL(), "ALTER SYSTEM SET synchronous_standby_names = 'other'")
	read(t, primary.URL(), "SELECT count(*) FROM (SELECT pg_reload_conf()) t")
	var stores []*Store // each waits for a commit of its own
	for _, schema := range []string{"given_up", "cancelled"} {
		s, err := Open(t.Context(), Options{URL: primary.URL(), Schema: schema, Patience: impatient})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		appendMany(t, s, 1)
		stores = append(stores, s)
	}
	other := openWith(t, Options{URL: primary.URL(), Schema: "repeated", Patience: impatient}, thisSchema)
	body := eventOf(uuid.New(), voteEvent(1)+`,"id":"a"`)
	again := func() engine.Append {
		events, err := engine.ParseEvents([]byte(body), benchNow())
		if err != nil {
			t.Fatal(err)
		}
		return engine.NewAppend(events, benchNow())
	}
	if _, err := other.AppendEvents(t.Context(), again()); err != nil {
		t.Fatal(err)
	}
	key := engine.OnceKey{1}
	if _, err := other.PutWebhook(t.Context(), engine.WebhookChange{Webhook: engine.Webhook{Active: true, URL: "https://a.example/"}, Once: &engine.Once{Key: key, At: benchNow()}}); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Done(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if err := standby.Stop(postgrestest.Fast); err != nil {
		t.Fatal(err)
	}
	appending := func(s *Store) chan error {
		done := make(chan error, 1)
		go func() {
			_, err := appendOne(s)
			done <- err
		}()
		return done
	}
	// First the one whose wait is cancelled again and again, then the other.
	cancelled := appending(stores[1])
	for waiting := true; waiting; {
		select {
		case err := <-cancelled:
			if waiting = false; !errors.Is(err, engine.ErrTransient) {
				t.Errorf("cancelled by somebody: %v, want an ErrTransient", err)
			}
		case <-time.After(10 * time.Millisecond):
			read(t, primary.URL(), "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
		}
	}
	if _, err := appendOne(stores[0]); !errors.Is(err, engine.ErrTransient) {
		t.Errorf("given up: %v, want an ErrTransient", err)
	}
	// Events that are there are not acknowledged again either: the standby may not have them.
	if _, err := other.AppendEvents(t.Context(), again()); !errors.Is(err, engine.ErrTransient) {
		t.Errorf("events that were there: %v, want an ErrTransient", err)
	}
	if _, err := other.Done(t.Context(), key); !errors.Is(err, engine.ErrTransient) {
		t.Errorf("a request with a key that was carried out: %v, want an ErrTransient", err)
	}
	if err := standby.Restart(); err != nil {
		t.Fatal(err)
	}
	for _, s := range stores {
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			_, err := appendOne(s)
			if err == nil {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("with the standby back: %v", err)
			}
		}
		if s.Figures().Settled == 0 {
			t.Errorf("%s: nothing was settled: no commit was without an answer", s.opts.Schema)
		}
	}
}

func appendMany(t *testing.T, s *Store, n int) (ids []uuid.UUID) {
	t.Helper()
	for range n {
		id, err := appendOne(s)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

// read runs a statement beside the store, and returns the number that it gives, 0 for none.
func read(t *testing.T, url, text string) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := conn.QueryRow(t.Context(), text).Scan(&n); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		t.Fatalf("%s: %v", text, err)
	}
	return n
}

package copying_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"hookbolt/engine"
	"hookbolt/internal/postgrestest"
	"hookbolt/storage/bolt"
	"hookbolt/storage/internal/copying"
	"hookbolt/storage/postgres"
)

// childVariable has the arguments of copyInChild in a child process.
const childVariable = "HOOKBOLT_COPY_TEST"

func TestMain(m *testing.M) {
	if args := os.Getenv(childVariable); args != "" {
		if err := copyInChild(strings.Split(args, "\n")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	flag.Parse()
	os.Exit(m.Run())
}

// where is a file, or a database.
type where struct {
	file     string
	database postgres.Options
}

func (w where) read(f func(copying.Reader) error) error {
	if w.file != "" {
		return bolt.ReadFile(w.file, f)
	}
	return postgres.ReadDatabase(context.Background(), w.database, f)
}

func (w where) write(f func(copying.Writer) error) error {
	if w.file != "" {
		return bolt.WriteFile(w.file, f)
	}
	return postgres.WriteDatabase(context.Background(), w.database, f)
}

// open opens the store as a server does.
func (w where) open() error {
	if w.file != "" {
		s, err := bolt.Open(w.file, bolt.Options{})
		if err == nil {
			err = errors.Join(s.Close(), os.Remove(w.file+".lock"))
		}
		return err
	}
	s, err := postgres.Open(context.Background(), w.database)
	if err == nil {
		err = s.Close()
	}
	return err
}

func fileIn(t testing.TB) where { return where{file: filepath.Join(t.TempDir(), "hookbolt.db")} }

func databaseIn(t testing.TB) where {
	c := postgrestest.Shared(t)
	return where{database: postgres.Options{URL: c.URL(), Schema: c.Schema(t), FoldInterval: 40 * time.Millisecond}}
}

// copyTo copies r with some options, and returns the sums of both sides.
func copyTo(r copying.Reader, to where, o copying.Options) (source, target copying.Sums, err error) {
	if o.Damaged == nil {
		o.Damaged = func(error) {}
	}
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	err = to.write(func(w copying.Writer) error {
		source, target, err = copying.Run(context.Background(), r, w, o)
		return err
	})
	return source, target, err
}

func sumOf(t *testing.T, at where) (sums copying.Sums) {
	t.Helper()
	err := at.read(func(r copying.Reader) (err error) {
		sums, err = copying.Sum(context.Background(), r, func(err error) error { return err }, func(int64) {})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sums
}

// fill makes a store with made-up records.
func fill(t *testing.T, at where, m *made) copying.Sums {
	t.Helper()
	sums, _, err := copyTo(m, at, copying.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return sums
}

func moveTo(t *testing.T, from, to where) {
	t.Helper()
	err := from.read(func(r copying.Reader) error {
		_, _, err := copyTo(r, to, copying.Options{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

var sessions = flag.Int("copy.sessions", 400, "how many sessions TestOverAndBack copies")

// What is copied over and back is the same, in all states and with odd bytes, and both stores find it sound.
func TestOverAndBack(t *testing.T) {
	first, over, back := fileIn(t), databaseIn(t), fileIn(t)
	began := time.Now()
	step := func(what string) {
		t.Logf("%s: %s", what, time.Since(began).Round(time.Millisecond))
		began = time.Now()
	}
	want := fill(t, first, &made{seed: 1, sessions: *sessions, webhooks: 3, rich: *sessions < 10_000})
	step("made")
	moveTo(t, first, over)
	step("over")
	os.Remove(first.file) // two files may not fit onto the disk
	moveTo(t, over, back)
	step("back")
	got := sumOf(t, back)
	if err := want.Differs(&got); err != nil {
		t.Error(err)
	}
	for _, kind := range copying.Kinds {
		if got.Count(kind) == 0 && *sessions < 10_000 {
			t.Errorf("no %s were copied", kind)
		}
	}
	report, err := bolt.CheckFile(back.file)
	if err != nil || len(report.Violations) > 0 || report.Sessions != *sessions {
		t.Errorf("the check of the file: %+v, %v", report, err)
	}
	step("checked")
	if err := errors.Join(over.open(), back.open()); err != nil {
		t.Error(err)
	}
}

// copyInChild copies made-up records, or a file or a database, and says so after each batch. If args say after how many it is killed, it goes no further than
// the next one: whoever kills it may be slow.
func copyInChild(args []string) error {
	copying.SetBatchRecords(50)
	most, said := math.MaxInt, 0
	if len(args) > 2 {
		most, _ = strconv.Atoi(args[2])
	}
	at := func(text string) where {
		if file, ok := strings.CutPrefix(text, "file:"); ok {
			return where{file: file}
		}
		url, schema, _ := strings.Cut(text, " ")
		return where{database: postgres.Options{URL: url, Schema: schema, FoldInterval: 40 * time.Millisecond}}
	}
	return at(args[0]).read(func(r copying.Reader) error {
		_, _, err := copyTo(r, at(args[1]), copying.Options{Progress: func(stage string, done, _ int64) {
			if said++; said > most {
				time.Sleep(time.Hour)
			}
			fmt.Println(stage, done)
		}})
		return err
	})
}

func (w where) String() string {
	if w.file != "" {
		return "file:" + w.file
	}
	return w.database.URL + " " + w.database.Schema
}

// A copy that is killed goes on when it is run again, and no server starts on the target before it is complete.
func TestKilledCopyGoesOn(t *testing.T) {
	for _, to := range []string{"database", "file"} {
		t.Run(to, func(t *testing.T) {
			from, target := fileIn(t), databaseIn(t)
			if to == "file" {
				from, target = databaseIn(t), fileIn(t)
			}
			want := fill(t, from, &made{seed: 2, sessions: 450, webhooks: 2, rich: true})
			for _, lines := range []int{1, 2, 4, 1, 6, 3} {
				copyAndKill(t, from, target, lines)
				if err := target.open(); !errors.Is(err, copying.ErrUnfinished) {
					t.Fatalf("after a kill behind %d lines, a server starts: %v", lines, err)
				}
			}
			if out, err := childOf(from, target).CombinedOutput(); err != nil {
				t.Fatalf("the copy does not go on: %v\n%s", err, out)
			}
			got := sumOf(t, target)
			if err := want.Differs(&got); err != nil {
				t.Error(err)
			}
			if err := target.open(); err != nil {
				t.Error(err)
			}
		})
	}
}

func childOf(from, to where) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+from.String()+"\n"+to.String())
	return cmd
}

// copyAndKill runs a copy until it has written some batches.
func copyAndKill(t *testing.T, from, to where, lines int) {
	t.Helper()
	cmd := childOf(from, to)
	cmd.Env[len(cmd.Env)-1] += fmt.Sprint("\n", lines)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	for lines > 0 {
		if n, err := out.Read(b); n == 1 && b[0] == '\n' {
			lines--
		} else if err != nil {
			t.Fatalf("the copy has ended before it was killed: %v", err)
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
}

// A target that holds anything is refused and stays as it is, also if it holds the complete copy.
func TestTargetMustBeEmpty(t *testing.T) {
	for name, target := range map[string]where{"file": fileIn(t), "database": databaseIn(t)} {
		want := fill(t, target, &made{seed: 3, sessions: 3, webhooks: 1})
		for _, seed := range []uint64{3, 4} {
			if _, _, err := copyTo(&made{seed: seed, sessions: 3, webhooks: 1}, target, copying.Options{}); !errors.Is(err, copying.ErrNotEmpty) {
				t.Errorf("%s: %v, want %v", name, err, copying.ErrNotEmpty)
			}
		}
		got := sumOf(t, target)
		if err := want.Differs(&got); err != nil {
			t.Error(err)
		}
	}
}

// An unfinished copy goes on only with the same source.
func TestUnfinishedCopyOfAnother(t *testing.T) {
	for name, target := range map[string]where{"file": fileIn(t), "database": databaseIn(t)} {
		stop := errors.New("stop")
		from := &made{seed: 5, sessions: 3, webhooks: 1}
		if _, _, err := copyTo(&broken{Reader: from, sessions: func(*copying.Session) error { return stop }}, target, copying.Options{}); !errors.Is(err, stop) {
			t.Fatal(err)
		}
		if _, _, err := copyTo(from, target, copying.Options{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, target := range map[string]where{"file": fileIn(t), "database": databaseIn(t)} {
		stop := errors.New("stop")
		from := &made{seed: 5, sessions: 3, webhooks: 1}
		if _, _, err := copyTo(&broken{Reader: from, deliveries: func(*copying.Delivery) error { return stop }}, target, copying.Options{}); !errors.Is(err, stop) {
			t.Fatal(err)
		}
		if _, _, err := copyTo(&made{seed: 6, sessions: 3, webhooks: 1}, target, copying.Options{}); !errors.Is(err, copying.ErrChanged) {
			t.Errorf("%s: %v, want %v", name, err, copying.ErrChanged)
		}
	}
}

// broken changes records, or fails.
type broken struct {
	copying.Reader
	sessions   func(*copying.Session) error
	deliveries func(*copying.Delivery) error
}

func (b *broken) Sessions(ctx context.Context, after int64, damaged func(error) error, f func(*copying.Session) error) error {
	return b.Reader.Sessions(ctx, after, damaged, func(one *copying.Session) error {
		if b.sessions != nil {
			if err := b.sessions(one); err != nil {
				return err
			}
		}
		return f(one)
	})
}

func (b *broken) Deliveries(ctx context.Context, after []byte, damaged func(error) error, f func(*copying.Delivery) error) error {
	return b.Reader.Deliveries(ctx, after, damaged, func(one *copying.Delivery) error {
		if b.deliveries != nil {
			if err := b.deliveries(one); err != nil {
				return err
			}
		}
		return f(one)
	})
}

// forgetful is a writer that changes what it writes.
type forgetful struct {
	copying.Writer
	change func(*copying.Batch)
}

func (w forgetful) Put(ctx context.Context, b *copying.Batch, s *copying.State) error {
	w.change(b)
	return w.Writer.Put(ctx, b, s)
}

// A copy that lacks a record, or has another byte, is found, and no server starts on it.
func TestDifferencesAreFound(t *testing.T) {
	for name, change := range map[string]func(*copying.Batch){
		"a session":       func(b *copying.Batch) { b.Sessions = b.Sessions[:max(0, len(b.Sessions)-1)] },
		"a byte of event": func(b *copying.Batch) { each(b.Sessions, func(s *copying.Session) { s.Requests[0].JSON[20] ^= 1 }) },
		"an event id":     func(b *copying.Batch) { each(b.Sessions, func(s *copying.Session) { s.Requests[0].IDs[0] += "x" }) },
		"a nanosecond": func(b *copying.Batch) {
			each(b.Deliveries, func(d *copying.Delivery) { d.CreatedAt = d.CreatedAt.Truncate(time.Microsecond) })
		},
		"a due time": func(b *copying.Batch) { each(b.Deliveries, func(d *copying.Delivery) { d.DueAt = d.DueAt.Add(1) }) },
		"a delivery": func(b *copying.Batch) { b.Deliveries = b.Deliveries[:max(0, len(b.Deliveries)-1)] },
		"an attempt": func(b *copying.Batch) {
			eachOf(b.Deliveries, func(d *copying.Delivery) { d.Attempts, d.Delivery.Attempts = nil, 0 })
		},
		"a payload": func(b *copying.Batch) { each(b.Deliveries, func(d *copying.Delivery) { d.Payload = []byte("{}") }) },
		"a mark":    func(b *copying.Batch) { each(b.Sessions, func(s *copying.Session) { s.Deliveries[0].ID[15] ^= 1 }) },
		"a request": func(b *copying.Batch) { b.Requests = nil },
		"a webhook": func(b *copying.Batch) { forget(b, func(r *copying.Rest) { r.Webhooks = r.Webhooks[1:] }) },
		"a secret":  func(b *copying.Batch) { forget(b, func(r *copying.Rest) { r.Webhooks[0].URL += "?" }) },
		"a health":  func(b *copying.Batch) { forget(b, func(r *copying.Rest) { clear(r.Health) }) },
		"a job":     func(b *copying.Batch) { forget(b, func(r *copying.Rest) { r.Jobs = r.Jobs[1:] }) },
		"a fan-out": func(b *copying.Batch) { forget(b, func(r *copying.Rest) { r.FanOuts = nil }) },
	} {
		t.Run(name, func(t *testing.T) {
			target := fileIn(t)
			err := target.write(func(w copying.Writer) error {
				_, _, err := copying.Run(t.Context(), &made{seed: 7, sessions: 60, webhooks: 2, rich: true}, forgetful{w, change},
					copying.Options{Damaged: func(error) {}, Progress: func(string, int64, int64) {}})
				return err
			})
			if !errors.Is(err, copying.ErrDiffers) {
				t.Errorf("%v, want %v", err, copying.ErrDiffers)
			}
			if err := target.open(); !errors.Is(err, copying.ErrUnfinished) {
				t.Errorf("a server starts: %v", err)
			}
		})
	}
}

// each changes the first record.
func each[T any](list []*T, f func(*T)) {
	if len(list) > 0 {
		f(list[0])
	}
}

// eachOf changes all records.
func eachOf[T any](list []*T, f func(*T)) {
	for _, one := range list {
		f(one)
	}
}

func forget(b *copying.Batch, f func(*copying.Rest)) {
	if b.Rest != nil {
		f(b.Rest)
	}
}

// A store that a server works with is refused on both sides, and the server goes on.
func TestRunningServerIsRefused(t *testing.T) {
	for _, shared := range []bool{false, true} {
		t.Run(fmt.Sprintf("shared=%t", shared), func(t *testing.T) { runningServerIsRefused(t, shared) })
	}
}

func runningServerIsRefused(t *testing.T, shared bool) {
	at := databaseIn(t)
	open := at.database
	open.Shared = shared
	s, err := postgres.Open(t.Context(), open)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, stop := context.WithCancel(t.Context())
	watched := make(chan error, 1)
	go func() { watched <- s.Watch(ctx, func(engine.News) {}) }()
	defer func() { stop(); <-watched }()
	file := fileIn(t)
	f, err := bolt.Open(file.file, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, tc := range []struct {
		at   where
		want error
	}{{at, copying.ErrRunning}, {file, bolt.ErrInUse}} {
		if err := tc.at.read(func(copying.Reader) error { return nil }); !errors.Is(err, tc.want) {
			t.Errorf("%s is read: %v, want %v", tc.at, err, tc.want)
		}
		if err := tc.at.write(func(copying.Writer) error { return nil }); !errors.Is(err, tc.want) {
			t.Errorf("%s is written: %v, want %v", tc.at, err, tc.want)
		}
	}
	if err := s.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}

// While a store is copied, no server can start with it.
func TestNoServerStartsBesideACopy(t *testing.T) {
	for _, at := range []where{fileIn(t), databaseIn(t)} {
		fill(t, at, &made{seed: 8, sessions: 2, webhooks: 1})
		err := at.read(func(copying.Reader) error {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			if at.file != "" {
				if s, err := bolt.Open(at.file, bolt.Options{}); err == nil {
					return errors.Join(errors.New("a server starts"), s.Close())
				}
				return nil
			}
			if s, err := postgres.Open(ctx, at.database); err == nil {
				return errors.Join(errors.New("a server starts"), s.Close())
			}
			return nil
		})
		if err != nil {
			t.Errorf("%s: %v", at, err)
		}
	}
}

// The numbers of webhooks go on behind the last one that was ever given, also of one that was deleted: a new webhook has nothing to do with the deliveries of
// an old one.
func TestNumbersGoOn(t *testing.T) {
	for _, at := range []where{fileIn(t), databaseIn(t)} {
		m := &made{seed: 9, sessions: 3, webhooks: 2}
		fill(t, at, m)
		var s interface {
			PutWebhook(context.Context, engine.WebhookChange) (engine.WebhookChanged, error)
			Close() error
		}
		var err error
		if at.file != "" {
			s, err = bolt.Open(at.file, bolt.Options{})
		} else {
			s, err = postgres.Open(t.Context(), at.database)
		}
		if err != nil {
			t.Fatal(err)
		}
		changed, err := s.PutWebhook(t.Context(), engine.WebhookChange{Webhook: engine.Webhook{URL: "https://example.com/", Active: true}})
		if want := uint32(m.webhooks + 6); err != nil || changed.Webhook.ID != want {
			t.Errorf("%s: the next webhook is %d, want %d: %v", at, changed.Webhook.ID, want, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

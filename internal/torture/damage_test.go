package torture

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
	"hookbolt/storage/bolt"
)

// gullibleStorage does not look at checksums.
var gullibleStorage = []edit{{file: "storage/bolt/seal.go", old: "\tif checksum(key, content) != binary.BigEndian.Uint32(value[len(value)-4:]) {\n", new: "\tif false {\n"}}

func init() { mutants = append(mutants, gullibleStorage) }

// A byte of a database flips, or its end is missing: the start is refused in one clear line, or a check names what is wrong, or what can
// be read is what was written, for the byte meant nothing. Nothing is ever silently wrong, and no process ends in a panic.
func TestDamage(t *testing.T) {
	experiment(t)
	d := newDamageLab(t, build(t), os.Args[0])
	outcomes := d.run(scale(24, 2000), scale(8, 200))
	summarize(t, "damage: %d flips in %s, %d truncations: %s", d.flips, d.pageKinds(), d.cuts, counted(outcomes))
	for _, line := range d.trouble {
		t.Error(line)
	}
	if outcomes[noticed] == 0 || outcomes[harmless] == 0 || outcomes[refused] == 0 {
		t.Error("an outcome never came: the experiment saw too little")
	}
}

// Without the checksums of records some flips must be silently wrong, or the comparison sees nothing.
func TestDamageControl(t *testing.T) {
	experiment(t)
	if !*longForm {
		t.Skip("in the long form only: its mutant is one of these tests, which takes long to build")
	}
	d := newDamageLab(t, build(t), buildTests(t, gullibleStorage...))
	d.enough, d.unchecked = wrong, true
	outcomes := d.run(300, 0)
	if outcomes[wrong] == 0 {
		t.Errorf("control %q: not caught in %d flips: %s", "no checksums", d.flips, counted(outcomes))
		return
	}
	summarize(t, "damage, control %q: caught after %d flips", "no checksums", d.flips)
}

// pageSize is that of hookbolt's databases.
const pageSize = 4096

// outcome is what became of a damaged database.
type outcome string

const (
	refused  outcome = "refused at the start"
	noticed  outcome = "named by a check"
	harmless outcome = "harmless"
	wrong    outcome = "silently wrong"
	ugly     outcome = "ugly"
)

func counted(outcomes map[outcome]int) string {
	var parts []string
	for _, o := range []outcome{refused, noticed, harmless, wrong, ugly} {
		parts = append(parts, fmt.Sprintf("%d %s", outcomes[o], o))
	}
	return strings.Join(parts, ", ")
}

// damageLab has a database with something of everything, and what can be read in it.
type damageLab struct {
	t      *testing.T
	rig    *rig
	reader string // the binary of tests that reads databases
	raw    []byte
	whole  readout
	rand   *rand.Rand

	mu      sync.Mutex
	flips   int
	cuts    int
	pages   map[string]int // flips by the kind of page
	found   map[outcome]int
	trouble []string
	enough  outcome // with which it may end; "" for none
	// unchecked leaves hookbolt check out: it is no mutant.
	unchecked bool
}

// readout is all that can be read of a database.
type readout struct {
	Lines  []string
	Errors []string // of reading
}

func newDamageLab(t *testing.T, binary, reader string) *damageLab {
	t.Helper()
	d := &damageLab{t: t, reader: reader, rand: random(t, "damage", 0), pages: make(map[string]int), found: make(map[outcome]int)}
	d.rig = newRig(t, rigOptions{binary: binary, hooks: []hook{{path: "/now", answers: true, leads: true}}})
	d.fill()
	var err error
	if d.raw, err = os.ReadFile(d.rig.database); err != nil {
		t.Fatal(err)
	}
	if d.whole, err = d.read(d.rig.database); err != nil {
		t.Fatal(err)
	}
	if len(d.whole.Errors) > 0 || len(d.whole.Lines) < 100 {
		t.Fatalf("the undamaged database: %d lines, %v", len(d.whole.Lines), d.whole.Errors)
	}
	return d
}

// fill makes a database with a record in each bucket, and more than one page in most of them, and closes it.
func (d *damageLab) fill() {
	t, g := d.t, d.rig
	s := g.setUp()
	ctx := t.Context()
	var hooks []uint32
	for _, settings := range []string{
		`"delay":31000000`, // scheduled
		`"delay":0,"retry_schedule":["720h"],"send_incomplete":true,"incomplete_delay":0,"url":"http://127.0.0.1:1/"`,        // pending, and failing
		`"delay":0,"retry_schedule":[],"max_in_flight":1,"url":"http://127.0.0.1:1/","headers":{"X-Of":"webhook"}`,           // failed
		`"delay":31000000,"name":"to be switched off","content_id":"6caaa000-2bd8-4b28-8b9b-bfe1fca94f39","rate_limit":1000`, // cancelled
	} {
		if !strings.Contains(settings, `"url"`) {
			settings += fmt.Sprintf(`,"url":"%s/x"`, g.receiver.url)
		}
		var made struct{ ID uint32 }
		if err := call(ctx, "POST", s.url()+"/v1/webhooks", json.RawMessage("{"+settings+"}"), &made); err != nil {
			t.Fatal(err)
		}
		hooks = append(hooks, made.ID)
	}
	client := newClient()
	r := random(t, "sessions", 0)
	var ids bytes.Buffer
	for range 120 {
		session := newSession(r, true)
		session.start("")
		session.votes(r.IntN(4), "")
		session.lead(1)
		session.finish("")
		req := g.request(true, session)
		if status, err := post(client, s.url()+"/v1/events", req.body, req.events); err != nil || status != http.StatusAccepted {
			t.Fatal(status, err)
		}
		fmt.Fprintln(&ids, session.id)
	}
	if err := call(ctx, "PATCH", fmt.Sprintf("%s/v1/webhooks/%d", s.url(), hooks[3]), json.RawMessage(`{"active":false}`), nil); err != nil {
		t.Fatal(err)
	}
	if err := call(ctx, "POST", fmt.Sprintf("%s/v1/webhooks/%d/test", s.url(), hooks[1]), nil, nil); err != nil {
		t.Fatal(err)
	}
	status := func(of string) int {
		var page struct{ Items []struct{ ID string } }
		if err := call(ctx, "GET", s.url()+"/v1/deliveries?limit=100&status="+of, nil, &page); err != nil {
			t.Fatal(err)
		}
		return len(page.Items)
	}
	if !await(20*time.Second, func() bool {
		return status("delivered") == 100 && status("cancelled") == 100 && status("failed") > 0 && status("pending") > 4
	}) {
		t.Fatalf("the database to be damaged: %d delivered, %d cancelled, %d failed, %d pending", status("delivered"), status("cancelled"),
			status("failed"), status("pending"))
	}
	s.terminate()
	if code, err := s.wait(20 * time.Second); err != nil || code != 0 {
		t.Fatal(code, err)
	}
	store, err := bolt.Open(g.database, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = store.Replay(context.Background(), engine.Replay{WebhookID: 1, Scope: engine.ReplayAny, Until: time.Now()}) // a job
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.idsFile(), ids.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (d *damageLab) idsFile() string { return filepath.Join(d.rig.dir, "sessions.txt") }

// run damages the database in that many ways and returns how often each outcome came.
func (d *damageLab) run(flips, truncations int) map[outcome]int {
	type damage struct {
		what string
		raw  []byte
	}
	todo := make(chan damage)
	var workers sync.WaitGroup
	for i := range 2 {
		workers.Go(func() {
			for c := range todo {
				d.judge(fmt.Sprint(i), c.what, c.raw)
			}
		})
	}
	pages := int(highWater(d.raw)) // behind them the file is empty
	for i := range flips {
		if d.saturated() {
			break
		}
		// Every page has its turn; half of the flips hit where its structure stands.
		page := i % pages
		within := pageSize
		if d.rand.IntN(2) == 0 {
			within = 256
		}
		at := page*pageSize + d.rand.IntN(within)
		raw := bytes.Clone(d.raw)
		bit := byte(1) << d.rand.IntN(8)
		raw[at] ^= bit
		kind := pageKind(d.raw[page*pageSize:])
		d.flips++
		d.pages[kind]++
		todo <- damage{fmt.Sprintf("bit %#02x of byte %d (page %d, %s, at %d)", bit, at, page, kind, at%pageSize), raw}
	}
	lengths := []int{0, 1, 4095, 4096, 8191, 8192, 8193, 16384, pages*pageSize - 1, (pages - 1) * pageSize, len(d.raw) - 1}
	for i := range truncations {
		length := d.rand.IntN(pages * pageSize)
		if i < len(lengths) {
			length = lengths[i]
		}
		d.cuts++
		todo <- damage{fmt.Sprintf("truncated to %d of %d bytes", length, len(d.raw)), d.raw[:length]}
	}
	close(todo)
	workers.Wait()
	return d.found
}

func (d *damageLab) saturated() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.enough != "" && d.found[d.enough] > 0
}

// pageKind reads what bbolt says of a page: a u64 number, then u16 flags.
func pageKind(page []byte) string {
	switch binary.NativeEndian.Uint16(page[8:]) {
	case 0x01:
		return "branch"
	case 0x02:
		return "leaf"
	case 0x04:
		return "meta"
	case 0x10:
		return "freelist"
	}
	return "unused"
}

func (d *damageLab) pageKinds() string {
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(d.pages)) {
		parts = append(parts, fmt.Sprintf("%s %d", kind, d.pages[kind]))
	}
	return strings.Join(parts, ", ")
}

// judge starts a server on a damaged database, and reads it.
func (d *damageLab) judge(worker, what string, raw []byte) {
	dir := filepath.Join(d.rig.dir, "damaged-"+worker)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		d.t.Error(err)
		return
	}
	path := filepath.Join(dir, "hookbolt.db")
	result, why := d.tryServer(dir, path, raw)
	if result == "" {
		result, why = d.tryReading(path, raw)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.found[result]++
	if result == wrong || result == ugly {
		d.trouble = append(d.trouble, fmt.Sprintf("%s: %s: %s", what, result, why))
	}
}

// tryServer starts a server on a damaged database and has it do a little of everything. It returns no outcome if the start succeeds
// and nothing ugly happens.
func (d *damageLab) tryServer(dir, path string, raw []byte) (outcome, string) {
	config := filepath.Join(dir, "config.toml")
	text := fmt.Sprintf("[http]\nlisten = \"127.0.0.1:0\"\n[storage]\npath = %q\n[delivery]\nallow_networks = [\"127.0.0.0/8\"]\n", path)
	os.Remove(path + ".lock")
	if err := errors.Join(os.WriteFile(path, raw, 0o600), os.WriteFile(config, []byte(text), 0o600)); err != nil {
		return ugly, err.Error()
	}
	s := launch(d.t, d.rig.opts.binary, nil, "serve", "-config", config)
	defer s.kill()
	if _, err := s.awaitReady(20 * time.Second); err != nil {
		said := s.log.String()
		if s.running() || s.exitCode() != 1 || strings.Count(said, "\n") != 1 || isTrace(said) {
			return ugly, firstLines(err.Error(), 6)
		}
		return refused, said
	}
	ctx, cancel := context.WithTimeout(d.t.Context(), 20*time.Second)
	defer cancel()
	for _, path := range []string{"/v1/webhooks", "/v1/deliveries?limit=100", "/v1/deliveries?status=pending", "/v1/deliveries?status=failed",
		"/v1/deliveries?status=cancelled&webhook_id=5", "/readyz", "/metrics"} {
		call(ctx, "GET", s.url()+path, nil, nil) // what they answer is another test's
	}
	session := newSession(random(d.t, "more", 0), true)
	session.start("")
	session.finish("")
	call(ctx, "POST", s.url()+"/v1/events", json.RawMessage("["+strings.Join(session.events, ",")+"]"), nil)
	// It may have found out meanwhile, and have ended for it.
	pass(50*time.Millisecond, s.exited)
	if said := s.log.String(); isTrace(said) || !s.running() && s.exitCode() != 1 {
		return ugly, "after its start: " + firstLines(said, 12)
	}
	return "", ""
}

// isTrace tells whether a log holds what the Go runtime says at a violent end.
func isTrace(said string) bool {
	for _, sign := range []string{"panic", "goroutine ", "SIGBUS", "SIGSEGV", "unexpected fault", "fatal error"} {
		if strings.Contains(said, sign) {
			return true
		}
	}
	return false
}

// tryReading has a damaged database checked; if nothing is found, it reads it and holds it against the whole one.
func (d *damageLab) tryReading(path string, raw []byte) (outcome, string) {
	os.Remove(path + ".lock")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		return ugly, err.Error()
	}
	if !d.unchecked {
		check := launch(d.t, d.rig.opts.binary, nil, "check", path)
		code, err := check.wait(time.Minute)
		switch said := check.log.String(); {
		case err != nil:
			return ugly, "hookbolt check: " + err.Error()
		case isTrace(said) || code != 0 && code != 1 || code == 0 && !strings.HasPrefix(said, "ok: ") || code == 1 && said == "":
			return ugly, fmt.Sprintf("hookbolt check: exit code %d: %s", code, firstLines(said, 12))
		case code == 1:
			return noticed, firstLines(said, 1)
		}
	}
	got, err := d.read(path)
	switch {
	case err != nil:
		return ugly, "hookbolt check finds nothing, and reading fails: " + err.Error()
	case len(got.Errors) > 0:
		return noticed, got.Errors[0]
	case slices.Equal(got.Lines, d.whole.Lines):
		return harmless, ""
	}
	return wrong, difference(d.whole.Lines, got.Lines)
}

// difference names the first line that two texts do not share.
func difference(want, got []string) string {
	for i := range max(len(want), len(got)) {
		if i >= len(got) {
			return fmt.Sprintf("missing: %s", want[i])
		}
		if i >= len(want) || want[i] != got[i] {
			return fmt.Sprintf("read: %s", got[i])
		}
	}
	return ""
}

// read reads all that can be read of a database, in a process of its own.
func (d *damageLab) read(path string) (readout, error) {
	var out readout
	raw, err := childOf(d.t.Context(), d.reader, "read", path+"\n"+d.idsFile())
	if err != nil {
		return out, err
	}
	return out, gob.NewDecoder(bytes.NewReader(raw)).Decode(&out)
}

func readChild(arg string, w io.Writer) error {
	path, idsFile, _ := strings.Cut(arg, "\n")
	s, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		return err
	}
	var out readout
	note := func(what string, v any, err error) {
		if err != nil {
			out.Errors = append(out.Errors, fmt.Sprintf("%s: %v", what, err))
			return
		}
		line, err := json.Marshal(v)
		out.Lines = append(out.Lines, fmt.Sprintf("%s: %s %v", what, line, err))
	}
	for _, hook := range s.Webhooks().All() {
		note("webhook", hook, nil)
	}
	ctx := context.Background()
	for status := range 6 { // 0 stands for all
		q := engine.DeliveryQuery{Limit: 5000, Status: engine.Status(status)}
		page, err := s.Deliveries(ctx, q)
		note(fmt.Sprint("deliveries by status ", status), page, err)
		if status > 0 {
			continue
		}
		for i := range page.Items {
			one, payload, attempts, err := s.Delivery(ctx, page.Items[i].ID)
			note("delivery", []any{one, string(payload), attempts}, err)
		}
	}
	ids, err := os.Open(idsFile)
	if err != nil {
		return err
	}
	for lines := bufio.NewScanner(ids); lines.Scan(); {
		record, deliveries, err := s.Session(ctx, uuid.MustParse(lines.Text()))
		note("session "+lines.Text(), []any{record, deliveries}, err)
	}
	return gob.NewEncoder(w).Encode(out)
}

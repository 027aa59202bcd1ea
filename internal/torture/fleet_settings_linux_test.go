package torture

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// unawaitedFleet answers a change when it is stored, and, once all webhooks are there, reads those of others in one second of four.
var unawaitedFleet = mutantFlock.shared("fleet-unawaited",
	edit{file: "storage/postgres/acknowledge.go", old: "	began := time.Now()\n	end := time.NewTimer(deadAfter * f.beat)\n",
		new: "	if mutant(\"fleet-unawaited\") {\n		return nil\n	}\n	began := time.Now()\n	end := time.NewTimer(deadAfter * f.beat)\n"},
	edit{file: "storage/postgres/batch.go", old: "begin && b.s.fleet != nil && b.epoch != b.s.fleet.epoch.Load() {\n",
		new: "begin && b.s.fleet != nil && b.epoch != b.s.fleet.epoch.Load() && (!mutant(\"fleet-unawaited\") || len(b.s.hooks.Load().All()) < 6 || time.Now().Unix()%4 == 0) {\n"})

// changeWithin is how soon a change must be answered, for 99 of 100.
const changeWithin = 500 * time.Millisecond

// arriveLate is how long after the answer to a change an attempt may begin that was about to begin. How long its request takes then says nothing: see broken.
const arriveLate = 100 * time.Millisecond

// A webhook is paused, gets another URL or another secret, and deliveries are cancelled, each at a process that does not own the lane, under load: from the answer
// on, nothing is sent the old way.
func TestFleetSettings(t *testing.T) {
	fleetExperiment(t)
	binary := build(t)
	var total verdict
	var c fleetChanges
	rounds, n := scale(1, 4), scale(12, 100)
	for round := range rounds {
		total.add(c.round(t, binary, random(t, "adversary", round), n, false))
	}
	summarize(t, "fleet, changes at another process: %v; %v", &c, &total)
	total.hold(t)
	if p99 := percentile(c.took, 0.99); *longForm && p99 > changeWithin {
		t.Errorf("the answers to changes took %v (p99), at most %v are allowed", p99, changeWithin)
	}
}

func TestFleetSettingsControl(t *testing.T) {
	fleetExperiment(t)
	var c fleetChanges
	line := caught(t, "answers before all know", func(r *rand.Rand) *verdict { return c.round(t, build(t, unawaitedFleet...), r, scale(12, 50), true) })
	if line != "" {
		summarize(t, "fleet, changes at another process, control %q: caught after %d: %s", "answers before all know", len(c.took), firstLines(line, 1))
	}
}

// fleetChanges counts what was changed.
type fleetChanges struct {
	pauses, urls, secrets, cancels int
	took                           []time.Duration
}

func (c *fleetChanges) String() string {
	return fmt.Sprintf("%d pauses, %d URLs, %d secrets, %d cancellations, answered within %v (p50), %v (p99), %v at most", c.pauses, c.urls, c.secrets, c.cancels,
		percentile(c.took, 0.5).Round(time.Millisecond), percentile(c.took, 0.99).Round(time.Millisecond), percentile(c.took, 1).Round(time.Millisecond))
}

// ban is what must not come between two times.
type ban struct {
	what        string
	from, until time.Time // until is zero for ever
	is          func(*sighting) bool
}

// round makes n changes. With enough it ends with the first ban that was broken.
func (c *fleetChanges) round(t *testing.T, binary string, r *rand.Rand, n int, enough bool) *verdict {
	f := newFleet(t, fleetOptions{rigOptions: rigOptions{binary: binary, manner: manner{failing: 0.02, slow: 0.05, slowness: 200 * time.Millisecond, moves: true}}})
	pass(2*time.Second, nil)
	var bans []ban
	uris := make(map[string]string)
	for i := range n {
		pass(between(r, 20*time.Millisecond, 300*time.Millisecond), nil)
		path := f.opts.hooks[r.IntN(4)].path
		m := f.stranger(r, path)
		var b ban
		var err error
		switch r.IntN(4) {
		case 0:
			c.pauses++
			b.what, b.is = path+" was paused", func(s *sighting) bool { return s.path == path }
			if b.from, err = c.patch(f, m, path, map[string]any{"paused": true}); err == nil {
				pass(between(r, 400*time.Millisecond, 800*time.Millisecond), nil)
				b.until = time.Now()
				_, err = c.patch(f, f.stranger(r, path), path, map[string]any{"paused": false})
			}
		case 1:
			c.urls++
			old := path
			if uris[path] != "" {
				old = uris[path]
			}
			uris[path] = fmt.Sprintf("%s/%d", path, i)
			b.what, b.is = path+" has another URL", func(s *sighting) bool { return s.uri == old }
			b.from, err = c.patch(f, m, path, map[string]any{"url": f.receiver.url + uris[path]})
		case 2:
			c.secrets++
			key := make([]byte, 32)
			for i := range key {
				key[i] = byte(r.Uint32())
			}
			secret := base64.StdEncoding.EncodeToString(key)
			b.what, b.is = path+" has another secret", func(s *sighting) bool { return s.path == path && s.body != nil && !s.signed(key) }
			if b.from, err = c.patch(f, m, path, map[string]any{"secret": "whsec_" + secret}); err == nil {
				pass(between(r, 400*time.Millisecond, 800*time.Millisecond), nil)
				b.until = time.Now() // before the next one
			}
		default:
			var some []ban
			some, err = c.cancel(f, r)
			bans = append(bans, some...)
		}
		if f.complains(err) {
			break
		}
		if b.is != nil {
			bans = append(bans, b)
		}
		if enough && f.broken(bans) {
			break
		}
	}
	pass(time.Second, nil)
	f.broken(bans)
	return f.finish(enough || len(f.books.trouble) > 0, 30*time.Second)
}

// stranger is a member that does not own the lane of a path.
func (f *fleet) stranger(r *rand.Rand, path string) *fleetMember {
	f.receiver.mu.Lock()
	defer f.receiver.mu.Unlock()
	i := r.IntN(fleetSize)
	if last := f.receiver.lastOf[path]; last != nil && last.sender == f.members[i].pid() {
		i = (i + 1) % fleetSize
	}
	return f.members[i]
}

// patch changes a webhook at a member, and returns when the answer was there.
func (c *fleetChanges) patch(f *fleet, m *fleetMember, path string, change map[string]any) (time.Time, error) {
	began := time.Now()
	err := call(f.t.Context(), "PATCH", fmt.Sprintf("%s/v1/webhooks/%d", m.url(), f.hook(path)), change, nil)
	answered := time.Now()
	c.took = append(c.took, answered.Sub(began))
	return answered, err
}

// cancel cancels some deliveries that wait, each at a member that does not own their lane.
func (c *fleetChanges) cancel(f *fleet, r *rand.Rand) (bans []ban, err error) {
	const path = "/later"
	m := f.stranger(r, path)
	var page struct {
		Items []struct {
			ID        uuid.UUID `json:"id"`
			SessionID uuid.UUID `json:"session_id"`
			Kind      string    `json:"kind"`
		}
	}
	if err := call(f.t.Context(), "GET", fmt.Sprintf("%s/v1/deliveries?limit=5&status=scheduled&webhook_id=%d", m.url(), f.hook(path)), nil, &page); err != nil {
		return nil, err
	}
	for _, d := range page.Items {
		began := time.Now()
		if err := call(f.t.Context(), "POST", fmt.Sprintf("%s/v1/deliveries/%s/cancel", m.url(), d.ID), map[string]any{}, nil); err != nil {
			if strings.Contains(err.Error(), "409") { // it was delivered meanwhile
				continue
			}
			return bans, err
		}
		c.cancels++
		c.took = append(c.took, time.Since(began))
		f.ledger.excuse(key{path, d.SessionID, d.Kind == "complete"})
		bans = append(bans, ban{what: d.ID.String() + " was cancelled", from: time.Now(), is: func(s *sighting) bool { return s.id == d.ID }})
	}
	return bans, nil
}

// broken complains of the requests that came in spite of a change, and tells whether there are any. A request of an attempt that had begun before may be read
// late, by a busy machine: the log says when that was, once the attempt is recorded.
func (f *fleet) broken(bans []ban) bool {
	suspects := f.inSpiteOf(bans)
	await(20*time.Second, func() bool {
		logged, err := f.opts.schema.attempts(f.t.Context())
		if err != nil {
			return false
		}
		open := false
		for s, b := range suspects {
			if a := covering(logged[s.id], s.begin); a == nil {
				open = true
			} else if !a.begin.After(b.from.Add(arriveLate)) {
				delete(suspects, s)
			}
		}
		return !open
	})
	for s, b := range suspects {
		f.books.complain("%s, and %v after the answer a request came from process %d: %s", b.what, s.begin.Sub(b.from).Round(time.Millisecond), s.sender, s.uri)
	}
	return len(suspects) > 0
}

// inSpiteOf returns the requests that came in spite of a change, each with one that it came in spite of.
func (f *fleet) inSpiteOf(bans []ban) map[*sighting]ban {
	f.receiver.mu.Lock()
	defer f.receiver.mu.Unlock()
	found := make(map[*sighting]ban)
	for _, s := range f.receiver.sightings {
		for _, b := range bans {
			if s.begin.After(b.from.Add(arriveLate)) && (b.until.IsZero() || s.begin.Before(b.until)) && b.is(s) {
				if had, is := found[s]; !is || b.from.Before(had.from) {
					found[s] = b
				}
			}
		}
	}
	return found
}

// covering returns the attempt that was under way at a time, nil if there is none.
func covering(logged []attempt, at time.Time) *attempt {
	for i, a := range logged {
		if !at.Before(a.begin.Add(-clocks)) && !at.After(a.end.Add(clocks)) {
			return &logged[i]
		}
	}
	return nil
}

// signed tells whether a request has a signature by a key.
func (s *sighting) signed(key []byte) bool {
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", s.id, s.header.Get("webhook-timestamp"), s.body)
	return strings.Contains(s.header.Get("webhook-signature"), "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

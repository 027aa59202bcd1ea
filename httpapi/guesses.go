package httpapi

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// guesses slows down those who guess tokens, and tells of them. A wrong token costs its address a part of a budget that fills up again with
// time. An address that has used up its budget waits for each answer, and only a few of its requests may wait at once. It waits for the
// right token just as long: otherwise the time would tell the guesser, who could hang up early.
//
// Nobody else is to suffer from that, not even behind a proxy where all clients have one address:
//   - A browser that has signed in is never asked for its token, so it never waits.
//   - A token that was right from an address lately goes on from there.
//   - Ingest tokens never wait. Pages show them to everybody, and events must not be held up.
//   - All addresses together have a budget, too. If it is used up, one wrong token is enough for an address to wait. An address without a
//     wrong token never waits.
//
// Where several processes answer behind one address, each has its share of all limits: their number does not help who guesses. No process has to tell the
// others of wrong tokens, and the limits hold while the database is away.
type guesses struct {
	log     *slog.Logger
	wrong   prometheus.Counter
	members func() int // how many processes there are

	mu      sync.Mutex
	all     budget                    // guarded by mu, as all below
	clients map[netip.Addr]*guesser   // by callerNetwork; only those with wrong tokens
	known   map[knownCaller]time.Time // when a token was right last
	told    toldGuesses

	tellAt atomic.Int64 // when the log is to tell of told, in nanoseconds since 1970; 0 if there is nothing to tell
}

// toldGuesses are the wrong tokens since the last line of the log.
type toldGuesses struct {
	count   int
	clients map[netip.Addr]int
}

// guesser is an address from which wrong tokens have come.
type guesser struct {
	budget
	waiting int // requests that wait for their answer
}

// knownCaller is a token that was right, and where it came from.
type knownCaller struct {
	addr  netip.Addr
	token [sha256.Size]byte
}

const (
	// clientGuesses and allGuesses are how many wrong tokens an address, and all addresses together, may send before answers wait. A
	// person who looks for the right token needs fewer.
	clientGuesses, allGuesses = 10, 100
	// guessesPerSecond fill up the budget of an address again: ten in a minute. That of all fills up ten times as fast.
	guessesPerSecond = 10.0 / 60
	// guessDelay is how long an answer waits; longer if there are more processes than maxWaiting.
	guessDelay = 2 * time.Second
	// maxWaiting is how many requests of an address may wait at once: with the delay, it makes at most 4 guesses a second.
	maxWaiting = 8
	// maxGuessers bounds how many addresses are kept. It takes more than a person has.
	maxGuessers = 10_000
	// knownAge is how long a token that was right goes on without a delay; maxKnown bounds how many are kept.
	knownAge = 24 * time.Hour
	maxKnown = 1000
	// guessesToldAfter is how often the log tells of wrong tokens.
	guessesToldAfter = time.Minute
)

var errTooManyGuesses = &problem{Status: http.StatusTooManyRequests, Detail: "too many wrong tokens have come from this address, so this one was not looked at",
	header: map[string]string{"Retry-After": "2"}}

// share is the part of the limits that one of several processes has.
type share struct{ members float64 }

// wait is how long an answer waits. A process lets at least one request wait, so with many processes it waits for longer.
func (s share) wait() time.Duration {
	return time.Duration(float64(guessDelay) * max(1, s.members/maxWaiting))
}

// waiting is how many requests of an address may wait at once.
func (s share) waiting() int { return max(1, int(maxWaiting/s.members)) }

// client and all are the budgets of an address, and of all addresses.
func (s share) client() allowance {
	return allowance{clientGuesses / s.members, guessesPerSecond / s.members}
}
func (s share) all() allowance {
	return allowance{allGuesses / s.members, 10 * guessesPerSecond / s.members}
}

// allowance is the level of a budget at which answers wait, and by how much the level sinks in a second.
type allowance struct{ level, perSecond float64 }

// budget is how many wrong tokens have come lately: a level that sinks with time. It has a top: what was sent in a minute is forgotten in
// another one, and does not slow down the honest callers of that address for days.
type budget struct {
	level float64
	at    time.Time // of level
}

// now returns the level at a time.
func (b *budget) now(now time.Time, l allowance) float64 {
	return max(0, b.level-now.Sub(b.at).Seconds()*l.perSecond)
}

// spent reports whether answers wait.
func (b *budget) spent(now time.Time, l allowance) bool { return b.now(now, l) >= l.level }

// spend counts a wrong token.
func (b *budget) spend(now time.Time, l allowance) {
	b.level, b.at = min(b.now(now, l)+1, 2*l.level), now
}

// holder returns the caller with a token that a request has sent, and slows down guessing.
func (a *API) holder(r *http.Request, token string) (caller, error) {
	by := a.gate().holder(token)
	if token == "" || by.kinds == ingestToken {
		return by, nil
	}
	return by, a.guesses.check(r.Context(), knownCaller{callerNetwork(a.clientAddr(r)).Addr(), sha256.Sum256([]byte(token))}, by.kinds != 0)
}

// check counts a token if it is wrong, and waits if the caller has to. The error is a problem, or that of the context.
func (g *guesses) check(ctx context.Context, from knownCaller, right bool) error {
	client, err := g.enter(from, right, time.Now())
	if client == nil || err != nil {
		return err
	}
	defer g.leave(client)
	timer := time.NewTimer(g.share().wait())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	if right {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.rememberLocked(from, time.Now())
	}
	return nil
}

func (g *guesses) share() share { return share{float64(g.members())} }

// enter decides whether a request has to wait. If so, it returns the client, and the caller calls leave.
func (g *guesses) enter(from knownCaller, right bool, now time.Time) (*guesser, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	client, share := g.clients[from.addr], g.share()
	spent := client != nil && (client.spent(now, share.client()) || g.all.spent(now, share.all()) && client.level > 0)
	if !right {
		client = g.countLocked(from.addr, now, share)
	}
	lately := right && now.Sub(g.known[from]) < knownAge
	switch {
	case right && (lately || !spent):
		g.rememberLocked(from, now)
		return nil, nil
	case !spent:
		return nil, nil
	case client.waiting >= share.waiting():
		return nil, errTooManyGuesses
	}
	client.waiting++
	return client, nil
}

func (g *guesses) leave(client *guesser) {
	g.mu.Lock()
	defer g.mu.Unlock()
	client.waiting--
}

// countLocked counts a wrong token.
func (g *guesses) countLocked(addr netip.Addr, now time.Time, share share) *guesser {
	if g.clients == nil {
		g.clients = make(map[netip.Addr]*guesser)
	}
	client := g.clients[addr]
	if client == nil {
		g.forgetLocked(now, share)
		client = new(guesser)
		g.clients[addr] = client
	}
	client.spend(now, share.client())
	g.all.spend(now, share.all())
	g.wrong.Inc()
	g.noteLocked(addr, now)
	return client
}

// noteLocked notes a wrong token for the log.
func (g *guesses) noteLocked(addr netip.Addr, now time.Time) {
	if g.told.count == 0 {
		g.told.clients = make(map[netip.Addr]int)
		g.tellAt.Store(now.Add(guessesToldAfter).UnixNano())
	}
	g.told.count++
	if _, ok := g.told.clients[addr]; ok || len(g.told.clients) < maxGuessers {
		g.told.clients[addr]++
	}
}

// forgetLocked makes room for another address: it forgets one whose budget is full again, or any other one. It looks at few, because every
// caller with a token waits for it; a map is walked from a random place.
func (g *guesses) forgetLocked(now time.Time, share share) {
	if len(g.clients) < maxGuessers {
		return
	}
	looked := 0
	for addr, client := range g.clients {
		if looked++; client.waiting == 0 && client.now(now, share.client()) == 0 || looked == 100 {
			delete(g.clients, addr)
			return
		}
	}
}

// rememberLocked notes that a token was right.
func (g *guesses) rememberLocked(from knownCaller, now time.Time) {
	if g.known == nil {
		g.known = make(map[knownCaller]time.Time)
	}
	if _, ok := g.known[from]; !ok && len(g.known) >= maxKnown {
		oldest := from
		for one, at := range g.known {
			if oldest == from || at.Before(g.known[oldest]) {
				oldest = one
			}
		}
		delete(g.known, oldest)
	}
	g.known[from] = now
}

// tell writes the line about wrong tokens if a minute has passed since the first of them. Every request calls it: a server that is watched
// has requests all the time, and needs no goroutine for this.
func (g *guesses) tell() {
	due := g.tellAt.Load()
	if due == 0 || time.Now().UnixNano() < due {
		return
	}
	g.mu.Lock()
	told := g.told
	g.told = toldGuesses{}
	g.tellAt.Store(0)
	g.mu.Unlock()
	if told.count == 0 { // another request was faster
		return
	}
	var busiest netip.Addr
	for addr, n := range told.clients {
		if n > told.clients[busiest] {
			busiest = addr
		}
	}
	g.log.Warn("wrong tokens were sent", "count", told.count, "addresses", len(told.clients), "most_from", busiest.String(), "most", told.clients[busiest])
}

package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// spendGuesses uses up the budget of an address, and has as many requests wait as may.
func (f *fixture) spendGuesses(addr string) {
	g := &f.h.(observed).h.(*API).guesses
	g.mu.Lock()
	defer g.mu.Unlock()
	g.clients = map[netip.Addr]*guesser{netip.MustParseAddr(addr): {budget{1e9, time.Now()}, maxWaiting}}
}

// guess sends a token from an address and returns the status, and how long the answer took. The clock is that of a bubble.
func (f *fixture) guess(addr, token string) (status int, took time.Duration) {
	r := httptest.NewRequest("GET", "/v1/webhooks", nil)
	r.RemoteAddr = addr
	r.Header.Set("Authorization", "Bearer "+token)
	begun := time.Now()
	rec := f.serve(r)
	return rec.Code, time.Since(begun)
}

const guesserAt, otherAt = "203.0.113.7:1", "203.0.113.8:1"

// wantGuess is guess with what has to come of it.
func (f *fixture) wantGuess(addr, token string, status int, delay time.Duration) {
	f.t.Helper()
	if got, took := f.guess(addr, token); got != status || took != delay {
		f.t.Errorf("%s from %s: %d after %v, want %d after %v", token, addr, got, took, status, delay)
	}
}

// guessingFixture is one whose address guesserAt has used up its budget.
func guessingFixture(t *testing.T) *fixture {
	f := newFixture(t, Config{AdminTokens: []string{"admin", "admin-2"}, ReadTokens: []string{"read"}, IngestTokens: []string{"ingest"}, MetricsTokens: []string{"metrics"}})
	for i := range clientGuesses {
		f.wantGuess(guesserAt, fmt.Sprint("wrong-", i), 401, 0)
	}
	return f
}

// TestGuessesWait: after some wrong tokens an address waits for its answers, whether the token is right or not. Others do not, and the budget
// fills up again.
func TestGuessesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := guessingFixture(t)
		f.wantGuess(guesserAt, "wrong", 401, guessDelay)
		f.wantGuess(guesserAt, "admin", 200, guessDelay) // the time does not tell the right one
		f.wantGuess(guesserAt, "read", 200, guessDelay)
		f.wantGuess(guesserAt, "metrics", 403, guessDelay)
		f.wantGuess(guesserAt, "ingest", 403, 0)
		f.wantGuess(guesserAt, "", 401, 0) // no token is no guess
		f.wantGuess(otherAt, "admin", 200, 0)
		f.wantGuess(otherAt, "wrong", 401, 0)
		f.wantGuess(otherAt, "admin", 200, 0)
		f.wantGuess(guesserAt, "admin", 200, 0) // it was right from there lately: no proxy locks anybody out
		for range 3 {                           // the budget has filled up a little meanwhile
			f.guess(guesserAt, "wrong")
		}
		f.wantGuess(guesserAt, "admin-2", 200, guessDelay)
		time.Sleep(2 * time.Minute)
		for range clientGuesses {
			f.wantGuess(guesserAt, "wrong", 401, 0)
		}
		f.wantGuess(guesserAt, "wrong", 401, guessDelay)
	})
}

// TestGuessesForgotten: however many wrong tokens have come, a minute after the last one the address, and all others, are as free as ever.
func TestGuessesForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := guessingFixture(t)
		g, from := &f.h.(observed).h.(*API).guesses, knownCaller{addr: netip.MustParseAddr("203.0.113.7")}
		for range 5000 {
			client, err := g.enter(from, false, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			g.leave(client)
		}
		f.wantGuess(otherAt, "wrong", 401, 0)
		f.wantGuess(otherAt, "admin", 200, guessDelay) // one wrong token is enough
		time.Sleep(time.Minute + time.Second)
		f.wantGuess(guesserAt, "admin-2", 200, 0)
		f.wantGuess(otherAt, "wrong", 401, 0)
		f.wantGuess(otherAt, "admin-2", 200, 0)
	})
}

// TestGuessesInSignIn: the form for signing in has the same budget, and a browser that has signed in never waits.
func TestGuessesInSignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{AdminTokens: []string{"admin"}})
		cookie := f.signIn("admin")
		for range clientGuesses {
			f.postForm("/sign-in", url.Values{"token": {"wrong"}}.Encode())
		}
		begun := time.Now()
		if rec := f.postForm("/sign-in", url.Values{"token": {"wrong"}}.Encode()); rec.Code != 401 || time.Since(begun) != guessDelay {
			t.Errorf("%d after %v", rec.Code, time.Since(begun))
		}
		begun = time.Now()
		if !f.opens(cookie) || time.Since(begun) != 0 {
			t.Errorf("a browser that has signed in waits for %v", time.Since(begun))
		}
		f.spendGuesses("192.0.2.1")
		wantPage(t, f.postForm("/sign-in", url.Values{"token": {"wrong"}}.Encode()), 429, "too many wrong tokens")
		if !f.opens(cookie) {
			t.Error("a browser that has signed in is locked out")
		}
	})
}

// TestManyGuessesAtOnce: only a few requests of an address wait at once, and no others are looked at. Who was there before goes on, and so does
// everybody elsewhere.
func TestManyGuessesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{AdminTokens: []string{"admin", "admin-2"}, IngestTokens: []string{"ingest"}})
		f.wantGuess(guesserAt, "admin", 200, 0)
		for range clientGuesses {
			f.guess(guesserAt, "wrong")
		}
		var done sync.WaitGroup
		statuses := make(chan int, 100)
		for i := range cap(statuses) {
			done.Go(func() {
				status, _ := f.guess(guesserAt, fmt.Sprint("wrong-", i))
				statuses <- status
			})
		}
		synctest.Wait()
		if got := len(statuses); got != cap(statuses)-maxWaiting {
			t.Errorf("%d were answered at once", got)
		}
		f.wantGuess(guesserAt, "admin-2", 429, 0) // nothing tells that it is right
		f.wantGuess(guesserAt, "admin", 200, 0)
		f.wantGuess(otherAt, "admin-2", 200, 0)
		done.Wait()
		close(statuses)
		counts := make(map[int]int)
		for status := range statuses {
			counts[status]++
		}
		if counts[401] != maxWaiting || counts[429] != cap(statuses)-maxWaiting {
			t.Errorf("statuses %v", counts)
		}
		f.wantGuess(guesserAt, "admin-2", 200, guessDelay)
	})
}

// TestGuessesFromManyAddresses: all addresses together have a budget. Beyond it one wrong token is enough to wait; who has sent none does not.
func TestGuessesFromManyAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{AdminTokens: []string{"admin"}})
		f.wantGuess(otherAt, "wrong", 401, 0)
		f.wantGuess(otherAt, "wrong", 401, 0)
		for i := range allGuesses {
			f.wantGuess(fmt.Sprintf("198.51.100.%d:1", i), "wrong", 401, 0)
		}
		f.wantGuess(otherAt, "wrong", 401, guessDelay)
		f.wantGuess("192.0.2.9:1", "admin", 200, 0)
		f = newFixture(t, Config{AdminTokens: []string{"admin"}})
		// An IPv6 network is one address, however many it has.
		for i := range clientGuesses {
			f.guess(fmt.Sprintf("[2001:db8:1:1::%x]:1", i), "wrong")
		}
		f.wantGuess("[2001:db8:1:1:ffff::1]:1", "wrong", 401, guessDelay)
		f.wantGuess("[2001:db8:1:2::1]:1", "wrong", 401, 0)
	})
}

// TestGuessesBounded: no number of addresses or callers fills the memory.
func TestGuessesBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{AdminTokens: []string{"admin"}})
		g := &f.h.(observed).h.(*API).guesses
		for i := range maxGuessers + 100 {
			from := knownCaller{addr: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}
			for _, right := range []bool{false, true} {
				if client, err := g.enter(from, right, time.Now()); err != nil {
					t.Fatal(err)
				} else if client != nil {
					g.leave(client)
				}
			}
		}
		if len(g.clients) != maxGuessers || len(g.known) > maxKnown || len(g.told.clients) != maxGuessers || g.told.count != maxGuessers+100 {
			t.Errorf("%d addresses, %d callers, %d to tell", len(g.clients), len(g.known), len(g.told.clients))
		}
	})
}

// TestGuessGoesAway: a guesser that hangs up gains nothing: its guess is counted, and it was told nothing.
func TestGuessGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := guessingFixture(t)
		for _, token := range []string{"wrong", "admin-2"} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			r := httptest.NewRequestWithContext(ctx, "GET", "/v1/webhooks", nil)
			r.RemoteAddr = guesserAt
			r.Header.Set("Authorization", "Bearer "+token)
			f.h.(observed).h.ServeHTTP(httptest.NewRecorder(), r)
			cancel()
		}
		g := &f.h.(observed).h.(*API).guesses
		if client := g.clients[netip.MustParseAddr("203.0.113.7")]; client.waiting != 0 {
			t.Errorf("%d wait", client.waiting)
		}
		f.wantGuess(guesserAt, "admin-2", 200, guessDelay) // it was not right before: nobody has seen the answer
	})
}

// TestGuessesTold: the log tells of wrong tokens once a minute, with their number, and never with a token; a metric counts them.
func TestGuessesTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{AdminTokens: []string{"admin"}})
		for i := range 30 {
			f.guess(otherAt, fmt.Sprint("a-wrong-token-", i))
		}
		f.guess(guesserAt, "a-wrong-token")
		time.Sleep(guessesToldAfter)
		f.want(200, "GET", "/healthz", "") // any request will do
		f.want(200, "GET", "/healthz", "")
		f.guess(guesserAt, "a-wrong-token")
		time.Sleep(10 * guessesToldAfter)
		f.want(200, "GET", "/healthz", "")
		lines := regexp.MustCompile(`level=WARN msg="wrong tokens were sent" (.*)\n`).FindAllStringSubmatch(f.log.String(), -1)
		if len(lines) != 2 || lines[0][1] != "count=31 addresses=2 most_from=203.0.113.8 most=30" || lines[1][1] != "count=1 addresses=1 most_from=203.0.113.7 most=1" {
			t.Errorf("%q", lines)
		}
		if strings.Contains(f.log.String(), "a-wrong") {
			t.Error("the log has a token")
		}
		f.token = "admin"
		if got := f.want(http.StatusOK, "GET", "/metrics", ""); !strings.Contains(got, "hookbolt_http_wrong_tokens_total 32\n") {
			t.Error("the metric is not 32")
		}
	})
}

package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hookbolt/engine"
)

// fakeFleet is what several processes share.
type fakeFleet struct {
	signInsHere
	members int
	err     error // of all calls; nil for none
	drain   engine.Drain
}

func (f *fakeFleet) SignIns(ctx context.Context, ids [][32]byte) ([]engine.SignIn, error) {
	found, _ := f.signInsHere.SignIns(ctx, ids)
	return found, f.err
}

func (f *fakeFleet) Members() int { return f.members }

func (f *fakeFleet) DrainByHand(context.Context) (engine.Drain, error) {
	f.drain.On = f.err == nil
	return f.drain, f.err
}

func (f *fakeFleet) BackFromDrain(context.Context) (engine.Drain, error) {
	f.drain.On = false
	return f.drain, f.err
}

func (f *fakeFleet) DrainState(context.Context) (engine.Drain, error) { return f.drain, f.err }

// shared returns several processes, each with an API of its own.
func shared(t *testing.T, cfg Config, n int) (*fakeFleet, []*fixture) {
	fleet := &fakeFleet{members: n}
	cfg.Fleet = fleet
	var all []*fixture
	for range n {
		all = append(all, newFixture(t, cfg))
	}
	return fleet, all
}

// TestSignInAtAll: who has signed in at one process is signed in at all, and who signs out at one has signed out at all.
func TestSignInAtAll(t *testing.T) {
	fleet, all := shared(t, Config{AdminTokens: []string{"admin", "other"}}, 3)
	cookie, other := all[0].signIn("admin"), all[1].signIn("other")
	for i, f := range all {
		if !f.opens(cookie) || !f.opens(other) {
			t.Errorf("process %d does not know who has signed in", i)
		}
	}
	all[2].postForm("/sign-out", "", "Cookie", cookie)
	for i, f := range all {
		if f.opens(cookie) || !f.opens(other) {
			t.Errorf("process %d does not know who has signed out", i)
		}
	}
	// A token that one process does not have any more has no sign-ins at any.
	all[0].h.(observed).h.(*API).Configure(Config{AdminTokens: []string{"admin"}})
	for i, f := range all {
		if f.opens(other) {
			t.Errorf("process %d knows a sign-in of a removed token", i)
		}
	}
	cookie = all[1].signIn("admin")
	newFixture(t, Config{Fleet: fleet}) // has no tokens, so it does not know which are removed
	fleet.err = engine.ErrAway
	rec := all[0].postForm("/sign-out", "", "Cookie", cookie)
	if rec.Code != 503 || rec.Header().Get("Retry-After") == "" || len(rec.Result().Cookies()) != 0 {
		t.Errorf("a sign-out that nobody has kept: %d %v", rec.Code, rec.Header())
	}
	r := all[0].pageRequest("GET", "/webhooks")
	r.Header.Set("Cookie", cookie)
	if rec := all[0].serve(r); rec.Code != 503 {
		t.Errorf("a page while nobody can know who has signed in: %d", rec.Code)
	}
	fleet.err = nil
	if !all[0].opens(cookie) {
		t.Error("a sign-in has ended with an error")
	}
}

// TestUnknownCookiesWriteNothing: anybody may send cookies, so those that nobody has cause no change of what is stored.
func TestUnknownCookiesWriteNothing(t *testing.T) {
	fleet := &writesCounted{fakeFleet: fakeFleet{members: 1}}
	f := newFixture(t, Config{AdminTokens: []string{"admin"}, Fleet: fleet})
	begun := fleet.writes
	for i := range 20 {
		for _, cookie := range []string{"x", "", strings.Repeat("a", signInIDLength-2) + fmt.Sprintf("%02d", i)} {
			f.opens(signInCookie + "=" + cookie)
			f.postForm("/sign-out", "", "Cookie", signInCookie+"="+cookie)
		}
	}
	if fleet.writes != begun {
		t.Errorf("%d changes", fleet.writes-begun)
	}
	f.postForm("/sign-out", "", "Cookie", f.signIn("admin"))
	if fleet.writes != begun+2 {
		t.Errorf("%d changes by a sign-in and a sign-out: the test counts nothing", fleet.writes-begun)
	}
}

// writesCounted counts the changes of a fleet.
type writesCounted struct {
	fakeFleet
	writes int
}

func (w *writesCounted) BeginSignIn(ctx context.Context, in engine.SignIn) error {
	w.writes++
	return w.fakeFleet.BeginSignIn(ctx, in)
}

func (w *writesCounted) EndSignIns(ctx context.Context, ids [][32]byte) error {
	w.writes++
	return w.fakeFleet.EndSignIns(ctx, ids)
}

func (w *writesCounted) KeepSignIns(ctx context.Context, tokens [][32]byte) error {
	w.writes++
	return w.fakeFleet.KeepSignIns(ctx, tokens)
}

// TestGuessesOfAll: several processes let no more guesses through than one does, however a balancer spreads them, up to one each.
func TestGuessesOfAll(t *testing.T) {
	for _, n := range []int{1, 2, 3, 8, 12} {
		synctest.Test(t, func(t *testing.T) {
			_, all := shared(t, Config{AdminTokens: []string{"admin"}}, n)
			at := func(i int) *fixture { return all[i%n] }
			free := 0
			for i := range 3 * clientGuesses {
				if _, took := at(i).guess(guesserAt, fmt.Sprint("wrong-", i)); took == 0 {
					free++
				} else if i > 2*clientGuesses {
					break
				}
			}
			if most := clientGuesses + n; free > most || free < clientGuesses-n {
				t.Errorf("%d processes: %d guesses without a wait, want about %d", n, free, clientGuesses)
			}
			// As many as come in a minute, all at once.
			answered := make(chan int, 10_000)
			stop := time.Now().Add(time.Minute)
			for i := range n * 2 * maxWaiting {
				go func() {
					count := 0
					for time.Now().Before(stop) {
						if code, _ := at(i).guess(guesserAt, "wrong"); code == 401 {
							count++
						} else {
							time.Sleep(100 * time.Millisecond)
						}
					}
					answered <- count
				}()
			}
			looked := 0
			for range n * 2 * maxWaiting {
				looked += <-answered
			}
			most := int(time.Minute/guessDelay) * maxWaiting
			if looked > most+2*n*maxWaiting || looked < most/2 {
				t.Errorf("%d processes: %d tokens were looked at in a minute, want about %d", n, looked, most)
			}
			time.Sleep(2 * time.Minute)
			for i := range all {
				all[i].wantGuess(guesserAt, "admin", 200, 0)
			}
		})
	}
}

// TestDrainCalls: the state of a drain is shown, and what refuses it.
func TestDrainCalls(t *testing.T) {
	fleet := &fakeFleet{members: 2, drain: engine.Drain{Lanes: 3, Free: 1, Keeper: true, Others: 1}}
	f := newFixture(t, Config{AdminTokens: []string{"admin"}, Fleet: fleet})
	f.token = "admin"
	for _, c := range []struct {
		method string
		status int
		want   string
	}{
		{"GET", 200, `{"draining":false,"lanes":3,"free":1,"background":true,"others":1}`},
		{"POST", 202, `{"draining":true,"lanes":3,"free":1,"background":true,"others":1}`},
		{"GET", 200, `{"draining":true,"lanes":3,"free":1,"background":true,"others":1}`},
		{"DELETE", 200, `{"draining":false,"lanes":3,"free":1,"background":true,"others":1}`},
	} {
		if rec := f.do(c.method, "/v1/drain", ""); rec.Code != c.status || strings.TrimSpace(rec.Body.String()) != c.want {
			t.Errorf("%s: %d %s, want %d %s", c.method, rec.Code, rec.Body, c.status, c.want)
		}
	}
	for _, change := range []string{"POST", "DELETE"} {
		if log := f.log.String(); strings.Count(log, `operation="`+change+` /v1/drain"`) != 1 {
			t.Errorf("the log does not tell of %s:\n%s", change, log)
		}
	}
	fleet.err = fmt.Errorf("%w: there is no other process", engine.ErrConflict)
	if p := wantProblem(t, f.do("POST", "/v1/drain", ""), 409); p.Detail != "there is no other process" {
		t.Errorf("alone: %q", p.Detail)
	}
	alone := newFixture(t, Config{})
	for _, method := range []string{"GET", "POST", "DELETE"} {
		if p := wantProblem(t, alone.do(method, "/v1/drain", ""), 409); !strings.Contains(p.Detail, "in a file") {
			t.Errorf("with a file, %s: %q", method, p.Detail)
		}
	}
}

// cutOff is a store of a process that cannot know what others have changed.
type cutOff struct{ engine.Store }

func (cutOff) Current(context.Context) error { return engine.ErrAway }

// TestCutOffAnswersNothingFromMemory: a process that may have missed a change of others answers no call that shows, compares or changes a webhook.
func TestCutOffAnswersNothingFromMemory(t *testing.T) {
	f := newFixture(t, Config{AdminTokens: []string{"admin"}})
	f.token = "admin"
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://a.example/"}`)
	f.h.(observed).h.(*API).engine = engine.New(cutOff{f.store}, engine.DefaultConfig(), prometheus.NewRegistry(), f.h.(observed).h.(*API).log)
	for _, c := range everyRoute {
		probe := c.anybody() || c.target == "/metrics" || c.target == "/v1/events" || c.target == "/nothing/here"
		rec := f.do(c.method, c.target, c.body)
		if got := rec.Code == 503 && rec.Header().Get("Retry-After") != ""; got == probe && c.target != "/readyz" {
			t.Errorf("%s %s: %d %s", c.method, c.target, rec.Code, rec.Body)
		}
	}
	cookie := f.signIn("admin")
	for _, path := range []string{"/", "/webhooks", "/webhooks/1", "/webhooks/1/edit"} {
		r := httptest.NewRequest("GET", path, nil)
		r.Header.Set("Cookie", cookie)
		if rec := f.serve(r); rec.Code != http.StatusServiceUnavailable {
			t.Errorf("%s: %d", path, rec.Code)
		}
	}
}

package engine_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"hookbolt/engine"
	"hookbolt/storage/postgres"
)

// brokenMember is a store of a fleet that does one thing wrong.
type brokenMember struct {
	*postgres.Store
	mine      bool                                        // Mine is always true
	news      func(n engine.News, tell func(engine.News)) // in place of tell
	unchanged bool                                        // a change that changes nothing is not asked about
	forgets   func() bool                                 // a 2xx is not recorded
}

func (b *brokenMember) Mine(id uint32) bool { return b.mine || b.Store.Mine(id) }

func (b *brokenMember) Watch(ctx context.Context, f func(engine.News)) error {
	tell := f
	if b.news != nil {
		tell = func(n engine.News) { b.news(n, f) }
	}
	return b.Store.Watch(ctx, tell)
}

func (b *brokenMember) PutWebhook(ctx context.Context, c engine.WebhookChange) (engine.WebhookChanged, error) {
	if b.unchanged && c.Unchanged {
		return engine.WebhookChanged{Webhook: c.Webhook}, nil
	}
	return b.Store.PutWebhook(ctx, c)
}

func (b *brokenMember) RecordAttempt(ctx context.Context, r engine.AttemptRecord) (engine.Recorded, error) {
	if b.forgets != nil && r.Attempt.Delivered() && b.forgets() {
		return engine.Recorded{Delivery: r.Delivery}, b.Release(ctx, []engine.Delivery{r.Delivery})
	}
	return b.Store.RecordAttempt(ctx, r)
}

// TestFleetSimulationSees lets the store of each member do one thing wrong, and asks the simulation to notice.
func TestFleetSimulationSees(t *testing.T) {
	if raced {
		t.Skip("sees the same without the race detector, in a tenth of the time")
	}
	broken := func(b brokenMember) func(*postgres.Store) engine.Store {
		return func(s *postgres.Store) engine.Store {
			b := b
			b.Store = s
			return &b
		}
	}
	const post, change, cancel, mode, cut, kill, leave = 0, 60, 72, 84, 88, 90, 94 // see act
	tests := []struct {
		name    string
		store   func(*postgres.Store) engine.Store
		options func(member int, o *postgres.Options)
		want    []fleetFinding
		acts    []int
		only    bool
	}{
		{"an attempt does not ask whether its lane is still owned", broken(brokenMember{mine: true}), nil, []fleetFinding{fleetForbidden, fleetOverlap, fleetLimit}, slices.Concat(slices.Repeat([]int{post}, 12), []int{change, change, change, cut}), true},
		{"a member is taken over before its lease has ended", nil, func(member int, o *postgres.Options) {
			if member%2 == 0 {
				o.Beat = 250 * time.Millisecond
			}
		}, []fleetFinding{fleetForbidden, fleetOverlap, fleetLimit}, []int{post, mode, change, cut}, false},
		{"a member that is dead is taken over late", nil, func(_ int, o *postgres.Options) { o.Beat = 3 * time.Second }, []fleetFinding{fleetLate}, append(slices.Repeat([]int{post}, 60), kill), true},
		{"what others queue is not told", broken(brokenMember{news: func(n engine.News, tell func(engine.News)) {
			n.Queued = nil
			tell(n)
		}}), nil, []fleetFinding{fleetLate, fleetLost}, []int{post}, false},
		{"what others cancel is not told", broken(brokenMember{news: func(n engine.News, tell func(engine.News)) {
			n.Ended = nil
			tell(n)
		}}), nil, []fleetFinding{fleetForbidden}, []int{post, mode, cancel, cancel, cancel}, false},
		{"news are acknowledged before they are taken in", broken(brokenMember{news: func(n engine.News, tell func(engine.News)) {
			time.AfterFunc(3*time.Second, func() { tell(n) })
		}}), nil, []fleetFinding{fleetForbidden, fleetLate}, []int{post, change}, false},
		{"lanes go on without the health of their endpoint", broken(brokenMember{news: func(n engine.News, tell func(engine.News)) {
			for id := range n.Own {
				n.Own[id] = engine.Owned{Webhook: n.Own[id].Webhook}
			}
			tell(n)
		}}), nil, []fleetFinding{fleetHealth}, []int{post, leave, cut}, false},
		{"a change that changes nothing here is not asked about", broken(brokenMember{unchanged: true}), nil, []fleetFinding{fleetForbidden}, append(slices.Repeat([]int{post, post, post, change, change, change, change}, 4), cut), true},
		{"a 2xx is not recorded", broken(brokenMember{forgets: func() func() bool {
			n := 0
			return func() bool { n++; return n == 30 }
		}()}), nil, []fleetFinding{fleetAgain}, []int{post}, false},
	}
	const tries = 8
	for _, tt := range tests {
		if !*fleetAll && tt.name != "news are acknowledged before they are taken in" && tt.name != "a 2xx is not recorded" {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			for seed := range uint64(tries) {
				var s *fleetSim
				t.Run("", func(t *testing.T) {
					s = runFleet(t, 1005+3*seed, fleetFaults{store: tt.store, options: tt.options, wanted: tt.want, acts: tt.acts, only: tt.only})
				})
				if s.sawFault() {
					t.Logf("seen by seed %d after %s: %v", s.seed, s.virtual, s.violations[len(s.violations)-1])
					return
				}
				t.Logf("not seen by seed %d: %v", s.seed, &s.fleetTotals)
			}
			t.Errorf("not noticed by %d seeds", tries)
		})
	}
}

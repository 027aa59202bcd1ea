package engine_test

import (
	"bytes"
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hookbolt/engine"
)

// faultyStore is a store that does one thing wrong, each as often as its function says.
type faultyStore struct {
	engine.Store
	append func([]engine.Event) []engine.Event
	claim  func(time.Time) time.Time
	freeze func(*engine.Freeze) error
	record func(*engine.AttemptRecord) (forget bool)
	keep   func(engine.Retention) engine.Retention
}

func (f *faultyStore) AppendEvents(ctx context.Context, a engine.Append) (engine.Appended, error) {
	if f.append != nil {
		var events []engine.Event
		for _, s := range a.Sessions {
			events = append(events, s.Events...)
		}
		a.Sessions = engine.NewAppend(f.append(events), a.Now).Sessions
	}
	return f.Store.AppendEvents(ctx, a)
}

func (f *faultyStore) ClaimDue(ctx context.Context, now time.Time, requests []engine.ClaimRequest) ([]engine.ClaimResult, error) {
	if f.claim != nil {
		now = f.claim(now)
	}
	return f.Store.ClaimDue(ctx, now, requests)
}

func (f *faultyStore) Freeze(ctx context.Context, fr engine.Freeze) (engine.Frozen, error) {
	var err error
	if f.freeze != nil {
		err = f.freeze(&fr)
	}
	done, stored := f.Store.Freeze(ctx, fr)
	if stored != nil {
		return done, stored
	}
	return done, err
}

func (f *faultyStore) RecordAttempt(ctx context.Context, r engine.AttemptRecord) (engine.Recorded, error) {
	if f.record != nil && f.record(&r) {
		return engine.Recorded{Delivery: r.Delivery}, f.Store.Release(ctx, []engine.Delivery{r.Delivery})
	}
	return f.Store.RecordAttempt(ctx, r)
}

func (f *faultyStore) Maintain(ctx context.Context, now time.Time, r engine.Retention) (engine.Maintained, error) {
	if f.keep != nil {
		r = f.keep(r)
	}
	return f.Store.Maintain(ctx, now, r)
}

// TestSimulationSees lets the store do one thing wrong, and asks the simulation to notice.
func TestSimulationSees(t *testing.T) {
	if raced {
		t.Skip("sees the same without the race detector, in a tenth of the time")
	}
	tests := []struct {
		name  string
		fault func(once func() bool) faultyStore // once is true once, at its 20th call
		want  []simFinding
	}{
		{"an acknowledged event that is not stored", func(once func() bool) faultyStore {
			return faultyStore{append: func(events []engine.Event) []engine.Event {
				if len(events) > 1 && once() {
					return events[:len(events)-1]
				}
				return events
			}}
		}, []simFinding{simLost, simWrong}},
		{"a due trigger that goes without a trace", func(once func() bool) faultyStore {
			return faultyStore{freeze: func(f *engine.Freeze) error {
				if f.Payload == nil || !once() {
					return nil
				}
				f.Payload = nil
				return engine.ErrNotSendable
			}}
		}, []simFinding{simLost}},
		{"a 2xx that is not recorded", func(once func() bool) faultyStore {
			return faultyStore{record: func(r *engine.AttemptRecord) bool { return r.Attempt.Delivered() && once() }}
		}, []simFinding{simAgain}},
		{"a failed attempt that is not recorded", func(once func() bool) faultyStore {
			return faultyStore{record: func(r *engine.AttemptRecord) bool { return !r.Attempt.Delivered() && once() }}
		}, []simFinding{simOff}},
		{"a retry that is a minute late", func(once func() bool) faultyStore {
			return faultyStore{record: func(r *engine.AttemptRecord) bool {
				if !r.Next.At.IsZero() && once() {
					r.Next.At = r.Next.At.Add(time.Minute)
				}
				return false
			}}
		}, []simFinding{simOff}},
		{"a delivery that is claimed a minute early", func(once func() bool) faultyStore {
			early := false // from then on, for not every call finds something
			return faultyStore{claim: func(now time.Time) time.Time {
				early = early || once()
				if early {
					return now.Add(time.Minute)
				}
				return now
			}}
		}, []simFinding{simOff}},
		{"a byte of a frozen payload", func(once func() bool) faultyStore {
			return faultyStore{freeze: func(f *engine.Freeze) error {
				if f.Payload != nil && once() {
					f.Payload = bytes.Replace(f.Payload, []byte("complete"), []byte("completE"), 1)
				}
				return nil
			}}
		}, []simFinding{simWrong}},
		{"retention that comes too early", func(once func() bool) faultyStore {
			return faultyStore{keep: func(r engine.Retention) engine.Retention {
				if once() {
					return engine.Retention{Sessions: time.Minute, Deliveries: time.Minute}
				}
				return r
			}}
		}, []simFinding{simLost}},
		{"a crash that takes what was acknowledged", nil, []simFinding{simLost, simAgain, simWrong}},
	}
	const tries = 8 // a retry that is a minute late, say, is not seen where the endpoint is failing, and the next probe is later
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for seed := range uint64(tries) {
				seen := false
				synctest.Test(t, func(t *testing.T) {
					s := newSim(t, 1000+seed, 1)
					s.wanted = tt.want
					if s.staleCrashes = tt.fault == nil; tt.fault != nil {
						var calls atomic.Int64
						f := tt.fault(func() bool { return calls.Add(1) == 20 })
						s.fault = func(store engine.Store) engine.Store { f.Store = store; return &f }
					}
					s.run()
					seen = s.sawFault()
					t.Logf("seen: %t; %v; %q", seen, &s.totals, s.violations)
				})
				if seen {
					return
				}
			}
			t.Errorf("not noticed by %d seeds", tries)
		})
	}
}

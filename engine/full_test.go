package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hookbolt/engine"
)

// crowdedStore has no room for what its switches say.
type crowdedStore struct {
	engine.Store
	append, freeze, record, maintain atomic.Bool
	refused                          atomic.Int64 // how often freeze has been
	damaged                          error
}

var errNoRoom = fmt.Errorf("%w: the disk takes no more", engine.ErrFull)

func (s *crowdedStore) AppendEvents(ctx context.Context, a engine.Append) (engine.Appended, error) {
	if s.append.Load() {
		return engine.Appended{}, errNoRoom
	}
	return s.Store.AppendEvents(ctx, a)
}

func (s *crowdedStore) Freeze(ctx context.Context, f engine.Freeze) (engine.Frozen, error) {
	if s.freeze.Load() {
		if s.refused.Add(1) == 10_000 {
			s.freeze.Store(false) // so that a test ends that would not otherwise
		}
		return engine.Frozen{}, errNoRoom
	}
	return s.Store.Freeze(ctx, f)
}

func (s *crowdedStore) RecordAttempt(ctx context.Context, r engine.AttemptRecord) (engine.Recorded, error) {
	if s.record.Load() {
		return engine.Recorded{}, errNoRoom
	}
	return s.Store.RecordAttempt(ctx, r)
}

func (s *crowdedStore) Maintain(ctx context.Context, now time.Time, r engine.Retention) (engine.Maintained, error) {
	if s.maintain.Load() {
		return engine.Maintained{}, errNoRoom
	}
	m, err := s.Store.Maintain(ctx, now, r)
	m.Damaged = append(m.Damaged, s.damaged)
	return m, err
}

func (w *world) crowd() *crowdedStore {
	s := &crowdedStore{damaged: errors.New("a record")}
	w.stop()
	w.wrap = func(store engine.Store) engine.Store { s.Store = store; return s }
	w.start()
	return s
}

// Without room for a payload nothing is sent; without room for the record of an attempt nothing is sent twice. Both go on by themselves.
func TestNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		full := w.crowd()
		w.webhook(`{"url":"https://a.example/","delay":1}`) // what is due at once is frozen with its events
		full.freeze.Store(true)
		w.session()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := len(w.net.all()); n != 0 {
			t.Fatalf("%d requests whose payload is not frozen", n)
		}
		full.freeze.Store(false)
		full.record.Store(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(w.net.all()); n != 1 {
			t.Fatalf("%d requests without room for the record of the first, want 1", n)
		}
		if d := w.only(engine.DeliveryQuery{}); d.Status != engine.StatusPending {
			t.Errorf("the delivery is %s", d.Status)
		}
		full.record.Store(false)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if d := w.only(engine.DeliveryQuery{}); d.Status != engine.StatusDelivered || d.Attempts != 1 {
			t.Errorf("with room again the delivery is %s after %d attempts, want delivered after 1", d.Status, d.Attempts)
		}
		w.session()
		time.Sleep(2 * time.Second)
		if n := len(w.net.all()); n != 2 {
			t.Errorf("%d requests after another session, want 2", n)
		}
	})
}

// What there is no room for is tried again each second, also where a lane has as much of it as it may take up.
func TestNoRoomForAWholeLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		full := w.crowd()
		w.webhook(`{"url":"https://a.example/","delay":1,"max_in_flight":1}`)
		full.freeze.Store(true)
		w.sessions(10)
		time.Sleep(10*time.Second - time.Millisecond)
		if n := full.refused.Load(); n > 20 {
			t.Errorf("%d payloads were refused in 10 s, want no more than 20: two at once, each second", n)
		}
		full.freeze.Store(false)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := len(w.net.all()); n != 10 {
			t.Errorf("%d requests with room again, want 10", n)
		}
	})
}

// A stop does not wait for room.
func TestStopWithoutRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		full := w.crowd()
		w.webhook(`{"url":"https://a.example/","delay":0}`)
		full.record.Store(true)
		w.session()
		time.Sleep(5 * time.Second)
		began := time.Now()
		w.stop()
		if took := time.Since(began); took > time.Second {
			t.Errorf("the stop took %s", took)
		}
		w.wrap = nil
		w.start()
		time.Sleep(time.Second)
		synctest.Wait()
		if d := w.only(engine.DeliveryQuery{}); d.Status != engine.StatusDelivered {
			t.Errorf("after the next start the delivery is %s", d.Status)
		}
	})
}

func TestFullIsCountedAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		full := w.crowd()
		w.webhook(`{"url":"https://a.example/","delay":0}`)
		full.append.Store(true)
		if _, err := w.Ingest(t.Context(), []byte(strings.Repeat(event("start", [16]byte{1}), 2))); !errors.Is(err, engine.ErrFull) {
			t.Errorf("events: %v, want ErrFull", err)
		}
		full.append.Store(false)
		w.session()

		// Background work is tried again soon, not after the minute that other errors take.
		full.maintain.Store(true)
		time.Sleep(2*time.Hour + 500*time.Millisecond) // between two tries
		full.maintain.Store(false)
		before := w.metric("hookbolt_damaged_records_total", "")
		time.Sleep(2 * time.Second)
		if after := w.metric("hookbolt_damaged_records_total", ""); after <= before {
			t.Errorf("the background work has not been tried again; damaged records %v, then %v", before, after)
		}
	})
}

package engine

import (
	"context"
	"maps"
	"slices"
	"time"
)

// Processes that share a store show the same. Each keeps there, every few seconds, what it has counted, and adds what the others have kept to what it shows; what has
// been counted outlives the process. The health of an endpoint is in the memory of the process that owns the lanes, and in the store.

// sharedStore is a Store that several processes share.
type sharedStore interface {
	// KeepHistory stores what this process has counted in some minutes, in place of what it has stored of them before, and the last attempts of webhooks,
	// unless newer ones are stored.
	KeepHistory(ctx context.Context, minutes []Minute, recent map[uint32]Recent) error
	// HistoryOfOthers returns what other processes have stored of the minutes from one on, in any order. There may be several of a minute. oldest is the first
	// minute of which anybody has stored something, 0 if there is none.
	HistoryOfOthers(ctx context.Context, from int64) (minutes []Minute, oldest int64, err error)
	// StoredRecent returns the last attempts that are stored of webhooks.
	StoredRecent(ctx context.Context, webhooks []uint32) (map[uint32]Recent, error)
	// HealthElsewhere returns the health of the endpoints of those of the webhooks whose lanes this process does not own.
	HealthElsewhere(ctx context.Context, webhooks []uint32) (map[uint32]Health, error)
}

const (
	// keepHistoryEvery is how often counts are kept, if there are new ones.
	keepHistoryEvery = 5 * time.Second
	// maxRecentKept bounds of how many webhooks the last attempts are kept each time.
	maxRecentKept = 500
)

// unkeptCounts names what has been counted since it was last kept.
type unkeptCounts struct {
	minutes  map[int64]bool
	webhooks map[uint32]bool
}

// takeUnkept returns what has been counted since the last call.
func (h *history) takeUnkept() (minutes []Minute, recent map[uint32]Recent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for unix := range h.unkept.minutes {
		if m := h.placeLocked(unix); m.Unix == unix {
			minutes = append(minutes, *m)
		}
	}
	clear(h.unkept.minutes)
	recent = make(map[uint32]Recent)
	for id := range h.unkept.webhooks {
		if len(recent) == maxRecentKept {
			break
		}
		delete(h.unkept.webhooks, id)
		if r := h.recent[id]; r != nil {
			recent[id] = *r
		}
	}
	return minutes, recent
}

// putBack has what could not be kept be kept the next time.
func (h *history) putBack(minutes []Minute, recent map[uint32]Recent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range minutes {
		h.unkept.minutes[minutes[i].Unix] = true
	}
	for id := range recent {
		h.unkept.webhooks[id] = true
	}
}

// keepHistory keeps what is counted until ctx ends, and then the rest.
func (e *Engine) keepHistory(ctx context.Context) {
	store, ok := e.store.(sharedStore)
	if !ok {
		return
	}
	for sleep(ctx, keepHistoryEvery) {
		e.keepCounted(ctx, store)
	}
	for e.keepCounted(context.WithoutCancel(ctx), store) {
	}
}

// keepCounted keeps what has been counted since the last time, as much as is kept at once. It reports whether there was something, and it was kept.
func (e *Engine) keepCounted(ctx context.Context, store sharedStore) bool {
	minutes, recent := e.metrics.history.takeUnkept()
	if len(minutes)+len(recent) == 0 {
		return false
	}
	err := store.KeepHistory(ctx, minutes, recent)
	if err != nil {
		e.log.Debug("the history cannot be kept", "error", err)
		e.metrics.history.putBack(minutes, recent)
	}
	return err == nil
}

// History returns the last n spans of length step, oldest first; the last one is still running. step is a whole number of minutes that
// divides a day, and n steps are at most a day. The counts of a process that has the store for itself are in its memory only. since is when they began.
func (e *Engine) History(ctx context.Context, step time.Duration, n int) (intervals []Interval, since time.Time, err error) {
	h, now := e.metrics.history, utcNow()
	var others []Minute
	var oldest int64
	if store, ok := e.store.(sharedStore); ok {
		if others, oldest, err = store.HistoryOfOthers(ctx, now.Truncate(step).Add(-time.Duration(n-1)*step).Unix()/60); err != nil {
			return nil, since, err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	intervals, since = h.intervalsLocked(utcNow(), step, n, others)
	if oldest != 0 { // all processes tell the same
		since = time.Unix(oldest*60, 0).UTC()
	}
	return intervals, since, nil
}

// Recent returns the results of the last attempts of webhooks. Those of which none is known are missing.
func (e *Engine) Recent(ctx context.Context, webhooks ...uint32) (map[uint32]Recent, error) {
	all := make(map[uint32]Recent)
	if store, ok := e.store.(sharedStore); ok {
		stored, err := store.StoredRecent(ctx, webhooks)
		if err != nil {
			return nil, err
		}
		maps.Copy(all, stored)
	}
	h := e.metrics.history
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range slices.Compact(slices.Sorted(slices.Values(webhooks))) {
		if r := h.recent[id]; r != nil && !r.AttemptedAt.Before(all[id].AttemptedAt) {
			all[id] = *r
		}
	}
	return all, nil
}

// Health returns the health of webhooks' endpoints.
func (e *Engine) Health(ctx context.Context, webhooks ...uint32) (map[uint32]Health, error) {
	all := make(map[uint32]Health)
	for _, id := range webhooks {
		all[id] = e.lanes.healthOf(id)
	}
	if store, ok := e.store.(sharedStore); ok {
		others, err := store.HealthElsewhere(ctx, webhooks)
		if err != nil {
			return nil, err
		}
		maps.Copy(all, others)
	}
	return all, nil
}

// WebhookIDs returns the ids of webhooks.
func WebhookIDs(webhooks []*Webhook) []uint32 {
	ids := make([]uint32, len(webhooks))
	for i, w := range webhooks {
		ids[i] = w.ID
	}
	return ids
}

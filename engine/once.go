package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	// OnceRetention is for how long a request that has a key is remembered.
	OnceRetention = 24 * time.Hour
	// MaxOnce is how many requests with keys a Store remembers at least. It forgets the oldest ones beyond; where several processes share the data, it may
	// remember some thousands more.
	MaxOnce = 100_000
)

// OnceKey stands for the key of a request: a hash of the key and of whose it is.
type OnceKey [32]byte

// Once identifies a request that has its effect once, however often it is sent. The Store keeps what the request has done in the transaction
// of the effect: there is never one without the other.
type Once struct {
	Key OnceKey
	// Request is a hash of what the request asks for. Another request with the same key is refused.
	Request []byte
	// At is when the request came, in UTC. BeginOnce sets it.
	At time.Time
}

// Done is what a request with a key has done. It holds no secrets: a response is made from it anew. Its JSON form is the stored one.
type Done struct {
	Request []byte    `json:"request"`
	At      time.Time `json:"at"`
	// WebhookID is the webhook that was created or changed; 0 for none. DeliveryID is the test that was queued, Replay the replay that was started.
	// Erased is what an erasure has erased; nil while it goes on.
	WebhookID  uint32    `json:"webhook_id,omitzero"`
	DeliveryID uuid.UUID `json:"delivery_id,omitzero"`
	Replay     *Replay   `json:"replay,omitempty"`
	Erased     *Erased   `json:"erased,omitempty"`
}

// Forgotten reports whether the request is not to be remembered any more.
func (d *Done) Forgotten(now time.Time) bool { return !d.At.Add(OnceRetention).After(now) }

// onces are the requests with keys that this process carries out right now.
type onces struct {
	mu      sync.Mutex
	running map[OnceKey][]byte // the hash of each request; guarded by mu
}

// BeginOnce begins a request that has its effect once. It returns what the request has done if it was carried out already; nil means that the
// caller is to carry it out, with o in its change, and to call end afterwards. ErrConflict means that it is being carried out right now,
// ErrKeyReused that its key belongs to another request.
func (e *Engine) BeginOnce(ctx context.Context, o *Once) (done *Done, end func(), err error) {
	if err := e.onces.begin(o); err != nil {
		return nil, nil, err
	}
	end = func() { e.onces.end(o) }
	o.At = utcNow()
	found, err := e.store.Done(ctx, o.Key)
	switch {
	case errors.Is(err, ErrNotFound), err == nil && found.Forgotten(o.At):
		return nil, end, nil
	case err == nil && !bytes.Equal(found.Request, o.Request):
		err = ErrKeyReused
	}
	if err != nil {
		end()
		return nil, nil, err
	}
	return &found, end, nil
}

func (s *onces) begin(o *Once) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch running, found := s.running[o.Key]; {
	case found && !bytes.Equal(running, o.Request):
		return ErrKeyReused
	case found:
		return fmt.Errorf("%w: the first request with this key is still being carried out", ErrConflict)
	}
	if s.running == nil {
		s.running = make(map[OnceKey][]byte)
	}
	s.running[o.Key] = o.Request
	return nil
}

func (s *onces) end(o *Once) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.running, o.Key)
}

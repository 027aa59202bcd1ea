package postgres

import (
	"context"

	"hookbolt/engine"
)

// fanOut is a row of fan_outs: sessions, and the webhooks that their deliveries are still to be made for.
type fanOut struct {
	after, last uint32 // ids of webhooks: above after, up to last
	sessions    []fannedOut
}

type fannedOut struct {
	id [16]byte // of the session
	engine.FanOut
}

func (f *fanOut) encode() []byte {
	e := newRecord(16 + 64*len(f.sessions))
	e.Uint(uint64(f.after))
	e.Uint(uint64(f.last))
	for i := range f.sessions {
		s := &f.sessions[i]
		e.UUID(s.id)
		e.Time(s.StartedAt)
		e.Time(s.FinishedAt)
		e.Bool(s.Continued)
		e.Bool(s.WasFinished)
		e.Time(s.ReceivedAt)
		e.Duration(s.Settle)
		e.Uint(uint64(s.Late.Events))
		e.Uint(uint64(s.Late.Before))
		e.Bool(s.Late.Answers)
		e.Bool(s.Late.Leads)
		e.Bool(s.Late.Rest)
	}
	return e.Bytes()
}

func decodeFanOut(no int64, body []byte) (*fanOut, error) {
	d := openRecord(body)
	f := &fanOut{after: d.Count(), last: d.Count()}
	for d.More() {
		s := fannedOut{id: d.UUID(), FanOut: engine.FanOut{StartedAt: d.Time(), FinishedAt: d.Time(), Continued: d.Bool(), WasFinished: d.Bool(), ReceivedAt: d.Time(), Settle: d.Duration(),
			Late: engine.Late{Events: int(d.Count()), Before: int(d.Count()), Answers: d.Bool(), Leads: d.Bool(), Rest: d.Bool()}}}
		f.sessions = append(f.sessions, s)
	}
	if !d.OK() {
		return nil, damage("fan-out", no)
	}
	return f, nil
}

// stepFanOut makes a bounded number of deliveries of the oldest fan-out, and calls report with what it has queued. more tells that there was one.
func (s *Store) stepFanOut(ctx context.Context, report func(engine.News)) (more bool, err error) {
	if s.fanningOut.Load() == 0 {
		return false, nil
	}
	return false, errNotBuilt
}

// beginFanOut stores the sessions whose deliveries are made later. Webhooks that are created from now on get none of them.
func (b *batch) beginFanOut(sessions []fannedOut) error {
	if len(sessions) == 0 {
		return nil
	}
	return errNotBuilt
}

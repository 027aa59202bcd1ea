package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"hookbolt/engine"
)

// session is a recorded session. Its events are in the order in which they are posted.
type session struct {
	name, id, contentID string
	events              []*event
}

type event struct {
	fields           map[string]json.RawMessage
	starts, finishes bool
	// after is the time since the earliest event of its session, at the recorded speed.
	after time.Duration
	// at is the event's time in the demo, acceptedAt is when it was acknowledged.
	at, acceptedAt time.Time
}

// loadSessions reads the recorded sessions, one file each, in the order of their names.
func loadSessions(recorded fs.FS) ([]*session, error) {
	names, err := fs.Glob(recorded, "*.ndjson")
	if err != nil {
		return nil, err
	}
	var sessions []*session
	for _, name := range names {
		s, err := loadSession(recorded, name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		sessions = append(sessions, s)
	}
	return sessions, nil
}

func loadSession(recorded fs.FS, name string) (*session, error) {
	text, err := fs.ReadFile(recorded, name)
	if err != nil {
		return nil, err
	}
	events, err := engine.ParseEvents(text, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)) // so that no event is from the future
	if err != nil {
		return nil, err
	}
	s := &session{name: strings.TrimSuffix(name, ".ndjson"), id: events[0].SessionID.String(), contentID: events[0].Identity.ContentID.String()}
	earliest := slices.MinFunc(events, func(a, b engine.Event) int { return a.Time.Compare(b.Time) }).Time
	for _, ev := range events {
		e := &event{after: ev.Time.Sub(earliest), starts: ev.Type == engine.EventStart || ev.Type == engine.EventVote,
			finishes: ev.Type == engine.EventFinish || ev.Type == engine.EventResultView}
		if err := json.Unmarshal(ev.JSON, &e.fields); err != nil {
			return nil, err
		}
		s.events = append(s.events, e)
	}
	return s, nil
}

// play posts the events of all sessions, each at its time, and returns their number.
func (d *demonstration) play(ctx context.Context) (events int, err error) {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var playing sync.WaitGroup
	for i, s := range d.sessions {
		events += len(s.events)
		start := time.Now().Add(time.Duration(i) * d.pace.between)
		playing.Go(func() {
			if err := d.playSession(ctx, s, start); err != nil {
				fail(fmt.Errorf("session %s: %w", s.name, err))
			}
		})
	}
	playing.Wait()
	return events, context.Cause(ctx)
}

// playSession posts the events of a session one after another, each a little before its time. An event that was recorded out of order is
// posted as soon as its turn comes.
func (d *demonstration) playSession(ctx context.Context, s *session, start time.Time) error {
	for _, ev := range s.events {
		ev.at = start.Add(d.pace.ahead + ev.after/time.Duration(d.pace.factor))
		select {
		case <-time.After(time.Until(ev.at.Add(-d.pace.ahead))):
		case <-ctx.Done():
			return ctx.Err()
		}
		ev.fields["time"] = ev.at.UTC().AppendFormat(nil, `"`+time.RFC3339Nano+`"`)
		if err := d.client.Call(ctx, http.MethodPost, "/v1/events", ev.fields, nil); err != nil {
			return err
		}
		ev.acceptedAt = time.Now()
	}
	return nil
}

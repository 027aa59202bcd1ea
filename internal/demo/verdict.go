package demo

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"hookbolt/internal/receiver"
)

// arrival identifies a payload: a session's payload of one kind for one webhook. Each must arrive once at most.
type arrival struct {
	hook    *hook
	session string
	kind    string
}

func (a arrival) String() string { return fmt.Sprintf("%s %s for %q", a.session, a.kind, a.hook.Name) }

// tally counts the attempts of one arrival.
type tally struct {
	id        string // the webhook-id of the first attempt
	body      []byte // its body
	attempts  int
	delivered int // attempts that were answered 200
	wrong     int // attempts with a wrong signature
	changed   int // attempts with another id or body than the first
}

// arrival identifies a payload.
func (d *demonstration) arrival(h *hook, body []byte) arrival {
	var p struct {
		SessionID string `json:"session_id"`
		Complete  bool   `json:"complete_session"`
	}
	json.Unmarshal(body, &p) // an unknown payload becomes an unexpected arrival
	a := arrival{h, cmp.Or(p.SessionID, "unknown"), "incomplete"}
	if p.Complete {
		a.kind = "complete"
	}
	for _, s := range d.sessions {
		if s.id == p.SessionID {
			a.session = s.name
		}
	}
	return a
}

// record counts a request that an endpoint received.
func (d *demonstration) record(h *hook, got receiver.Receipt) {
	d.mu.Lock()
	defer d.mu.Unlock()
	what := d.arrival(h, got.Body)
	t := d.arrived[what]
	if t == nil {
		t = &tally{id: got.ID, body: got.Body}
		d.arrived[what] = t
	}
	t.attempts++
	if got.Status == http.StatusOK {
		t.delivered++
	}
	if got.Verdict != nil {
		t.wrong++
	}
	if got.ID != t.id || !bytes.Equal(got.Body, t.body) {
		t.changed++
	}
}

// expected returns the arrivals that must happen (true) and those that may happen (false).
func (d *demonstration) expected() map[arrival]bool {
	list := make(map[arrival]bool)
	for _, s := range d.sessions {
		for _, h := range d.hooks {
			if h.ContentID != "" && h.ContentID != s.contentID {
				continue
			}
			// The first start or vote to arrive sets the instant of the incomplete delivery; without one, the first event does.
			start := max(0, slices.IndexFunc(s.events, func(ev *event) bool { return ev.starts }))
			dueAt := s.events[start].at.Add(time.Duration(h.IncompleteDelay) * time.Second)
			complete, inTime, known := false, false, false
			for _, ev := range s.events {
				if !ev.finishes {
					continue
				}
				complete = true
				if !ev.at.After(dueAt) {
					inTime = true
					// On a busy machine the finish may be acknowledged too late, although it was posted ahead of time. Then both
					// outcomes are right.
					known = known || ev.acceptedAt.Before(dueAt)
				}
			}
			if h.SendIncomplete && !known {
				list[arrival{h, s.name, "incomplete"}] = !inTime
			}
			if complete {
				list[arrival{h, s.name, "complete"}] = true
			}
		}
	}
	return list
}

// verdict returns what was wrong with the arrivals.
func (d *demonstration) verdict() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var wrong []string
	expected := d.expected()
	for a, must := range expected {
		if t := d.arrived[a]; must && (t == nil || t.delivered == 0) {
			wrong = append(wrong, a.String()+" did not arrive")
		}
	}
	for a, t := range d.arrived {
		if _, ok := expected[a]; !ok {
			wrong = append(wrong, a.String()+" was not expected")
		}
		if t.wrong > 0 {
			wrong = append(wrong, a.String()+" had a wrong signature")
		}
		if t.changed > 0 {
			wrong = append(wrong, a.String()+" was not the same in each attempt")
		}
		if t.delivered > 1 {
			wrong = append(wrong, a.String()+" was delivered twice")
		}
	}
	slices.Sort(wrong)
	return wrong
}

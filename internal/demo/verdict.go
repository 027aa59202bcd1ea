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

// arrival is what may arrive once: one kind of payload of a session at a webhook.
type arrival struct {
	hook    *hook
	session string
	kind    string
}

func (a arrival) String() string { return fmt.Sprintf("%s %s for %q", a.session, a.kind, a.hook.Name) }

// tally counts what has arrived.
type tally struct {
	id        string // the webhook-id of the first attempt
	body      []byte // its body
	attempts  int
	delivered int // attempts that were answered 200
	wrong     int // attempts with a wrong signature
	changed   int // attempts with another id or body than the first
}

// arrival says what a payload is.
func (d *demonstration) arrival(h *hook, body []byte) arrival {
	var p struct {
		SessionID string `json:"session_id"`
		Complete  bool   `json:"complete_session"`
	}
	json.Unmarshal(body, &p) // what is no payload of ours is an arrival that nobody expects
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

// record notes a request that an endpoint got.
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

// expected says what must arrive (true) and what may (false).
func (d *demonstration) expected() map[arrival]bool {
	list := make(map[arrival]bool)
	for _, s := range d.sessions {
		for _, h := range d.hooks {
			if h.ContentID != "" && h.ContentID != s.contentID {
				continue
			}
			// The instant is set by the first event that comes in.
			instant := s.events[0].at.Add(time.Duration(h.IncompleteDelay) * time.Second)
			complete, inTime, known := false, false, false
			for _, ev := range s.events {
				if !ev.finishes {
					continue
				}
				complete = true
				if !ev.at.After(instant) {
					inTime = true
					// On a machine that is busy with something else the finish may be acknowledged after the instant for all the
					// time that it was posted ahead: then both outcomes are right.
					known = known || ev.acceptedAt.Before(instant)
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

// verdict says what was wrong with what has arrived.
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
			wrong = append(wrong, a.String()+" came twice")
		}
	}
	slices.Sort(wrong)
	return wrong
}

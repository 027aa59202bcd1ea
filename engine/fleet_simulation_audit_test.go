package engine_test

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// fleetAudit compares what is stored with what was acknowledged.
type fleetAudit struct {
	*fleetSim
	by                 *fleetMember       // who is asked
	delivered, refused map[uuid.UUID]bool // the deliveries of which a request was answered so
}

// audit compares what is stored with what was acknowledged.
func (s *fleetSim) audit() {
	a := fleetAudit{s, s.someMember(s.rng), make(map[uuid.UUID]bool), make(map[uuid.UUID]bool)}
	for id, d := range s.deliveries {
		for _, send := range d.sends {
			a.delivered[id] = a.delivered[id] || send.delivers()
			a.refused[id] = a.refused[id] || !send.delivers()
		}
	}
	a.tests()
	s.posted = len(s.sessions)
	for _, ss := range s.sessions {
		a.session(ss)
	}
}

func (a *fleetAudit) tests() {
	for _, test := range a.fleetSim.tests {
		d, _, _, err := a.by.engine.Delivery(context.Background(), test.id)
		known := a.deliveries[test.id]
		switch {
		case test.hook.deleted:
		case err != nil:
			a.found(fleetLost, "test %s of webhook %d: %v", test.id, test.hook.id, err)
		case d.Status == engine.StatusDelivered && a.delivered[test.id], d.Status == engine.StatusFailed && a.refused[test.id]:
		case d.Status == engine.StatusCancelled && known != nil && known.touched:
		default:
			a.found(fleetLost, "test %s of webhook %d is %s", test.id, test.hook.id, d.Status)
		}
	}
	a.count["tests"] += len(a.fleetSim.tests)
}

func (a *fleetAudit) session(ss *fleetSession) {
	_, record, stored, err := a.by.engine.Session(context.Background(), ss.id)
	switch {
	case ss.erasing && (err == nil || len(stored) > 0):
		a.found(fleetLost, "session %s was erased, and is there: %d deliveries", ss.id, len(stored))
		return
	case ss.erasing:
		return
	case err != nil:
		a.found(fleetLost, "session %s: %v", ss.id, err)
		return
	}
	a.events(ss, &record)
	complete, newest := a.sort(stored)
	for id, list := range complete {
		if len(list) > 1 {
			a.found(fleetTwice, "session %s has %d complete deliveries to webhook %d", ss.id, len(list), id)
		}
	}
	for _, h := range ss.expected {
		list := complete[h.id]
		if len(list) == 0 {
			a.found(fleetLost, "session %s has no complete delivery to webhook %d (canary: %t)", ss.id, h.id, h.canary)
			continue
		}
		d := &list[0]
		known := a.deliveries[d.ID]
		touched := h.disturbed || known != nil && known.touched
		switch {
		case d.Status == engine.StatusDelivered, d.Status == engine.StatusFailed && a.refused[d.ID]:
		case d.Status == engine.StatusFiltered && !h.passes(ss):
		case d.Status == engine.StatusCancelled && (touched || d.SupersededBy != uuid.Nil):
		default:
			a.found(fleetLost, "delivery %s of session %s to webhook %d is %s (touched: %t)", d.ID, ss.id, h.id, d.Status, touched)
		}
		if n, ok := newest[h.id]; ok && !touched && h.text && h.late {
			a.questions(ss, h, stored, a.deliveries[n.ID].body)
		}
	}
}

// events finds the events of a session that are missing, or stored twice.
func (a *fleetAudit) events(ss *fleetSession, record *engine.SessionRecord) {
	events, err := record.Events()
	if err != nil {
		a.found(fleetLost, "session %s: %v", ss.id, err)
	}
	times := make(map[string]int)
	for i := range events {
		times[events[i].ID]++
	}
	for _, id := range ss.events {
		if times[id] == 0 {
			a.found(fleetLost, "event %s of session %s", id, ss.id)
		}
	}
	for id, n := range times {
		if n > 1 {
			a.found(fleetTwice, "event %s of session %s is stored %d times", id, ss.id, n)
		}
	}
}

// sort returns the complete deliveries among those of a session, and the newest that was delivered, by webhook.
func (a *fleetAudit) sort(stored []engine.Delivery) (complete map[uint32][]engine.Delivery, newest map[uint32]engine.Delivery) {
	complete, newest = make(map[uint32][]engine.Delivery), make(map[uint32]engine.Delivery)
	for _, d := range stored {
		if d.Kind == engine.KindComplete {
			complete[d.WebhookID] = append(complete[d.WebhookID], d)
		}
		if d.Status != engine.StatusDelivered {
			continue
		}
		a.fleetSim.delivered++
		if !a.delivered[d.ID] {
			a.found(fleetLost, "delivery %s is delivered, and its endpoint has not seen it", d.ID)
		} else if before, ok := newest[d.WebhookID]; !ok || before.CreatedAt.Before(d.CreatedAt) {
			newest[d.WebhookID] = d
		}
	}
	return complete, newest
}

// questions finds what a webhook was never told of a session. told is the newest body that it took; "" if that is not known.
func (a *fleetAudit) questions(ss *fleetSession, h *fleetHook, stored []engine.Delivery, told string) {
	excused := slices.ContainsFunc(stored, func(d engine.Delivery) bool {
		known := a.deliveries[d.ID]
		byHand := d.Status == engine.StatusCancelled && known != nil && known.touched
		return d.WebhookID == h.id && (d.Status == engine.StatusFailed || byHand)
	})
	if told == "" || excused {
		return
	}
	for _, q := range ss.questions {
		if strings.Contains(told, q) {
			continue
		}
		var all []string
		for _, d := range stored {
			if d.WebhookID == h.id {
				all = append(all, fmt.Sprintf("%s %s %s, superseded by %s", d.Kind, d.ID, d.Status, d.SupersededBy))
			}
		}
		a.found(fleetLost, "%q was never told to webhook %d, which has %q", q, h.id, all)
	}
}

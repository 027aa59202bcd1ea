package ui

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/julienschmidt/httprouter"

	"hookbolt/engine"
)

// deliveryData is what the page of a delivery shows.
type deliveryData struct {
	engine.Delivery
	deliverySummary
	// Webhook is the name of the webhook. SentTo is its URL with the values of this delivery; "" if there are none.
	Webhook string
	SentTo  string
	// Mendable tells that a program of the webhook, which was not deleted, could not build the body.
	Mendable bool
	// KindWhy explains the kind; "" for one that needs no explanation.
	KindWhy string
	// Superseded reports whether a newer delivery of its session has superseded it. Late says how many late events it lacks; "" for none.
	Superseded bool
	Late       string
	// Again is the text of the button that makes the delivery due; "" for no button. Cancellable reports whether it can be cancelled.
	Again       string
	Cancellable bool
	// Reload makes a page without script reload itself.
	Reload   bool
	Line     []lineEntry
	LineNote string // what is missing of it
	// Payload is indented for reading, Raw has the bytes that are sent; both are "" until the payload is frozen. If the payload is
	// too long for a page, Payload has only its beginning, Raw is "", and CutOff is its number of bytes.
	Payload, Raw string
	CutOff       int64
	NoPayload    string        // why there is none
	Latest       []attemptView // newest first
	Earlier      int64         // attempts before those
	// Curl is a command that sends the delivery, signed at SignedAt. Credentials reports that it has placeholders for credentials.
	Curl        string
	SignedAt    time.Time
	Credentials bool
}

// delivery shows a delivery with its timeline, its payload and its attempts.
func (p *Pages) delivery(r *http.Request, ps httprouter.Params) (*Answer, error) {
	id, err := pathUUID("delivery", ps)
	if err != nil {
		return nil, err
	}
	return p.showDelivery(r, id, "")
}

// maxPayloadShown is how many bytes of a payload are shown. A session may have thousands of answers, and the page is updated every
// other second.
const maxPayloadShown = 256 << 10

// showDelivery shows a delivery. refused says why a requested change was not possible; "" for none.
func (p *Pages) showDelivery(r *http.Request, id uuid.UUID, refused string) (*Answer, error) {
	delivery, payload, attempts, err := p.engine.Delivery(r.Context(), id)
	if err != nil {
		return nil, err
	}
	health, err := p.engine.Health(r.Context(), delivery.WebhookID)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	d := deliveryData{Delivery: delivery, deliverySummary: p.deliverySummary(&delivery, health[delivery.WebhookID], attempts, now), Webhook: p.webhookName(delivery.WebhookID), Cancellable: delivery.Status.Waiting(),
		Superseded: delivery.SupersededBy != uuid.Nil, Late: lateEvents(&delivery)}
	if delivery.Kind == engine.KindUpdate {
		d.KindWhy = "late events have changed the payload since the complete one was built"
	}
	d.Reload = d.Soon && refused == ""
	earlier := max(0, len(attempts)-attemptsShown)
	for i := range attempts[earlier:] {
		d.Latest = append(d.Latest, viewAttempt(&delivery, &attempts[earlier+i], earlier+i+1))
	}
	d.Earlier = int64(earlier)
	if d.Line, d.LineNote, err = p.timeLine(r.Context(), &delivery, d.Latest); err != nil {
		return nil, err
	}
	slices.Reverse(d.Latest)
	d.showPayload(payload, len(attempts) > 0)
	if w, err := p.engine.Webhook(delivery.WebhookID); err == nil {
		d.Mendable = delivery.Parked()
		if w.Active || delivery.Kind == engine.KindTest {
			d.Again = againText(delivery.Status)
		}
		if d.Raw != "" && !engine.IsMailURL(w.URL) {
			fields, err := p.engine.RequestHeader(&w, &delivery, payload, now)
			if err != nil {
				return nil, err
			}
			target, err := p.engine.RequestURL(&w, &delivery)
			if err != nil {
				target = w.URL // it has got other names since the values were made
			}
			d.SignedAt = now
			d.Curl, d.Credentials = curlCommand(&w, target, fields, payload)
			if delivery.URLValues != "" {
				d.SentTo = target
			}
		}
	}
	v := view{Template: "delivery", Title: "Delivery", Nav: "/deliveries", Live: true, Done: done(r, deliveryDone), Bad: refused, Data: d}
	if refused != "" {
		v.Status = http.StatusConflict
	}
	return p.show(v)
}

// showPayload shows the body, or says why there is none.
func (d *deliveryData) showPayload(payload []byte, attempted bool) {
	switch {
	case len(payload) > maxPayloadShown:
		d.Payload, d.CutOff = pretty(payload)[:maxPayloadShown], int64(len(payload))
		d.Payload = d.Payload[:max(0, strings.LastIndexByte(d.Payload, '\n'))]
	case payload != nil:
		d.Payload, d.Raw = pretty(payload), string(payload)
	case d.Status == engine.StatusCancelled:
		d.NoPayload = "It was cancelled before its payload was built."
	case d.Status == engine.StatusFiltered:
		d.NoPayload = "The webhook's filter did not let the session through, so nothing was built."
	case d.Parked():
		d.NoPayload = "A program of the webhook could not build it: " + sentenceEnd(d.BuildError)
	case d.Status != engine.StatusScheduled || attempted:
		d.NoPayload = "The payload could not be built. See the attempts for the reason."
	}
}

// lateEvents says how many events a delivery lacks; "" for none.
func lateEvents(d *engine.Delivery) string {
	if d.LateEvents == 0 {
		return ""
	}
	return counted(int64(d.LateEvents), "late event", "late events")
}

func againText(s engine.Status) string {
	switch s {
	case engine.StatusScheduled:
		return "Send now"
	case engine.StatusPending:
		return "Retry now"
	}
	return "Send again"
}

// lineEntry is an entry of a delivery's timeline.
type lineEntry struct {
	At    time.Time
	Since time.Duration // from the beginning of the line
	// Class is the class of the entry's mark: ok, warn, bad, info or none.
	Class, Title, Text string
	Future             bool
}

// Offset writes the span from the beginning of the line.
func (e lineEntry) Offset() string { return offset(e.Since) }

const (
	// groupAtEnds is how many of a session's first and last votes the timeline has, and how many leads.
	groupAtEnds = 5
	// attemptsShown is how many of the newest attempts are shown, in the timeline and below it. A delivery may be sent again any
	// number of times.
	attemptsShown = 30
)

// timeLine returns a delivery's timeline: events of the session, due time, freezing, attempts, and the next attempt. note says what
// is missing.
func (p *Pages) timeLine(ctx context.Context, d *engine.Delivery, attempts []attemptView) (line []lineEntry, note string, err error) {
	add := func(at time.Time, class, title, text string) {
		if !at.IsZero() {
			line = append(line, lineEntry{At: at, Class: class, Title: title, Text: text})
		}
	}
	due := ""
	if d.Kind.OfSession() {
		if due, note, err = p.sessionLine(ctx, d, add); err != nil {
			return nil, "", err
		}
	}
	if d.CreatedAt.Sub(d.DueAt) >= time.Second {
		add(d.CreatedAt, "", "queued", "later than due: the events arrived late, or it was requested by hand")
	}
	add(d.DueAt, "info", "due", due)
	add(d.FrozenAt, "info", "frozen", "the payload was built; every attempt sends these bytes")
	for i := range attempts {
		a := &attempts[i]
		text := fmt.Sprintf("the endpoint answered %d", a.Status)
		if !a.Delivered() {
			text = because(&a.Attempt)
		}
		if a.Duration > 0 {
			text += ", after " + roughly(a.Duration)
		}
		add(a.StartedAt, a.Class, fmt.Sprintf("attempt %d", a.N), text)
	}
	switch d.Status {
	case engine.StatusFailed:
		why := "the retry schedule has ended"
		if d.Parked() {
			why = "a program of the webhook could not build the body"
		}
		add(d.FinishedAt, "bad", "failed", why)
	case engine.StatusFiltered:
		add(d.FinishedAt, "", "filtered", "the webhook's filter did not let it through")
	case engine.StatusDelivered:
		add(d.FinishedAt, "ok", "delivered", "")
	case engine.StatusCancelled:
		add(d.FinishedAt, "", "cancelled", "")
	case engine.StatusPending:
		add(d.NextAttemptAt, "warn", "next try", "")
	case engine.StatusScheduled:
		if !d.NextAttemptAt.Equal(d.DueAt) { // requested by hand
			add(d.NextAttemptAt, "warn", "first try", "")
		}
	}
	slices.SortStableFunc(line, func(a, b lineEntry) int { return a.At.Compare(b.At) })
	now := time.Now()
	for i := range line {
		line[i].Since, line[i].Future = line[i].At.Sub(line[0].At), line[i].At.After(now)
	}
	return line, note, nil
}

// sessionLine adds the events of the session. due says how the due time was calculated; note says what is missing.
func (p *Pages) sessionLine(ctx context.Context, d *engine.Delivery, add func(at time.Time, class, title, text string)) (due, note string, err error) {
	s, record, deliveries, err := p.engine.Session(ctx, d.SessionID)
	if errors.Is(err, engine.ErrNotFound) {
		return "", "The session is no longer stored, so its events are not shown.", nil
	}
	if err != nil {
		return "", "", err
	}
	events, err := record.Events()
	if err != nil {
		return "", "", err
	}
	list := timelineEvents(events, s.StartedAt)
	markMissing(list, d, deliveries)
	total, seen := make(map[string]int), make(map[string]int)
	for _, h := range list {
		total[h.group()]++
	}
	once := make(map[string]bool)
	for _, h := range list {
		class, text := "", h.Text
		switch {
		case h.NotSent:
			class, text = "warn", strings.TrimSpace(text+" (not sent: it came after the payload was built)")
		case h.Missing:
			text = strings.TrimSpace(text + " (not in the payload: it came later)")
		}
		if group := h.group(); group != "" {
			seen[group]++
			switch n, left := seen[group], total[group]-2*groupAtEnds; {
			case left <= 0 || n <= groupAtEnds || n > groupAtEnds+left:
				add(h.At, class, h.Type, text)
			case n == groupAtEnds+1:
				add(h.At, "", group, fmt.Sprintf("%d more", left))
			}
			continue
		}
		if once[h.Type] { // only the first one counts
			continue
		}
		title := "session started"
		switch finish, view := string(engine.EventFinish), string(engine.EventResultView); {
		case h.Type != finish && h.Type != view:
		case !once[finish] && !once[view]:
			title = "session finished"
		case h.Type == finish:
			title = "finish"
		default:
			title = "result seen"
		}
		once[h.Type] = true
		add(h.At, class, title, text)
	}
	return p.dueAfter(d, &s), "", nil
}

// dueAfter says how long after an event of its session a delivery is due, and whether that was put off for late events; "" if it is not due
// after the event.
func (p *Pages) dueAfter(d *engine.Delivery, s *engine.Session) string {
	w, err := p.engine.Webhook(d.WebhookID)
	settle, delay := p.engine.Config().Settle, time.Duration(w.Delay)*time.Second
	from, to, what := s.FinishedAt, d.DueAt, "the session's finish"
	instant := from.Add(delay)
	switch d.Kind {
	case engine.KindIncomplete:
		delay = time.Duration(w.IncompleteDelay) * time.Second
		from, to, what = s.StartedAt, d.AsOf, "the session's start"
		instant = to
	case engine.KindUpdate:
		from, what = d.CreatedAt, "late events came"
		instant = to
	}
	text := ""
	switch wait := to.Sub(from); {
	case from.IsZero() || wait < 0:
		return ""
	case wait == 0:
		text = "with " + what
	default:
		text = roughly(wait) + " after " + what
	}
	// The delay of the webhook may be another one now: then what put it off is not known.
	if settle = min(settle, delay); err == nil && d.DueAt.After(instant) && d.DueAt.Sub(d.CreatedAt) <= settle {
		text += fmt.Sprintf("; built no earlier than %s after its events came", roughly(settle))
	}
	return text
}

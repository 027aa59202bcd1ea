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
	Webhook string
	// Standing says what is going on, and When when it goes on.
	Standing string
	When     time.Time
	// Again is what the button that makes it due is called; "" for none. Cancellable tells whether it can be cancelled.
	Again       string
	Cancellable bool
	// Soon tells that something is about to happen.
	Soon     bool
	Line     []lineEntry
	LineNote string // what is missing of it
	// Payload is for reading, Raw the bytes that are sent; "" while nothing is frozen.
	Payload, Raw string
	Attempts     []attemptView // newest first
	Curl         string
	Credentials  bool // Curl has placeholders for credentials
}

// delivery shows a delivery with its life, what was sent, and what came back.
func (p *Pages) delivery(r *http.Request, ps httprouter.Params) (*Answer, error) {
	id, err := pathUUID("delivery", ps)
	if err != nil {
		return nil, err
	}
	return p.showDelivery(r, id, "")
}

// showDelivery shows a delivery; refused says why what was asked for could not be done.
func (p *Pages) showDelivery(r *http.Request, id uuid.UUID, refused string) (*Answer, error) {
	delivery, payload, attempts, err := p.engine.Delivery(r.Context(), id)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	d := deliveryData{Delivery: delivery, Webhook: p.webhookName(delivery.WebhookID), Cancellable: delivery.Status.Waiting()}
	d.Standing, d.When = p.standing(&delivery, attempts, now)
	d.Soon = delivery.Status.Waiting() && delivery.NextAttemptAt.Sub(now) < soon
	for i := range attempts {
		d.Attempts = append(d.Attempts, viewAttempt(&delivery, &attempts[i], i+1))
	}
	slices.Reverse(d.Attempts)
	if d.Line, d.LineNote, err = p.timeLine(r.Context(), &delivery, attempts); err != nil {
		return nil, err
	}
	if payload != nil {
		d.Payload, d.Raw = pretty(payload), string(payload)
	}
	if w, err := p.engine.Webhook(delivery.WebhookID); err == nil {
		if w.Active || delivery.Kind == engine.KindTest {
			d.Again = againText(delivery.Status)
		}
		if payload != nil {
			// The whole minute, so that the text does not change all the time.
			fields, err := p.engine.RequestHeader(&w, &delivery, payload, now.Truncate(time.Minute))
			if err != nil {
				return nil, err
			}
			d.Curl, d.Credentials = curlCommand(w.URL, fields, payload)
		}
	}
	v := view{Template: "delivery", Title: "Delivery", Nav: "/deliveries", Live: true, Done: done(r, deliveryDone), Bad: refused, Data: d}
	if refused != "" {
		v.Status = http.StatusConflict
	}
	return p.show(v)
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

// standing says what is going on with a delivery, and when it goes on; zero if it does not, or nobody knows.
func (p *Pages) standing(d *engine.Delivery, attempts []engine.Attempt, now time.Time) (string, time.Time) {
	tries := counted(int64(d.Attempts), "attempt", "attempts")
	switch d.Status {
	case engine.StatusDelivered:
		return fmt.Sprintf("The endpoint has taken it (%d), after %s.", d.LastStatus, tries), time.Time{}
	case engine.StatusFailed:
		return fmt.Sprintf("%s %s failed. Nothing more is tried, unless you send it again.", tries, has(d.Attempts)), time.Time{}
	case engine.StatusCancelled:
		return "It was cancelled, by hand or by a change of the webhook: nothing more is sent.", time.Time{}
	}
	// It waits.
	said := "Its session's payload is built when it is due."
	if len(attempts) > 0 {
		last := &attempts[len(attempts)-1]
		said = fmt.Sprintf("%s %s failed, the last one because %s.", tries, has(d.Attempts), because(last))
		switch last.NextReason {
		case engine.NextByRetryAfter:
			said += " The endpoint has asked to wait (Retry-After)."
		case engine.NextByToken:
			said += " It is tried again with a new OAuth token."
		}
	} else if d.Status == engine.StatusPending {
		said = "Its payload is frozen."
	}
	w, err := p.engine.Webhook(d.WebhookID)
	switch h := p.engine.Health(d.WebhookID); {
	case d.Kind == engine.KindTest: // it goes out whatever the webhook's state
	case err != nil || !w.Active:
		return "The webhook is gone or switched off: it is about to be cancelled.", time.Time{}
	case w.Paused:
		return said + " The webhook is paused, so it waits until that is resumed.", time.Time{}
	case h.Failing() && d.NextAttemptAt.Before(h.NextProbeAt):
		return said + " The endpoint is failing and gets one attempt at a time, the next one", h.NextProbeAt
	case d.Kind == engine.KindIncomplete && d.Status == engine.StatusScheduled:
		return "It is sent if the session has not finished by its time,", d.NextAttemptAt
	}
	if !d.NextAttemptAt.After(now) {
		return said + " It is due and waits for a free place.", time.Time{}
	}
	if d.Attempts > 0 {
		return said + " It is tried again", d.NextAttemptAt
	}
	return said + " It is sent", d.NextAttemptAt
}

func has(n int) string {
	if n == 1 {
		return "has"
	}
	return "have"
}

// lineEntry is a point of a delivery's life.
type lineEntry struct {
	At    time.Time
	Since time.Duration // from the beginning of the line
	// Class is that of its mark: ok, warn, bad, info or none.
	Class, Title, Text string
	Future             bool
}

// Offset writes the span from the beginning of the line.
func (e lineEntry) Offset() string {
	if e.Since < 0 {
		return "−" + roughly(-e.Since)
	}
	return "+" + roughly(e.Since)
}

const (
	// votesAtEnds is how many votes of a session stand on the line from its first and from its last ones.
	votesAtEnds = 5
	// attemptsOnLine is how many attempts do, of the newest.
	attemptsOnLine = 30
)

// timeLine puts a delivery's life in order: what its session did, when it was due and frozen, its attempts, and how it goes on.
// note says what is missing.
func (p *Pages) timeLine(ctx context.Context, d *engine.Delivery, attempts []engine.Attempt) (line []lineEntry, note string, err error) {
	add := func(at time.Time, class, title, text string) {
		if !at.IsZero() {
			line = append(line, lineEntry{At: at, Class: class, Title: title, Text: text})
		}
	}
	if d.Kind != engine.KindTest {
		if note, err = p.sessionLine(ctx, d, add); err != nil {
			return nil, "", err
		}
	}
	if d.CreatedAt.Sub(d.DueAt) >= time.Second {
		add(d.CreatedAt, "", "queued", "later than due: the events came in late, or it was asked for by hand")
	}
	add(d.DueAt, "info", "due", "")
	add(d.FrozenAt, "info", "frozen", "the payload was built; every attempt sends these bytes")
	if skipped := len(attempts) - attemptsOnLine; skipped > 0 {
		attempts = attempts[skipped:]
		note = strings.TrimSpace(note + fmt.Sprintf(" The first %d attempts are left out here.", skipped))
	}
	first := d.Attempts - len(attempts)
	for i := range attempts {
		a := &attempts[i]
		class, text := "ok", fmt.Sprintf("the endpoint answered %d in %s", a.Status, roughly(a.Duration))
		if !a.Delivered() {
			class, text = "bad", because(a)
		}
		add(a.StartedAt, class, fmt.Sprintf("attempt %d", first+i+1), text)
	}
	switch d.Status {
	case engine.StatusFailed:
		add(d.FinishedAt, "bad", "failed", "the retry schedule has ended")
	case engine.StatusDelivered:
		add(d.FinishedAt, "ok", "delivered", "")
	case engine.StatusCancelled:
		add(d.FinishedAt, "", "cancelled", "")
	case engine.StatusPending:
		add(d.NextAttemptAt, "warn", "next try", "")
	case engine.StatusScheduled:
		if !d.NextAttemptAt.Equal(d.DueAt) { // asked for by hand
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

// sessionLine adds what the session did.
func (p *Pages) sessionLine(ctx context.Context, d *engine.Delivery, add func(at time.Time, class, title, text string)) (note string, err error) {
	s, record, _, err := p.engine.Session(ctx, d.SessionID)
	if errors.Is(err, engine.ErrNotFound) {
		return "The session itself is no longer kept, so what the visitor did is not shown.", nil
	}
	if err != nil {
		return "", err
	}
	events, err := record.Events()
	if err != nil {
		return "", err
	}
	list := happenings(events, s.StartedAt)
	votes, last := 0, 0
	for _, h := range list {
		if h.isVote() {
			last++
		}
	}
	started, finished := false, false
	for _, h := range list {
		// What is in the payload: see Firing in the specification.
		text := h.Text
		if late := d.FrozenAt; !late.IsZero() && (d.Kind == engine.KindIncomplete && h.At.After(d.DueAt) || h.receivedAt().After(late)) {
			text = strings.TrimSpace(text + " (not in the payload: it came later)")
		}
		switch {
		case h.isVote():
			if votes++; votes == votesAtEnds+1 && last > 2*votesAtEnds {
				add(h.At, "", "votes", fmt.Sprintf("%d more", last-2*votesAtEnds))
				continue
			} else if votes > votesAtEnds && votes <= last-votesAtEnds {
				continue
			}
			add(h.At, "", h.Type, text)
		case h.Type == string(engine.EventStart):
			if !started {
				add(h.At, "", "session started", text)
			}
			started = true
		case h.Type == string(engine.EventFinish), h.Type == string(engine.EventResultView):
			title := map[bool]string{false: "session finished", true: h.Type}[finished]
			finished = true
			add(h.At, "", title, text)
		default:
			add(h.At, "", h.Type, text)
		}
	}
	return "", nil
}

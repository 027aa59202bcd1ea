package ui

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/julienschmidt/httprouter"

	"hookbolt/engine"
)

func (p *Pages) overviewRoutes() []Route {
	return []Route{{Method: "GET", Path: "/", Handle: p.overview, Read: true}}
}

// Limits of the overview's lists, and when a delivery is late.
const (
	maxAttention   = 8
	maxFailedShown = 5
	lateAfter      = time.Minute
)

// spans are the periods that the overview can show.
var spans = []span{{"hour", "the last hour", time.Minute, 60}, {"day", "the last day", 15 * time.Minute, 96}}

// span is a period of n steps.
type span struct {
	Name, Text string
	step       time.Duration
	n          int
}

// overviewData is what the overview shows.
type overviewData struct {
	engine.Overview
	Webhooked bool // there is a webhook
	Waiting   int64
	UsedBytes int64
	Late      bool
	Spans     []span
	Span      span
	// Totals are the sums over the span. Since is when counting began, if that is within the span.
	Totals    engine.Interval
	Since     time.Time
	Outcomes  chart
	Lag       chart
	Attention []attention
	// MoreAttention is how many webhooks are not shown.
	MoreAttention int64
	Failed        []deliveryRow
	// Members are the processes that share the database; none with a file. MoreMembers is how many are not shown, Unowned how many webhooks none of
	// them owns.
	Members              []memberRow
	MoreMembers, Unowned int64
}

// overview shows the state of the server.
func (p *Pages) overview(r *http.Request, _ httprouter.Params) (*Answer, error) {
	o, err := p.engine.Overview(r.Context())
	if err != nil {
		return nil, err
	}
	hooks := p.engine.Webhooks()
	d := overviewData{
		Overview: o, Webhooked: len(hooks) > 0, Waiting: o.Scheduled + o.Due + o.InFlight + o.Held, UsedBytes: o.SizeBytes,
		Late: o.OldestDueAge >= lateAfter, Spans: spans, Span: spans[0],
	}
	if o.File != nil {
		d.UsedBytes -= o.File.FreeBytes
	}
	if r.URL.Query().Get("span") == spans[1].Name {
		d.Span = spans[1]
	}
	intervals, since, err := p.engine.History(r.Context(), d.Span.step, d.Span.n)
	if err != nil {
		return nil, err
	}
	for i := range intervals {
		d.Totals.Accepted += intervals[i].Accepted
		d.Totals.Delivered += intervals[i].Delivered
		d.Totals.Failed += intervals[i].Failed
		d.Totals.Retried += intervals[i].Retried
	}
	if since.After(intervals[0].Start) {
		d.Since = since
	}
	d.Outcomes, d.Lag = outcomeChart(intervals, d.Span.step), lagChart(intervals, d.Span.step)
	health, err := p.engine.Health(r.Context(), engine.WebhookIDs(hooks)...)
	if err != nil {
		return nil, err
	}
	for _, w := range hooks {
		if a, ok := p.attention(w, health[w.ID], o.PerWebhook[w.ID]); ok {
			d.Attention = append(d.Attention, a)
		}
	}
	slices.SortStableFunc(d.Attention, func(a, b attention) int { return cmp.Compare(a.urgency, b.urgency) })
	d.MoreAttention = int64(max(0, len(d.Attention)-maxAttention))
	d.Attention = d.Attention[:min(len(d.Attention), maxAttention)]
	if d.Failed, err = p.latestFailed(r.Context(), o.Stored[engine.StatusFailed]); err != nil {
		return nil, err
	}
	fleet, err := p.engine.Fleet(r.Context())
	if err != nil {
		return nil, err
	}
	d.Members, d.MoreMembers = membersOf(fleet, time.Now())
	if fleet != nil {
		d.Unowned = int64(fleet.Unowned)
	}
	return p.show(view{Template: "overview", Title: "Overview", Nav: "/", Live: true, Data: d})
}

func (p *Pages) latestFailed(ctx context.Context, stored int64) ([]deliveryRow, error) {
	if stored == 0 {
		return nil, nil
	}
	page, err := p.engine.Deliveries(ctx, engine.DeliveryQuery{Status: engine.StatusFailed, Limit: maxFailedShown})
	return p.rows(page.Items), err
}

// attention is a webhook that needs attention, and the reasons.
type attention struct {
	ID          uint32
	Name, State string
	Reasons     []string
	urgency     int // the smaller, the more urgent
}

// attention reports whether a webhook needs attention.
func (p *Pages) attention(w *engine.Webhook, h engine.Health, s engine.WebhookStats) (attention, bool) {
	now := time.Now()
	a := attention{ID: w.ID, Name: nameOf(w), State: stateOf(w, h), urgency: 9}
	note := func(urgency int, format string, args ...any) {
		a.Reasons, a.urgency = append(a.Reasons, fmt.Sprintf(format, args...)), min(a.urgency, urgency)
	}
	held := ""
	if waiting := s.Scheduled + s.Pending; waiting > 0 {
		held = "; " + thousands(waiting) + " held"
	}
	switch a.State {
	case "paused":
		note(1, "%s%s", w.PauseReason, held)
	case "failing":
		words := "its last " + thousands(int64(h.Failures)) + " attempts have failed, for " + roughly(now.Sub(h.FirstFailedAt))
		if at := h.NextAttemptAt(); at.After(now) {
			words += "; the next one comes in " + roughly(at.Sub(now))
		}
		note(0, "%s", words)
	case "throttled":
		words := "the endpoint has refused load"
		if at := h.Throttle.HeldUntil; at.After(now) {
			words += "; the next attempt comes in " + roughly(at.Sub(now))
		}
		note(4, "%s", words)
	}
	if late := now.Sub(s.OldestDueAt); a.State != "paused" && a.State != "inactive" && !s.OldestDueAt.IsZero() && late >= lateAfter {
		note(2, "%s due, the oldest for %s", thousands(s.Due), roughly(late))
	}
	if s.Failed > 0 {
		note(3, "%s failed", counted(s.Failed, "delivery has", "deliveries have"))
	}
	return a, a.Reasons != nil
}

// Why joins the reasons.
func (a attention) Why() string { return strings.Join(a.Reasons, "; ") }

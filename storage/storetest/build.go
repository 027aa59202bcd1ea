package storetest

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// Contents that sessions are of.
var (
	quiz = uuid.MustParse("6caaa000-2bd8-4b28-8b9b-bfe1fca94f39")
	poll = uuid.MustParse("c0ffee00-2bd8-4b28-8b9b-bfe1fca94f39")
)

// visit is a session that a rule posts. Zero fields stand for an ordinary one.
type visit struct {
	id         uuid.UUID // of the session
	content    uuid.UUID
	visitor    int64
	at         time.Time // start and finish; a minute ago
	received   time.Time
	unfinished bool
}

// complete fills in what is not given.
func (v visit) complete() visit {
	if v.id == uuid.Nil {
		v.id = uuid.New()
	}
	if v.content == uuid.Nil {
		v.content = quiz
	}
	if v.visitor == 0 {
		v.visitor = 7
	}
	if v.received.IsZero() {
		v.received = now()
	}
	if v.at.IsZero() {
		v.at = v.received.Add(-time.Minute)
	}
	return v
}

// visitEvents is how many events a visit has that is finished.
const visitEvents = 3

// events are those of the visit: a start, a vote and, unless it is unfinished, a finish.
func (v visit) events(t *T) []engine.Event {
	t.Helper()
	v = v.complete()
	lines := []string{
		fmt.Sprintf(`{"type":"start","session_id":%q,"content_id":%q,"content_type":"quiz","poltio_user_id":%d,"time":%q}`, v.id, v.content, v.visitor, stamp(v.at)),
		fmt.Sprintf(`{"type":"vote","session_id":%q,"question_id":1,"answer_id":2,"time":%q}`, v.id, stamp(v.at)),
	}
	if !v.unfinished {
		lines = append(lines, finishOf(v.id, v.at))
	}
	return t.parse(v.received, lines...)
}

func stamp(at time.Time) string { return at.UTC().Format(time.RFC3339Nano) }

// finishOf is an event that finishes a session.
func finishOf(id uuid.UUID, at time.Time) string {
	return fmt.Sprintf(`{"type":"finish","session_id":%q,"time":%q}`, id, stamp(at))
}

// voteOf is an event of a session with an id of the caller's, that could be its first.
func voteOf(session uuid.UUID, id string) string {
	return fmt.Sprintf(`{"type":"vote","id":%q,"session_id":%q,"content_id":%q,"content_type":"quiz","poltio_user_id":1,"question_id":1,"answer_id":1}`, id, session, quiz)
}

// parse reads a request.
func (t *T) parse(received time.Time, lines ...string) []engine.Event {
	t.Helper()
	events, err := engine.ParseEvents([]byte(strings.Join(lines, "\n")), received)
	t.ok(err, "the rule's own events")
	return events
}

// Settings of webhooks.
func forPoll(w *engine.Webhook)         { w.ContentID = &poll }
func inactive(w *engine.Webhook)        { w.Active = false }
func operations(w *engine.Webhook)      { w.Operations, w.URL = true, "https://operations.example/" }
func sendsIncomplete(w *engine.Webhook) { w.SendIncomplete = true }
func inAnHour(w *engine.Webhook)        { w.Delay, w.IncompleteDelay = 3600, 3600 }

// hook makes a webhook and waits until its lanes are owned.
func (p *process) hook(settings ...func(*engine.Webhook)) engine.Webhook {
	p.t.Helper()
	made := p.make(settings...)
	p.t.await("the lanes of a new webhook are owned", func() bool { return p.Mine(made.ID) })
	return made
}

// make makes a webhook, for all contents and due at once if nothing else is said.
func (p *process) make(settings ...func(*engine.Webhook)) engine.Webhook {
	p.t.Helper()
	w := engine.DefaultWebhook()
	w.URL, w.Secret, w.CreatedAt, w.UpdatedAt, w.Delay = "https://a.example/", "whsec_MfKQ9r8GKYqTwjUPD8ILPZIo2LaLaSw4VXTqUm6qyHA=", now(), now(), 0
	for _, set := range settings {
		set(&w)
	}
	return p.change(engine.WebhookChange{Webhook: w}).Webhook
}

// change changes a webhook.
func (p *process) change(c engine.WebhookChange) engine.WebhookChanged {
	p.t.Helper()
	done, err := p.PutWebhook(p.t.Context(), c)
	p.t.ok(err, "PutWebhook")
	return done
}

// cancelAll are the cancellations that switching a webhook off leads to.
func cancelAll(w engine.Webhook) []engine.Cancellation {
	return []engine.Cancellation{{WebhookID: w.ID, Revision: w.Revision, Scope: engine.CancelAll}}
}

// switchOff makes a webhook inactive, with the cancellation that belongs to it.
func (p *process) switchOff(w engine.Webhook) engine.Webhook {
	p.t.Helper()
	cancels := cancelAll(w)
	w.Active = false
	return p.change(engine.WebhookChange{Webhook: w, Cancels: cancels}).Webhook
}

// text shows a value, equal ones alike: instants in UTC, and an empty list as none.
func text(v any) string {
	body, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return strings.NewReplacer("null", "[]").Replace(string(body))
}

// same reports a value that is not what it should be. Instants are compared, not where their clock stands.
func (t *T) same(got, want any, what string) {
	t.Helper()
	if g, w := text(utc(got)), text(utc(want)); g != w {
		t.Errorf("%s:\n got %s\nwant %s", what, g, w)
	}
}

// utc returns a delivery, or several, with all instants in UTC; anything else as it is.
func utc(v any) any {
	switch v := v.(type) {
	case engine.Delivery:
		for _, at := range []*time.Time{&v.CreatedAt, &v.DueAt, &v.AsOf, &v.NextAttemptAt, &v.FrozenAt, &v.FinishedAt} {
			*at = at.UTC()
		}
		return v
	case []engine.Delivery:
		all := make([]any, len(v))
		for i := range v {
			all[i] = utc(v[i])
		}
		return all
	}
	return v
}

// ids are those of deliveries.
func ids(list []engine.Delivery) []uuid.UUID {
	all := make([]uuid.UUID, len(list))
	for i := range list {
		all[i] = list[i].ID
	}
	return all
}

// idsOf are those of claimed deliveries.
func idsOf(list []engine.Claimed) []uuid.UUID {
	all := make([]uuid.UUID, len(list))
	for i := range list {
		all[i] = list[i].Delivery.ID
	}
	return all
}

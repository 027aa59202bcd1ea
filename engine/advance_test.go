package engine

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
)

var ruleAt = time.Date(2026, 3, 4, 5, 6, 7, 89, time.UTC)

// waitingDelivery is a pending delivery that is due at ruleAt.
func waitingDelivery() Delivery {
	return Delivery{ID: uuid.New(), WebhookID: 3, Kind: KindComplete, Status: StatusPending, CreatedAt: ruleAt.Add(-time.Minute), DueAt: ruleAt,
		NextAttemptAt: ruleAt, Tries: 1, Attempts: 4}
}

// What was done to a delivery while its attempt was in flight stands, but for a 2xx.
func TestAttemptApply(t *testing.T) {
	at, later := ruleAt.Add(time.Second), ruleAt.Add(time.Hour)
	retry := Next{StatusPending, later, NextBySchedule}
	failed := Attempt{Outcome: Outcome{Status: 500, Error: ErrorStatus}}
	requeued := func(d *Delivery) { d.NextAttemptAt, d.Tries = ruleAt.Add(time.Nanosecond), 0 }
	cancelled := func(d *Delivery) { d.Finish(StatusCancelled, ruleAt) }
	for name, tt := range map[string]struct {
		meanwhile func(*Delivery)
		covered   bool
		attempt   Attempt
		next      Next
		status    Status
		nextAt    time.Time
		finished  time.Time
		tries     int
		reason    NextReason
		moved     bool
	}{
		"delivered":                    {attempt: Attempt{Outcome: Outcome{Status: 200}}, next: Next{Status: StatusDelivered}, status: StatusDelivered, finished: at, tries: 1, moved: true},
		"retried":                      {attempt: failed, next: retry, status: StatusPending, nextAt: later, tries: 2, reason: NextBySchedule, moved: true},
		"retried with a new token":     {attempt: failed, next: Next{StatusPending, at, NextByToken}, status: StatusPending, nextAt: at, tries: 1, reason: NextByToken, moved: true},
		"failed for good":              {attempt: failed, next: Next{Status: StatusFailed, Reason: NextExhausted}, status: StatusFailed, finished: at, tries: 1, reason: NextExhausted, moved: true},
		"covered":                      {covered: true, attempt: failed, next: retry, status: StatusCancelled, finished: at, tries: 1, reason: NextCancelled, moved: true},
		"covered, delivered":           {covered: true, attempt: Attempt{Outcome: Outcome{Status: 204}}, next: Next{Status: StatusDelivered}, status: StatusDelivered, finished: at, tries: 1, moved: true},
		"cancelled meanwhile":          {meanwhile: cancelled, attempt: failed, next: retry, status: StatusCancelled, finished: ruleAt, tries: 1, reason: NextCancelled},
		"cancelled, delivered":         {meanwhile: cancelled, attempt: Attempt{Outcome: Outcome{Status: 200}}, next: Next{Status: StatusDelivered}, status: StatusDelivered, finished: at, tries: 1},
		"cancelled, failed for good":   {meanwhile: cancelled, attempt: failed, next: Next{Status: StatusFailed, Reason: NextExhausted}, status: StatusCancelled, finished: ruleAt, tries: 1, reason: NextCancelled},
		"queued again meanwhile":       {meanwhile: requeued, attempt: failed, next: retry, status: StatusPending, nextAt: ruleAt.Add(1), tries: 0, reason: NextQueuedAgain},
		"queued again, failed":         {meanwhile: requeued, attempt: failed, next: Next{Status: StatusFailed, Reason: NextExhausted}, status: StatusPending, nextAt: ruleAt.Add(1), tries: 0, reason: NextQueuedAgain},
		"queued again, delivered":      {meanwhile: requeued, attempt: Attempt{Outcome: Outcome{Status: 200}}, next: Next{Status: StatusDelivered}, status: StatusDelivered, finished: at, moved: true},
		"queued again, covered, fails": {meanwhile: requeued, covered: true, attempt: failed, next: retry, status: StatusPending, nextAt: ruleAt.Add(1), reason: NextQueuedAgain},
	} {
		t.Run(name, func(t *testing.T) {
			stored := waitingDelivery()
			r := AttemptRecord{Delivery: stored, Attempt: tt.attempt, Next: tt.next, At: at, Webhook: &Webhook{ID: 3}, HealthNotice: []byte("health")}
			if tt.meanwhile != nil {
				tt.meanwhile(&stored)
			}
			before := stored
			e := r.Apply(&stored, tt.covered)
			if stored != before {
				t.Error("Apply changed what is stored")
			}
			d := e.Delivery
			if d.Status != tt.status || !d.NextAttemptAt.Equal(tt.nextAt) || !d.FinishedAt.Equal(tt.finished) || d.Tries != tt.tries || e.Moved != tt.moved {
				t.Errorf("moved %t: %+v", e.Moved, d)
			}
			if d.Attempts != before.Attempts+1 || d.LastStatus != tt.attempt.Status || d.LastError != tt.attempt.Error {
				t.Errorf("the attempt is not counted: %+v", d)
			}
			if e.Attempt.NextReason != tt.reason || !e.Attempt.NextAt.Equal(tt.nextAt) {
				t.Errorf("the attempt says %q, %v", e.Attempt.NextReason, e.Attempt.NextAt)
			}
			want := 1
			if tt.status == StatusFailed {
				want = 2 // that, too, is told
			}
			if len(e.Notices) != want || string(e.Notices[0]) != "health" {
				t.Errorf("notices %q", e.Notices)
			}
		})
	}
}

// What is about tests, about the operations webhook, or about nobody's webhook is not told.
func TestAttemptApplyTellsNobody(t *testing.T) {
	for name, change := range map[string]func(*AttemptRecord){
		"a test":                 func(r *AttemptRecord) { r.Delivery.Kind = KindTest },
		"the operations webhook": func(r *AttemptRecord) { r.Webhook = &Webhook{ID: 3, Operations: true} },
		"a deleted webhook":      func(r *AttemptRecord) { r.Webhook = nil },
	} {
		r := AttemptRecord{Delivery: waitingDelivery(), Attempt: Attempt{Outcome: Outcome{Error: ErrorTimeout}}, Next: Next{Status: StatusFailed}, At: ruleAt, Webhook: &Webhook{ID: 3}}
		change(&r)
		if e := r.Apply(&r.Delivery, false); len(e.Notices) != 0 || e.Delivery.Status != StatusFailed {
			t.Errorf("%s: %q of %+v", name, e.Notices, e.Delivery)
		}
	}
	r := AttemptRecord{HealthNotice: []byte("health")}
	if got := r.ApplyErased(); len(got) != 1 || string(got[0]) != "health" {
		t.Errorf("of an erased delivery: %q", got)
	}
}

func TestFreezeFits(t *testing.T) {
	claimed := waitingDelivery()
	claimed.Status = StatusScheduled
	f := Freeze{Delivery: claimed}
	for name, tt := range map[string]struct {
		change  func(*Delivery)
		covered bool
		want    bool
	}{
		"as it was claimed": {want: true},
		"covered":           {covered: true},
		"cancelled":         {change: func(d *Delivery) { d.Finish(StatusCancelled, ruleAt) }},
		"frozen already":    {change: func(d *Delivery) { d.Status = StatusPending }},
		"queued again":      {change: func(d *Delivery) { d.NextAttemptAt = d.NextAttemptAt.Add(1) }},
	} {
		stored := claimed
		if tt.change != nil {
			tt.change(&stored)
		}
		if got := f.Fits(&stored, tt.covered); got != tt.want {
			t.Errorf("%s: %t, want %t", name, got, tt.want)
		}
	}
}

func TestRequeue(t *testing.T) {
	hook := &Webhook{ID: 3, Revision: 9, Active: true}
	for name, tt := range map[string]struct {
		webhook *Webhook
		kind    Kind
		from    Source
		status  Status // 0: refused
	}{
		"frozen":                  {hook, KindComplete, Source{Frozen: true}, StatusPending},
		"frozen, with a session":  {hook, KindComplete, Source{Frozen: true, Session: true}, StatusPending},
		"to be rendered":          {hook, KindIncomplete, Source{Session: true}, StatusScheduled},
		"nothing to render from":  {hook, KindComplete, Source{}, 0},
		"its webhook was deleted": {nil, KindComplete, Source{Frozen: true}, 0},
		"its webhook is off":      {&Webhook{ID: 3}, KindComplete, Source{Frozen: true}, 0},
		"a test of one that is":   {&Webhook{ID: 3, Revision: 9}, KindTest, Source{Frozen: true}, StatusPending},
		"it is paused":            {&Webhook{ID: 3, Revision: 9, Active: true, Paused: true}, KindComplete, Source{Frozen: true}, StatusPending},
	} {
		t.Run(name, func(t *testing.T) {
			d := waitingDelivery()
			d.Kind = tt.kind
			d.Finish(StatusFailed, ruleAt)
			before := d
			err := d.Requeue(tt.webhook, tt.from, ruleAt.Add(time.Hour))
			if tt.status == 0 {
				if !errors.Is(err, ErrConflict) || d != before {
					t.Errorf("%v, %+v; want ErrConflict and no change", err, d)
				}
				return
			}
			if err != nil || d.Status != tt.status || d.Tries != 0 || !d.FinishedAt.IsZero() || !d.NextAttemptAt.Equal(ruleAt.Add(time.Hour)) ||
				d.WebhookRevision != 9 || d.Attempts != before.Attempts {
				t.Errorf("%v, %+v", err, d)
			}
		})
	}
}

func TestDeliveryCancel(t *testing.T) {
	for _, status := range Statuses {
		d := waitingDelivery()
		d.Status = status
		before := d
		err := d.Cancel(ruleAt)
		switch {
		case status.Waiting() && (err != nil || d.Status != StatusCancelled || !d.FinishedAt.Equal(ruleAt) || !d.NextAttemptAt.IsZero()):
			t.Errorf("%s: %v, %+v", status, err, d)
		case !status.Waiting() && (!errors.Is(err, ErrConflict) || d != before):
			t.Errorf("%s: %v, %+v", status, err, d)
		}
	}
}

func TestKeepsHealth(t *testing.T) {
	hook := &Webhook{ID: 3, URL: "https://a.example/", ResumedAt: ruleAt}
	moved := &Webhook{ID: 3, URL: "https://b.example/", ResumedAt: ruleAt}
	resumed := &Webhook{ID: 3, URL: "https://a.example/", ResumedAt: ruleAt.Add(time.Hour)}
	for name, tt := range map[string]struct {
		present, of *Webhook
		order, kept uint64
		want        bool
	}{
		"newer":                          {hook, hook, 5, 4, true},
		"older, recorded late":           {hook, hook, 4, 5, false},
		"none":                           {hook, hook, 0, 0, false},
		"of a deleted webhook":           {nil, hook, 5, 4, false},
		"of the endpoint before":         {moved, hook, 5, 4, false},
		"from before it was let go on":   {resumed, hook, 5, 4, false},
		"no attempt at an endpoint":      {hook, nil, 5, 4, false},
		"other settings have changed":    {&Webhook{ID: 3, URL: hook.URL, ResumedAt: ruleAt, Name: "x"}, hook, 5, 4, true},
		"the one that it was made for":   {moved, moved, 5, 4, true},
		"the one after it was let go on": {resumed, resumed, 5, 4, true}, // though it seems to have begun before: the clock was set back
	} {
		r := AttemptRecord{Webhook: tt.of, Attempt: Attempt{Outcome: Outcome{StartedAt: ruleAt.Add(time.Minute)}}, Health: Health{Order: tt.order}}
		if got := r.KeepsHealth(tt.present, Health{Order: tt.kept}); got != tt.want {
			t.Errorf("%s: %t, want %t", name, got, tt.want)
		}
	}
	if ResetsHealth(hook, hook) || !ResetsHealth(hook, moved) || !ResetsHealth(hook, resumed) {
		t.Error("health begins anew with another URL, and when a webhook is let go on, and not else")
	}
}

func TestRetentionRules(t *testing.T) {
	head := SessionHead{LastReceivedAt: ruleAt}
	if !head.Expired(ruleAt) || head.Expired(ruleAt.Add(-1)) {
		t.Error("a session expires when its last event came at the limit, not before")
	}
	if head.Evictable(ruleAt.Add(24*time.Hour-1)) || !head.Evictable(ruleAt.Add(24*time.Hour)) {
		t.Error("an unfinished session is evictable after a day of silence")
	}
	head.FinishedAt = ruleAt
	if !head.Evictable(ruleAt) {
		t.Error("a finished session is evictable at once")
	}
	d := waitingDelivery()
	if d.FinishedBy(ruleAt.Add(time.Hour)) {
		t.Error("a waiting delivery has not finished")
	}
	d.Finish(StatusDelivered, ruleAt)
	if !d.FinishedBy(ruleAt) || d.FinishedBy(ruleAt.Add(-1)) {
		t.Error("a delivery is finished from its end on")
	}
}

func TestReplayTakes(t *testing.T) {
	hook := &Webhook{ID: 3, Active: true}
	span := func(scope ReplayScope) Replay {
		return Replay{WebhookID: 3, Scope: scope, Since: ruleAt, Until: ruleAt.Add(time.Hour)}
	}
	ended := func(s Status, k Kind, created time.Duration) Delivery {
		d := Delivery{WebhookID: 3, Kind: k, CreatedAt: ruleAt.Add(created)}
		d.Finish(s, ruleAt.Add(2*time.Hour))
		return d
	}
	waiting := Delivery{WebhookID: 3, Kind: KindComplete, Status: StatusPending, CreatedAt: ruleAt, NextAttemptAt: ruleAt}
	all := Source{Frozen: true, Session: true}
	for name, tt := range map[string]struct {
		scope   ReplayScope
		d       Delivery
		from    Source
		covered bool
		want    bool
	}{
		"failed":                           {ReplayFailed, ended(StatusFailed, KindComplete, 0), all, false, true},
		"failed at the end of the span":    {ReplayFailed, ended(StatusFailed, KindComplete, time.Hour), all, false, true},
		"failed before the span":           {ReplayFailed, ended(StatusFailed, KindComplete, -1), all, false, false},
		"failed, of delivered":             {ReplayFailed, ended(StatusDelivered, KindComplete, 0), all, false, false},
		"any, delivered":                   {ReplayAny, ended(StatusDelivered, KindComplete, 0), all, false, true},
		"any, cancelled":                   {ReplayAny, ended(StatusCancelled, KindIncomplete, 0), all, false, false}, // the webhook sends none
		"any, a test":                      {ReplayAny, ended(StatusDelivered, KindTest, 0), all, false, false},
		"any, waiting":                     {ReplayAny, waiting, all, false, false},
		"any, waiting and covered":         {ReplayAny, waiting, all, true, true},
		"any, nothing to render from":      {ReplayAny, ended(StatusCancelled, KindComplete, 0), Source{}, false, false},
		"missing, cancelled long ago":      {ReplayMissing, ended(StatusCancelled, KindComplete, -100*time.Hour), Source{Session: true}, false, true},
		"missing, delivered":               {ReplayMissing, ended(StatusDelivered, KindComplete, 0), all, false, false},
		"missing, waiting and covered":     {ReplayMissing, waiting, all, true, true},
		"missing, a cancelled incomplete":  {ReplayMissing, ended(StatusCancelled, KindIncomplete, 0), all, false, false},
		"failed, a final one that is mark": {ReplayFailed, ended(StatusFailed, KindComplete, 0), all, true, true},
	} {
		r := span(tt.scope)
		if got := r.Includes(&tt.d, hook, tt.from, tt.covered); got != tt.want {
			t.Errorf("%s: %t, want %t", name, got, tt.want)
		}
	}
	r := span(ReplayAny)
	for name, tt := range map[string]struct {
		hooks []*Webhook
		want  error
	}{"there": {[]*Webhook{hook}, nil}, "deleted": {nil, ErrNotFound}, "off": {[]*Webhook{{ID: 3}}, ErrConflict}} {
		if _, err := r.Webhook(NewWebhookSet(tt.hooks, nil)); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

// A repeat is an event whose id the session has, or that came before in the request; events without an id never are.
func TestFreshEvents(t *testing.T) {
	ev := func(id string) Event {
		return Event{Type: EventFinish, ID: id, SessionID: foldSID, Time: ruleAt, ReceivedAt: ruleAt}
	}
	for name, tt := range map[string]struct {
		posted []string
		stored map[string]bool
		want   []string
	}{
		"no ids":               {[]string{"", ""}, map[string]bool{"a": true}, []string{"", ""}},
		"new":                  {[]string{"a", "b"}, nil, []string{"a", "b"}},
		"twice in the request": {[]string{"a", "", "a"}, nil, []string{"a", ""}},
		"stored":               {[]string{"a", "b"}, map[string]bool{"a": true}, []string{"b"}},
		"all stored":           {[]string{"a", "a"}, map[string]bool{"a": true}, nil},
	} {
		var events []Event
		for _, id := range tt.posted {
			events = append(events, ev(id))
		}
		a := NewAppend(events, ruleAt)
		for range 2 { // it may be asked again
			d, err := a.Admit(0, SessionHead{ID: foldSID, Events: 1}, tt.stored, NewWebhookSet(nil, nil), MaxTriggers)
			if err != nil || len(d.Fresh) != len(tt.want) {
				t.Fatalf("%s: %d fresh, %v", name, len(d.Fresh), err)
			}
			for i := range d.Fresh {
				if d.Fresh[i].ID != tt.want[i] {
					t.Errorf("%s: fresh %d is %q, want %q", name, i, d.Fresh[i].ID, tt.want[i])
				}
			}
			if n := max(0, len(tt.want)); len(tt.want) > 0 && d.Head.Events != 1+n {
				t.Errorf("%s: the head has %d events", name, d.Head.Events)
			}
		}
	}
}

// What is due by now in an open lane is claimed; it is frozen where a payload was rendered from all that there is of the session, by
// the webhook's present settings.
func TestAdmitOnArrival(t *testing.T) {
	hook := func(delay int64, revision uint64) *Webhook {
		return &Webhook{ID: 3, Revision: revision, Active: true, Delay: delay}
	}
	posted := []Event{firstEvent(at(0, EventStart)), at(20, EventFinish)}
	now := foldStart.Add(30 * time.Second)
	rendered := []RenderedPayload{{WebhookID: 3, Revision: 7, Body: []byte("{}")}}
	for name, tt := range map[string]struct {
		head     SessionHead
		hook     *Webhook
		open     bool
		payloads []RenderedPayload
		bytes    int
		claim    bool
		frozen   bool
	}{
		"due, open, rendered":           {hook: hook(10, 7), open: true, payloads: rendered, claim: true, frozen: true},
		"not rendered":                  {hook: hook(10, 7), open: true, claim: true},
		"rendered by other settings":    {hook: hook(10, 8), open: true, payloads: rendered, claim: true},
		"rendered for another webhook":  {hook: hook(10, 7), open: true, payloads: []RenderedPayload{{WebhookID: 4, Revision: 7}}, claim: true},
		"there is more of it":           {head: SessionHead{ID: foldSID, Identity: posted[0].Identity, Events: 1}, hook: hook(10, 7), open: true, payloads: rendered, claim: true},
		"a lane that is not open":       {hook: hook(10, 7)},
		"a lane of another process":     {hook: hook(10, 7), payloads: rendered, frozen: true},
		"due later":                     {hook: hook(11, 7), open: true, payloads: rendered},
		"large":                         {hook: hook(10, 7), open: true, payloads: rendered, bytes: maxClaimOnArrivalBytes + 1},
		"as large as may be":            {hook: hook(10, 7), open: true, payloads: rendered, bytes: maxClaimOnArrivalBytes, claim: true, frozen: true},
		"large, of a session with more": {head: SessionHead{ID: foldSID, Identity: posted[0].Identity, Events: 1, Bytes: maxClaimOnArrivalBytes + 1}, hook: hook(10, 7), open: true},
	} {
		a := NewAppend(posted, now)
		a.Open = map[uint32]bool{3: tt.open}
		a.Sessions[0].Payloads = tt.payloads
		if tt.bytes > 0 {
			a.Sessions[0].Events = []Event{posted[0], posted[1]}
			a.Sessions[0].Events[1].JSON = make([]byte, tt.bytes)
		}
		d, err := a.Admit(0, tt.head, nil, NewWebhookSet([]*Webhook{tt.hook}, nil), MaxTriggers)
		if err != nil || len(d.Triggers) != 1 {
			t.Fatalf("%s: %+v, %v", name, d, err)
		}
		if got := d.Triggers[0]; got.Claim != tt.claim || (got.Payload != nil) != tt.frozen {
			t.Errorf("%s: claimed %t, frozen %t", name, got.Claim, got.Payload != nil)
		}
	}
}

package storetest

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

var listRules = []Rule{
	{Name: "list/filters", check: listsFilter},
	{Name: "list/newest first", check: listsNewestFirst},
	{Name: "list/waiting ones by their next attempt", check: listsByNextAttempt},
	{Name: "list/bounds are inclusive", check: listBounds},
	{Name: "list/limit", check: listsLimit},
	{Name: "list/cursor goes on while deliveries are made", check: listGoesOn},
	{Name: "list/what is no cursor is refused", check: listRefusesCursor},
}

// list is a store with deliveries in many states, and all of them, newest first.
type list struct {
	p    *process
	a, b engine.Webhook
	all  []engine.Delivery
}

// listed makes 20 sessions for two webhooks: of each a third is delivered, a third failed or cancelled, the rest waits.
func (t *T) listed() list {
	t.Helper()
	l := list{p: t.start()}
	l.a, l.b = l.p.hook(), l.p.hook()
	p := l.p
	for i := range 20 {
		p.visit(visit{at: now().Add(time.Duration(i*37%20)*time.Second - time.Minute)})
	}
	for _, w := range []engine.Webhook{l.a, l.b} {
		for i, c := range p.claim(lane(w)) {
			switch {
			case i < 6:
				p.record(engine.AttemptRecord{Delivery: p.frozen(c.Delivery, `{}`), Attempt: good(), Next: delivered})
			case i < 10:
				p.record(engine.AttemptRecord{Delivery: p.frozen(c.Delivery, `{}`), Attempt: bad(), Next: exhausted})
			case i < 12:
				p.reschedule(c.Delivery, engine.RescheduleNever, now())
			case i < 16:
				next := later(now().Add(time.Duration(i*7%4) * time.Hour))
				p.record(engine.AttemptRecord{Delivery: p.frozen(c.Delivery, `{}`), Attempt: bad(), Next: next})
			}
		}
	}
	test, err := p.Enqueue(t.Context(), engine.Enqueue{WebhookID: l.a.ID, Kind: engine.KindTest, Payload: []byte(`{}`), At: now()})
	t.ok(err, "Enqueue")
	l.all = append(l.all, test)
	for _, d := range p.pages(engine.DeliveryQuery{}, 1000) {
		if d.ID != test.ID {
			d, _, _ = p.delivery(d.ID)
			l.all = append(l.all, d)
		}
	}
	if len(l.all) != 41 {
		t.Fatalf("%d deliveries are listed, want 41", len(l.all))
	}
	slices.SortStableFunc(l.all, func(x, y engine.Delivery) int {
		return cmp.Or(y.CreatedAt.Compare(x.CreatedAt), strings.Compare(y.ID.String(), x.ID.String()))
	})
	return l
}

// lists reports a list that is not made of what keep chooses, in any order, with pages of several sizes.
func (l *list) lists(q engine.DeliveryQuery, keep func(d *engine.Delivery) bool, name string) {
	l.p.t.Helper()
	var want []string
	for i := range l.all {
		if keep(&l.all[i]) {
			want = append(want, text(utc(l.all[i])))
		}
	}
	slices.Sort(want)
	for _, limit := range []int{1, 7, 1000} {
		var got []string
		for _, d := range l.p.pages(q, limit) {
			got = append(got, text(utc(d)))
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			l.p.t.Errorf("%s, %d a page: %d deliveries, want %d, or others", name, limit, len(got), len(want))
		}
	}
}

// Each field chooses, also beside others, whatever the size of the pages.
func listsFilter(t *T) {
	l := t.listed()
	session := l.all[7].SessionID
	for _, w := range []uint32{0, l.a.ID, l.b.ID, 4711} {
		for _, s := range slices.Concat([]engine.Status{0}, engine.Statuses) {
			l.lists(engine.DeliveryQuery{WebhookID: w, Status: s}, func(d *engine.Delivery) bool {
				return (w == 0 || d.WebhookID == w) && (s == 0 || d.Status == s)
			}, "webhook and status")
		}
		l.lists(engine.DeliveryQuery{WebhookID: w, SessionID: session}, func(d *engine.Delivery) bool {
			return (w == 0 || d.WebhookID == w) && d.SessionID == session
		}, "webhook and session")
	}
	l.lists(engine.DeliveryQuery{SessionID: uuid.New()}, func(*engine.Delivery) bool { return false }, "an unknown session")
	for _, s := range engine.Statuses {
		l.lists(engine.DeliveryQuery{SessionID: session, Status: s}, func(d *engine.Delivery) bool {
			return d.SessionID == session && d.Status == s
		}, "session and status")
	}
}

// A list has the newest first, across webhooks and pages, also after a restart.
func listsNewestFirst(t *T) {
	l := t.listed()
	for range 2 {
		for _, q := range []engine.DeliveryQuery{{}, {WebhookID: l.b.ID}, {Status: engine.StatusDelivered}, {Status: engine.StatusFailed},
			{Status: engine.StatusCancelled}, {SessionID: l.all[9].SessionID}} {
			for _, limit := range []int{3, 1000} {
				got := l.p.pages(q, limit)
				if len(got) < 2 {
					t.Fatalf("%+v: only %d deliveries", q, len(got))
				}
				for i := range got[1:] {
					if got[i+1].CreatedAt.After(got[i].CreatedAt) {
						t.Errorf("%+v: one of %v comes before one of %v", q, got[i].CreatedAt, got[i+1].CreatedAt)
					}
				}
			}
		}
		l.p = l.p.restart()
	}
}

// What is asked for as scheduled or pending comes by its next attempt, the latest first, across webhooks and pages.
func listsByNextAttempt(t *T) {
	l := t.listed()
	for _, s := range []engine.Status{engine.StatusScheduled, engine.StatusPending} {
		for _, w := range []uint32{0, l.a.ID} {
			for _, limit := range []int{2, 1000} {
				got := l.p.pages(engine.DeliveryQuery{Status: s, WebhookID: w}, limit)
				if len(got) < 4 {
					t.Fatalf("only %d are %s", len(got), s)
				}
				for i := range got[1:] {
					if got[i+1].NextAttemptAt.After(got[i].NextAttemptAt) {
						t.Errorf("%s of webhook %d: one for %v comes before one for %v", s, w, got[i].NextAttemptAt, got[i+1].NextAttemptAt)
					}
				}
			}
		}
	}
}

// Since and Until bound the time at which deliveries were made, both inclusive, in lists of all kinds.
func listBounds(t *T) {
	l := t.listed()
	old, young := l.all[30].CreatedAt, l.all[10].CreatedAt
	for _, s := range slices.Concat([]engine.Status{0}, engine.Statuses) {
		for _, w := range []uint32{0, l.a.ID} {
			for _, b := range [][2]time.Time{{old, {}}, {{}, young}, {old, young}, {young, young}, {young, old}, {old.Add(1), young.Add(-1)},
				{now().Add(time.Hour), {}}, {{}, old.Add(-time.Hour)}} {
				q := engine.DeliveryQuery{Status: s, WebhookID: w, Since: b[0], Until: b[1]}
				l.lists(q, func(d *engine.Delivery) bool {
					return (s == 0 || d.Status == s) && (w == 0 || d.WebhookID == w) &&
						(b[0].IsZero() || !d.CreatedAt.Before(b[0])) && (b[1].IsZero() || !d.CreatedAt.After(b[1]))
				}, "bounds")
			}
		}
	}
}

// A page has no more items than its limit, and the last one no next page.
func listsLimit(t *T) {
	p := t.start()
	p.hook()
	for range 4 {
		p.visit(visit{})
	}
	for limit := range 6 {
		if limit == 0 {
			continue
		}
		page, err := p.Deliveries(t.Context(), engine.DeliveryQuery{Limit: limit})
		t.ok(err, "Deliveries")
		if len(page.Items) > limit || limit > 4 && page.NextCursor != "" {
			t.Errorf("limit %d: %d items, next page %q", limit, len(page.Items), page.NextCursor)
		}
		if got := p.pages(engine.DeliveryQuery{}, limit); len(got) != 4 {
			t.Errorf("limit %d: %d items in all, want 4", limit, len(got))
		}
	}
}

// Pages go on where the one before has ended: what is made in between does not bring anything twice, and hides nothing.
func listGoesOn(t *T) {
	l := t.listed()
	for _, q := range []engine.DeliveryQuery{{}, {WebhookID: l.a.ID}, {Status: engine.StatusDelivered}} {
		seen := make(map[uuid.UUID]int)
		q.Limit = 5
		for range 1000 {
			page, err := l.p.Deliveries(t.Context(), q)
			t.ok(err, "Deliveries")
			for _, d := range page.Items {
				seen[d.ID]++
			}
			if q.Cursor = page.NextCursor; q.Cursor == "" {
				break
			}
			l.p.visit(visit{})
		}
		for _, d := range l.all {
			if matches := (q.WebhookID == 0 || d.WebhookID == q.WebhookID) && (q.Status == 0 || d.Status == q.Status); matches && seen[d.ID] != 1 {
				t.Errorf("%+v: delivery %s was listed %d times", q, d.ID, seen[d.ID])
			}
		}
	}
}

// A cursor that is none of the list is an input error.
func listRefusesCursor(t *T) {
	l := t.listed()
	for _, cursor := range []string{"!", "nonsense", "A", strings.Repeat("A", 300)} {
		for _, q := range []engine.DeliveryQuery{{}, {SessionID: l.all[3].SessionID}, {Status: engine.StatusScheduled}, {WebhookID: l.a.ID}} {
			q.Limit, q.Cursor = 10, cursor
			_, err := l.p.Deliveries(t.Context(), q)
			if !isInput(err) {
				t.Errorf("%+v: got the error %v, want an InputErrors", q, err)
			}
		}
	}
}

package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

var appendRules = []Rule{
	{Name: "append/events are kept as they came", check: eventsAreKept},
	{Name: "append/head", check: headFollowsEvents},
	{Name: "append/all sessions of a request or none", check: requestIsAtomic},
	{Name: "append/names all that is refused", check: namesAllRefused},
	{Name: "append/partial", check: partialLeavesOut},
	{Name: "append/all is seen or none", check: requestIsSeenWhole},
	{Name: "append/repeats are left out", check: repeatsAreLeftOut},
	{Name: "append/repeats of a session only", check: repeatsAreOfASession},
	{Name: "append/nothing but repeats changes nothing", check: repeatsChangeNothing},
	{Name: "append/triggers become deliveries", check: triggersBecomeDeliveries},
	{Name: "append/at most one of a kind", check: atMostOneOfAKind},
	{Name: "append/queued", check: appendTellsQueued},
}

// Events come back in the order of their arrival, byte for byte, with the time of their receipt.
func eventsAreKept(t *T) {
	p := t.start()
	v := visit{received: now().Add(-time.Second), unfinished: true}.complete()
	first := v.events(t)
	p.append(engine.NewAppend(first, v.received))
	second := t.parse(now(), voteOf(v.id, "a"), `{ "type":"lead",  "session_id":"`+v.id.String()+`","lead":{"name":"Ä\u0000"}}`, finishOf(v.id, v.at))
	p.append(engine.NewAppend(second, now()))
	record, _ := p.session(v.id)
	got, err := record.Events()
	t.ok(err, "the stored events")
	want := slices.Concat(first, second)
	if len(got) != len(want) {
		t.Fatalf("%d events are stored, want %d", len(got), len(want))
	}
	for i := range want {
		if string(got[i].JSON) != string(want[i].JSON) || !got[i].ReceivedAt.Equal(want[i].ReceivedAt) {
			t.Errorf("event %d is %s of %v, want %s of %v", i, got[i].JSON, got[i].ReceivedAt, want[i].JSON, want[i].ReceivedAt)
		}
	}
	if len(record.Batches) != 2 {
		t.Errorf("two requests have led to %d batches", len(record.Batches))
	}
}

// The head is what Admit has made of it, request by request.
func headFollowsEvents(t *T) {
	p := t.start()
	v := visit{received: now().Add(-time.Hour), unfinished: true}.complete()
	requests := [][]engine.Event{
		v.events(t),
		t.parse(v.received.Add(time.Minute), voteOf(v.id, "a"), `{"type":"vote","session_id":"`+v.id.String()+`","question_id":3,"answer_id":4,"custom_id":"c","publisher_uuid":"u"}`),
		t.parse(v.received.Add(2*time.Minute), finishOf(v.id, v.at.Add(time.Second))),
	}
	var want engine.SessionHead
	for i, events := range requests {
		a := engine.NewAppend(events, events[0].ReceivedAt)
		d, err := a.Admit(0, want, nil, engine.NewWebhookSet(nil, nil), engine.MaxTriggers)
		t.ok(err, "Admit")
		want = d.Head
		p.append(a)
		record, _ := p.session(v.id)
		for _, at := range []*time.Time{&record.Head.FirstReceivedAt, &record.Head.LastReceivedAt, &record.Head.FinishedAt} {
			*at = at.UTC()
		}
		t.same(record.Head, want, "the head after request "+string(rune('1'+i)))
	}
}

// orphan are events of a session that cannot be its first.
func orphan(t *T, index int) []engine.Event {
	id := uuid.New()
	events := t.parse(now(), finishOf(id, now()))
	events[0].Index = index
	return events
}

// If one session of a request is refused, nothing of the others is stored: no session, no delivery, no claim.
func requestIsAtomic(t *T) {
	p := t.start()
	w := p.hook()
	first, second := visit{}.complete(), visit{}.complete()
	events := slices.Concat(first.events(t), orphan(t, 3), second.events(t))
	a := engine.NewAppend(events, now())
	a.Open = map[uint32]bool{w.ID: true}
	_, err := p.AppendEvents(t.Context(), a)
	if _, ok := errors.AsType[engine.InputErrors](err); !ok {
		t.Errorf("got the error %v, want an InputErrors", err)
	}
	for _, v := range []visit{first, second} {
		_, _, err := p.Session(t.Context(), v.id)
		t.is(err, engine.ErrNotFound, "a session of a refused request")
	}
	if list := p.pages(engine.DeliveryQuery{}, 10); len(list) > 0 {
		t.Errorf("a refused request has led to %d deliveries", len(list))
	}
	t.same(p.stats(w, now()), engine.WebhookStats{}, "stats")
	if d := p.one(first); p.claimOne(lane(w)).Delivery.ID != d.ID {
		t.Errorf("the request that was made again has led to something else")
	}
}

// The error names the bad events of all sessions, in their order.
func namesAllRefused(t *T) {
	p := t.start()
	events := slices.Concat(visit{}.events(t), orphan(t, 3), orphan(t, 4), orphan(t, 5))
	_, err := p.AppendEvents(t.Context(), engine.NewAppend(events, now()))
	refused, _ := errors.AsType[engine.InputErrors](err)
	var got []int
	for _, e := range refused {
		got = append(got, e.Index)
		if e.Field != "content_id" {
			t.Errorf("event %d lacks %q, want content_id", e.Index, e.Field)
		}
	}
	if !slices.Equal(got, []int{3, 4, 5}) {
		t.Errorf("refused are the events %v, want 3, 4 and 5", got)
	}
}

// A partial request stores what is not refused, in one session or in another one, and names the rest.
func partialLeavesOut(t *T) {
	p := t.start()
	v, torn := visit{}.complete(), visit{}.complete()
	// An event that is too large is left out of its session.
	large := t.parse(now(), finishOf(torn.id, now()))
	large[0].Index, large[0].JSON = 10, make([]byte, engine.MaxSessionBytes+1)
	again := t.parse(now(), voteOf(torn.id, "a"), voteOf(torn.id, "a"))
	a := engine.NewAppend(slices.Concat(orphan(t, 3), v.events(t), large, torn.events(t), again), now())
	a.Partial = true
	done, err := p.AppendEvents(t.Context(), a)
	t.ok(err, "AppendEvents of a partial request")
	var got []int
	for _, e := range done.Refused {
		got = append(got, e.Index)
	}
	if !slices.Equal(got, []int{3, 10}) {
		t.Errorf("refused are the events %v, want 3 and 10", got)
	}
	record, _ := p.session(v.id)
	t.same(record.Head.Events, len(v.events(t)), "events of a session that refuses none")
	record, _ = p.session(torn.id)
	t.same(record.Head.Events, len(torn.events(t))+1, "events of a session that refuses its first")
	t.same(done.Duplicates, 1, "repeats in a partial request")
	_, _, err = p.Session(t.Context(), a.Sessions[0].Events[0].SessionID)
	t.is(err, engine.ErrNotFound, "a session that refuses all")
}

// Who sees one session of a request sees the other one, too.
func requestIsSeenWhole(t *T) {
	p := t.start()
	const rounds = 30
	var pairs [rounds][2]visit
	for i := range pairs {
		pairs[i] = [2]visit{visit{}.complete(), visit{}.complete()}
	}
	done := make(chan struct{})
	look := func(first, second int) {
		for i := 0; i < rounds; {
			if _, _, err := p.Session(t.Context(), pairs[i][first].id); err == nil {
				if _, _, err := p.Session(t.Context(), pairs[i][second].id); err != nil {
					t.Errorf("one session of a request is stored, the other one not: %v", err)
					return
				}
				i++
				continue
			}
			select {
			case <-done:
				return
			default:
			}
		}
	}
	parallel(func() {
		defer close(done)
		for _, pair := range pairs {
			if _, err := p.AppendEvents(t.Context(), engine.NewAppend(slices.Concat(pair[0].events(t), pair[1].events(t)), now())); err != nil {
				t.Errorf("AppendEvents: %v", err)
			}
		}
	}, func() { look(0, 1) }, func() { look(1, 0) })
}

// eventIDs are the ids of a session's stored events, in their order.
func (p *process) eventIDs(session uuid.UUID) string {
	p.t.Helper()
	record, _ := p.session(session)
	events, err := record.Events()
	p.t.ok(err, "the stored events")
	if record.Head.Events != len(events) {
		p.t.Errorf("the head counts %d events of %d", record.Head.Events, len(events))
	}
	var all []string
	for _, ev := range events {
		all = append(all, ev.ID)
	}
	return strings.Join(all, "")
}

// An event whose id the session has is left out, be it stored or in the same request. One without an id is none.
func repeatsAreLeftOut(t *T) {
	p := t.start()
	id := uuid.New()
	for _, request := range []struct {
		keys    []string
		repeats int
	}{{[]string{"a"}, 0}, {[]string{"a"}, 1}, {[]string{"b", "b", "c"}, 1}, {[]string{"c", "a", "d"}, 2}} {
		var lines []string
		for _, key := range request.keys {
			lines = append(lines, voteOf(id, key))
		}
		done := p.post(t.parse(now(), lines...)...)
		t.same(done.Duplicates, request.repeats, fmt.Sprintf("repeats in %v", request.keys))
	}
	if got := p.eventIDs(id); got != "abcd" {
		t.Errorf("stored are %q, want abcd", got)
	}
	p = p.restart()
	p.post(t.parse(now(), voteOf(id, "d"), voteOf(id, "e"))...)
	if got := p.eventIDs(id); got != "abcde" {
		t.Errorf("after a restart, stored are %q, want abcde", got)
	}
	plain := finishOf(id, now())
	p.post(t.parse(now(), plain, plain)...)
	if record, _ := p.session(id); record.Head.Events != 7 {
		t.Errorf("%d events, want 7: two without an id are no repeats", record.Head.Events)
	}
}

// The same id in two sessions is no repeat.
func repeatsAreOfASession(t *T) {
	p := t.start()
	one, two := uuid.New(), uuid.New()
	t.same(p.post(t.parse(now(), voteOf(one, "a"), voteOf(two, "a"))...).Duplicates, 0, "repeats in two sessions that have none")
	t.same(p.post(t.parse(now(), voteOf(one, "a"), voteOf(two, "b"), voteOf(two, "a"))...).Duplicates, 2, "repeats in two sessions")
	p.post(t.parse(now(), voteOf(one, "b"))...)
	for _, id := range []uuid.UUID{one, two} {
		if got := p.eventIDs(id); got != "ab" {
			t.Errorf("a session has %q, want ab", got)
		}
	}
}

// A request of repeats alone leaves the session as it was, and leads to nothing.
func repeatsChangeNothing(t *T) {
	p := t.start()
	id := uuid.New()
	p.post(t.parse(now().Add(-time.Hour), voteOf(id, "a"), voteOf(id, "b"))...)
	before, _ := p.session(id)
	p.hook(sendsIncomplete)
	done := p.post(t.parse(now(), voteOf(id, "b"), voteOf(id, "a"))...)
	after, deliveries := p.session(id)
	t.same(after, before, "the session after repeats")
	t.same(done.Duplicates, 2, "repeats, and nothing else")
	if len(deliveries)+len(done.Queued)+len(done.Claimed) > 0 {
		t.Errorf("repeats have led to %d deliveries, %+v", len(deliveries), done)
	}
}

// Each trigger that Admit decides on becomes a scheduled delivery, and nothing else does.
func triggersBecomeDeliveries(t *T) {
	p := t.start()
	all := p.hook(inAnHour, sendsIncomplete)
	all.Name = "changed"
	all = p.change(engine.WebhookChange{Webhook: all}).Webhook
	other, off := p.hook(forPoll), p.hook(inactive)
	p.hook(operations)
	before := now()
	v := visit{unfinished: true}.complete()
	p.post(v.events(t)...)
	p.post(t.parse(now(), finishOf(v.id, v.at))...)
	after := now()
	record, deliveries := p.session(v.id)
	kinds := make(map[engine.Kind]engine.Delivery)
	for _, d := range deliveries {
		kinds[d.Kind] = d
		if d.ID.Version() != 7 {
			t.Errorf("its id is %s, want a UUIDv7", d.ID)
		}
		if d.CreatedAt.Before(before) || d.CreatedAt.After(after) {
			t.Errorf("it was made at %v, want between %v and %v", d.CreatedAt, before, after)
		}
		want := engine.Delivery{ID: d.ID, WebhookID: all.ID, WebhookRevision: all.Revision, SessionID: v.id, ContentID: v.content, Kind: d.Kind,
			Status: engine.StatusScheduled, CreatedAt: d.CreatedAt, DueAt: v.at.Add(time.Hour), NextAttemptAt: v.at.Add(time.Hour)}
		if d.Kind == engine.KindIncomplete {
			want.AsOf = want.DueAt
		}
		t.same(d, want, "a new delivery")
		if record.Head.DeliveryOf(all.ID, d.Kind) != d.ID {
			t.Errorf("the head does not name delivery %s", d.ID)
		}
	}
	if len(kinds) != 2 || len(deliveries) != 2 || kinds[engine.KindTest].ID != uuid.Nil {
		t.Errorf("the session has led to %d deliveries of %d kinds, want complete and incomplete", len(deliveries), len(kinds))
	}
	p.visit(visit{content: poll})
	for id, want := range map[uint32]int64{all.ID: 3, other.ID: 1, off.ID: 0} {
		if got := p.stats(engine.Webhook{ID: id}, now()).Scheduled; got != want {
			t.Errorf("webhook %d has %d scheduled, want %d", id, got, want)
		}
	}
}

// However often a session finishes, and whoever says so at once, a webhook gets one delivery of a kind.
func atMostOneOfAKind(t *T) {
	p := t.start()
	w := p.hook(sendsIncomplete)
	v := visit{unfinished: true}.complete()
	var posts []func()
	for i := range 8 {
		posts = append(posts, func() {
			events := visit{id: v.id, at: v.at, unfinished: i%2 == 0}.events(t)
			if _, err := p.AppendEvents(t.Context(), engine.NewAppend(events, now())); err != nil {
				t.Errorf("AppendEvents: %v", err)
			}
		})
	}
	parallel(posts...)
	p.post(t.parse(now(), finishOf(v.id, v.at))...)
	p = p.restart()
	p.post(t.parse(now(), finishOf(v.id, v.at.Add(time.Second)))...)
	record, deliveries := p.session(v.id)
	n := make(map[engine.Kind]int)
	for _, d := range deliveries {
		n[d.Kind]++
	}
	if n[engine.KindComplete] != 1 || n[engine.KindIncomplete] > 1 || record.Head.Events != 8*2+4+2 {
		t.Errorf("%d events have led to %v, want one complete and one incomplete at the most", record.Head.Events, n)
	}
	if s := p.stats(w, now()); s.Scheduled != int64(len(deliveries)) {
		t.Errorf("%d are scheduled, want %d", s.Scheduled, len(deliveries))
	}
}

// Queued names the lane and the time of each delivery that is not claimed.
func appendTellsQueued(t *T) {
	p := t.start()
	one, two := p.hook(inAnHour), p.hook()
	v, w := visit{}.complete(), visit{content: poll, at: now().Add(-2 * time.Hour)}.complete()
	done := p.post(slices.Concat(v.events(t), w.events(t))...)
	if len(done.Claimed) > 0 {
		t.Errorf("%d are claimed although no lane is open", len(done.Claimed))
	}
	t.queued(done.Queued, []engine.Queued{{Lane: lane(one), At: v.at.Add(time.Hour)}, {Lane: lane(two), At: v.at},
		{Lane: lane(one), At: w.at.Add(time.Hour)}, {Lane: lane(two), At: w.at}})
}

// queued compares what was put into lanes, in any order.
func (t *T) queued(got, want []engine.Queued) {
	t.Helper()
	show := func(list []engine.Queued) []string {
		var all []string
		for _, q := range list {
			q.At = q.At.UTC()
			all = append(all, text(q))
		}
		slices.Sort(all)
		return all
	}
	t.same(show(got), show(want), "what was put into lanes")
}

package storetest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

var sessionsRules = []Rule{
	{Name: "sessions/filters", check: sessionsFilter},
	{Name: "sessions/newest first", check: sessionsNewestFirst},
	{Name: "sessions/bounds are inclusive", check: sessionsBounds},
	{Name: "sessions/cursor goes on while sessions begin", check: sessionsGoOn},
	{Name: "sessions/what is no cursor is refused", check: sessionsRefuseCursor},
}

var personRules = []Rule{
	{Name: "erase/a person", check: erasesPerson},
	{Name: "erase/a person's deliveries of expired sessions", check: erasesPersonsLeftovers},
	{Name: "erase/a dry run", check: eraseDryRun},
	{Name: "erase/outlives the process", check: eraseOutlives},
	{Name: "erase/for a request with a key", check: eraseOnce},
}

// Who is searched in the rules. He is visitor 4711.
const (
	hisEmail = "jane@example.com"
	hisPhone = "905321234567"
	him      = 4711
)

// persons are the ways to search him.
func persons() map[string]engine.Person {
	return map[string]engine.Person{"email": {Email: hisEmail}, "phone": {Phone: hisPhone}, "visitor": {Visitor: new(int64(him))}}
}

func erasureOf(p engine.Person) engine.Erasure {
	return engine.Erasure{Visitor: p.Visitor, Email: p.Email, Phone: p.Phone}
}

// traced is a session with the ways by which he is found in it.
type traced struct {
	id    uuid.UUID
	found string
}

// traces are the events that have him, and by which ways he is found in each.
var traces = []struct{ event, found string }{
	{`"type":"lead","lead":{"email":" Jane@Example.COM"}`, "email"},
	{`"type":"lead","lead":{"comment":"\"","email":"jane\u0040example.com"}`, "email"},
	{`"type":"lead","lead":{"phone":"+90 (532) 123-45-67"}`, "phone"},
	{`"type":"lead","lead":{"phone":"00905321234567","name":"\u00c7"}`, "phone"},
	{`"type":"lead","lead":{"user_id":4711}`, "visitor"},
	{`"type":"vote","question_id":1,"answer_id":1,"poltio_user_id":4711`, "visitor"},
	{`"type":"lead","lead":{"user_id":4711,"email":"jane@example.com","phone":"905321234567"}`, "email phone visitor"},
	{`"type":"lead","lead":{"user_id":47110,"email":"jane@example.com.tr","phone":"05321234567","comment":"jane@example.com"}`, ""},
	{`"type":"vote","question_id":4711,"answer_id":4711,"question":"email","answer":"jane@example.com"`, ""},
}

// trace stores a session for each of traces, of visitor 7, and one of his own. All of them have finished.
func (p *process) trace() (all []traced) {
	p.t.Helper()
	add := func(v visit, event, found string) {
		v = v.complete()
		p.post(v.events(p.t)...)
		if event != "" {
			p.post(p.t.parse(now(), fmt.Sprintf(`{"session_id":%q,%s}`, v.id, event))...)
		}
		all = append(all, traced{v.id, found})
	}
	for _, tr := range traces {
		add(visit{}, tr.event, tr.found)
	}
	add(visit{visitor: him}, "", "visitor")
	return all
}

// listSessions returns the ids of all sessions that a query lists.
func (p *process) listSessions(q engine.SessionQuery, limit int) (ids []uuid.UUID) {
	p.t.Helper()
	for _, h := range p.heads(q, limit) {
		ids = append(ids, h.ID)
	}
	return ids
}

func (p *process) heads(q engine.SessionQuery, limit int) (all []engine.SessionHead) {
	p.t.Helper()
	q.Limit = limit
	for range 10_000 {
		page, err := p.Sessions(p.t.Context(), q)
		p.t.ok(err, "Sessions")
		if len(page.Items) > limit {
			p.t.Errorf("a page has %d sessions, its limit is %d", len(page.Items), limit)
		}
		all = append(all, page.Items...)
		if q.Cursor = page.NextCursor; q.Cursor == "" {
			return all
		}
	}
	p.t.Fatalf("Sessions comes to no end")
	return nil
}

// wantSessions reports a list that has other sessions than are wanted, in any order.
func (p *process) wantSessions(q engine.SessionQuery, want []uuid.UUID, what string) {
	p.t.Helper()
	want = slices.Clone(want)
	slices.SortFunc(want, compareIDs)
	for _, limit := range []int{1, 3, 1000} {
		got := p.listSessions(q, limit)
		slices.SortFunc(got, compareIDs)
		if !slices.Equal(got, want) {
			p.t.Errorf("%s, %d a page: %d sessions, want %d, or others", what, limit, len(got), len(want))
		}
	}
}

// Each field chooses, also beside others, whatever the size of the pages, and also after a restart.
func sessionsFilter(t *T) {
	p := t.start()
	p.hook()
	all := p.trace()
	open := visit{unfinished: true, content: poll}.complete()
	p.post(open.events(t)...)
	for range 2 {
		every := []uuid.UUID{open.id}
		for _, s := range all {
			every = append(every, s.id)
		}
		p.wantSessions(engine.SessionQuery{}, every, "all")
		p.wantSessions(engine.SessionQuery{State: engine.SessionIncomplete}, every[:1], "incomplete ones")
		p.wantSessions(engine.SessionQuery{State: engine.SessionComplete}, every[1:], "complete ones")
		p.wantSessions(engine.SessionQuery{ContentID: poll}, every[:1], "of a content")
		p.wantSessions(engine.SessionQuery{ContentID: poll, State: engine.SessionComplete}, nil, "of a content, complete")
		for name, person := range persons() {
			var found []uuid.UUID
			for _, s := range all {
				if strings.Contains(s.found, name) {
					found = append(found, s.id)
				}
			}
			q := engine.SessionQuery{Visitor: person.Visitor, Email: person.Email, Phone: person.Phone}
			p.wantSessions(q, found, "by "+name)
			q.State = engine.SessionIncomplete
			p.wantSessions(q, nil, "incomplete ones by "+name)
		}
		p.wantSessions(engine.SessionQuery{Email: hisEmail, Phone: hisPhone}, []uuid.UUID{all[6].id}, "by e-mail and phone")
		p.wantSessions(engine.SessionQuery{Email: "nobody@example.com"}, nil, "of nobody")
		p = p.restart()
	}
	record, _ := p.session(all[0].id)
	for _, h := range p.heads(engine.SessionQuery{Email: hisEmail}, 10) {
		if record.Head.Deliveries = nil; h.ID == all[0].id {
			t.same(h, record.Head, "a session in a list")
		}
	}
}

// The sessions that began last come first.
func sessionsNewestFirst(t *T) {
	p := t.start()
	var want []uuid.UUID
	for i := range 20 {
		v := visit{received: now().Add(time.Duration(i) * time.Second)}.complete()
		p.post(v.events(t)...)
		want = append(want, v.id)
	}
	slices.Reverse(want)
	for _, limit := range []int{1, 7, 1000} {
		if got := p.listSessions(engine.SessionQuery{}, limit); !slices.Equal(got, want) {
			t.Errorf("%d a page: the order is %v, want %v", limit, got, want)
		}
	}
}

// Since and Until bound the receipt of the first event, both inclusive.
func sessionsBounds(t *T) {
	p := t.start()
	begin := now().Add(-100 * time.Hour).Truncate(time.Microsecond)
	var ids []uuid.UUID
	at := func(i int) time.Time { return begin.Add(time.Duration(i) * 3 * time.Hour) }
	for i := range 10 {
		v := visit{received: at(i), at: at(i)}.complete()
		p.post(v.events(t)...)
		p.post(t.parse(now(), voteOf(v.id, "later"))...) // what comes later does not count
		ids = append(ids, v.id)
	}
	for _, b := range [][2]int{{0, 9}, {3, 6}, {4, 4}, {9, 9}, {6, 3}} {
		var want []uuid.UUID
		if b[0] <= b[1] {
			want = ids[b[0] : b[1]+1]
		}
		p.wantSessions(engine.SessionQuery{Since: at(b[0]), Until: at(b[1])}, want, fmt.Sprint("from and to ", b))
	}
	p.wantSessions(engine.SessionQuery{Since: at(3).Add(1)}, ids[4:], "after one")
	p.wantSessions(engine.SessionQuery{Until: at(3).Add(-1)}, ids[:3], "before one")
	p.wantSessions(engine.SessionQuery{Since: now().Add(time.Hour)}, nil, "in the future")
}

// Pages go on where the one before has ended: what begins in between does not bring anything twice, and hides nothing.
func sessionsGoOn(t *T) {
	p := t.start()
	all := p.trace()
	seen := make(map[uuid.UUID]int)
	q := engine.SessionQuery{Limit: 3}
	for range 1000 {
		page, err := p.Sessions(t.Context(), q)
		t.ok(err, "Sessions")
		for _, h := range page.Items {
			seen[h.ID]++
		}
		if q.Cursor = page.NextCursor; q.Cursor == "" {
			break
		}
		p.post(visit{}.events(t)...)
	}
	for _, s := range all {
		if seen[s.id] != 1 {
			t.Errorf("a session was listed %d times", seen[s.id])
		}
	}
}

// A cursor that is none of the list is an input error.
func sessionsRefuseCursor(t *T) {
	p := t.start()
	p.hook()
	for range 3 {
		p.visit(visit{})
	}
	page, err := p.Deliveries(t.Context(), engine.DeliveryQuery{Limit: 1})
	t.ok(err, "Deliveries")
	for _, cursor := range []string{"!", "nonsense", "A", strings.Repeat("A", 300), page.NextCursor} {
		if _, err := p.Sessions(t.Context(), engine.SessionQuery{Limit: 10, Cursor: cursor}); !isInput(err) {
			t.Errorf("%q: got the error %v, want an InputErrors", cursor, err)
		}
	}
}

// All sessions in which a person occurs go, with their deliveries, and nobody else's.
func erasesPerson(t *T) {
	for name, person := range persons() {
		p := t.start()
		p.hook()
		all := p.trace()
		var want engine.Erased
		for _, s := range all {
			if strings.Contains(s.found, name) {
				record, deliveries := p.session(s.id)
				want.Add(engine.Erased{Sessions: 1, Events: int64(record.Head.Events), Deliveries: int64(len(deliveries))})
			}
		}
		total, deleted := p.erase(erasureOf(person))
		if total != want || len(deleted) != int(want.Deliveries) {
			t.Errorf("by %s: erased are %+v, and %d are named, want %+v", name, total, len(deleted), want)
		}
		for _, s := range all {
			if strings.Contains(s.found, name) {
				p.goneSession(s.id, nil)
			} else if _, deliveries := p.session(s.id); len(deliveries) != 1 {
				t.Errorf("by %s: of somebody else %d deliveries are left", name, len(deliveries))
			}
		}
		p.close()
		t.open = t.backend.New(t)
	}
}

// A delivery that has outlived its session is found by what its payload says.
func erasesPersonsLeftovers(t *T) {
	for name, person := range persons() {
		p := t.start()
		w := p.hook()
		payloads := map[string]string{
			`{"poltio_user_id":7,"leads":[{"user_id":7,"phone":null,"email":"Jane@Example.com "}]}`:                       "email",
			`{"poltio_user_id":7,"answers":[{"question":"\"\u0007"}],"leads":[{"user_id":4711,"phone":"+905321234567"}]}`: "phone visitor",
			`{"poltio_user_id":4711,"leads":[]}`: "visitor",
			`{"poltio_user_id":7,"answers":[{"question":"jane@example.com","question_id":4711}],"leads":[{"email":null,"x":"email"}]}`: "",
		}
		found := make(map[uuid.UUID]string)
		for payload, ways := range payloads {
			p.visit(visit{})
			d := p.frozen(p.claimOne(lane(w)).Delivery, payload)
			p.record(engine.AttemptRecord{Delivery: d, Attempt: good(), Next: delivered})
			found[d.ID] = ways
		}
		p.maintain(now().Add(time.Hour), engine.Retention{Sessions: time.Minute, Deliveries: forever.Deliveries})
		_, deleted := p.erase(erasureOf(person))
		for id, ways := range found {
			goes := slices.ContainsFunc(deleted, func(d engine.Delivery) bool { return d.ID == id })
			if goes != strings.Contains(ways, name) {
				t.Errorf("by %s: one that is found by %q is erased: %t", name, ways, goes)
			}
			if goes {
				p.gone(id, "erased")
			} else if p.status(id) != engine.StatusDelivered {
				t.Errorf("by %s: somebody else's has changed", name)
			}
		}
		p.close()
		t.open = t.backend.New(t)
	}
}

// A dry run counts what an erasure erases, and erases nothing.
func eraseDryRun(t *T) {
	whats := []engine.Erasure{{}} // a session
	for _, person := range persons() {
		whats = append(whats, erasureOf(person))
	}
	for _, what := range whats {
		p := t.start()
		w := p.hook()
		p.finished(w, visit{visitor: him}, engine.StatusFailed)
		p.maintain(now().Add(time.Hour), engine.Retention{Sessions: time.Minute, Deliveries: forever.Deliveries})
		all := p.trace()
		if what == (engine.Erasure{}) {
			what.SessionID = all[0].id
		}
		var counted [2]engine.Erased
		for i := range counted {
			dry, deleted := what, []engine.Delivery(nil)
			dry.DryRun = true
			if counted[i], deleted = p.erase(dry); len(deleted) > 0 {
				t.Errorf("%d deliveries are named by a dry run", len(deleted))
			}
		}
		p = p.restart()
		if m := p.maintain(now(), forever); len(m.Erasures) > 0 {
			t.Errorf("a dry run has left an erasure")
		}
		if total, _ := p.erase(what); total.Sessions == 0 || total != counted[0] || total != counted[1] {
			t.Errorf("erased are %+v, dry runs have counted %+v", total, counted)
		}
		p.close()
		t.open = t.backend.New(t)
	}
}

// An erasure whose process has ended is given to the next one, once, and goes on from there.
func eraseOutlives(t *T) {
	p := t.start()
	p.hook()
	var events []engine.Event
	for range 250 {
		events = append(events, visit{visitor: him}.events(t)...)
	}
	p.post(events...)
	p.visit(visit{})
	what := visitor(him)
	step, err := p.Erase(t.Context(), what, "")
	t.ok(err, "Erase")
	total := step.Erased
	for step.Next != "" && total.Sessions == 0 {
		step, err = p.Erase(t.Context(), what, step.Next)
		t.ok(err, "Erase")
		total.Add(step.Erased)
	}
	if m := p.maintain(now(), forever); len(m.Erasures) > 0 {
		t.Errorf("an erasure of this process is given to it")
	}
	p = p.restart()
	left := p.maintain(now(), forever).Erasures
	if len(left) != 1 {
		t.Fatalf("%d erasures are left, want 1", len(left))
	}
	t.same(left[0].Target, what, "the erasure")
	t.same(left[0].Erased, total, "what it has erased")
	if m := p.maintain(now(), forever); len(m.Erasures) > 0 {
		t.Errorf("an erasure is given twice")
	}
	p = p.restart() // it is lost with the process that was given it no more than with the first
	left = p.maintain(now(), forever).Erasures
	if len(left) != 1 {
		t.Fatalf("%d erasures are left, want 1", len(left))
	}
	for place := left[0].Cursor; place != ""; place = step.Next {
		step, err = p.Erase(t.Context(), left[0].Target, place)
		t.ok(err, "Erase")
		total.Add(step.Erased)
	}
	if want := (engine.Erased{Sessions: 250, Events: 750, Deliveries: 250}); total != want {
		t.Errorf("erased are %+v, want %+v", total, want)
	}
	p.wantSessions(engine.SessionQuery{Visitor: what.Visitor}, nil, "the visitor's")
	if m := p.restart().maintain(now(), forever); len(m.Erasures) > 0 {
		t.Errorf("an erasure that is complete is given to the next process")
	}
}

// An erasure with a key is remembered from its beginning, with its counts when it is complete, also by another process. It begins once.
func eraseOnce(t *T) {
	p := t.start()
	p.hook()
	v := visit{visitor: him}.complete()
	p.visit(v)
	o := once(1, now())
	what := visitor(him)
	what.Once = o
	step, err := p.Erase(t.Context(), what, "")
	t.ok(err, "Erase")
	p.wantDone(o, engine.Done{}, "while it goes on")
	_, err = p.Erase(t.Context(), what, "")
	t.is(err, engine.ErrRepeated, "a repeated erasure")
	p = p.restart()
	p.wantDone(o, engine.Done{}, "after a restart")
	left := p.maintain(now(), forever).Erasures
	if len(left) != 1 {
		t.Fatalf("%d erasures are left, want 1", len(left))
	}
	for place := left[0].Cursor; place != ""; place = step.Next {
		step, err = p.Erase(t.Context(), left[0].Target, place)
		t.ok(err, "Erase")
	}
	p.wantDone(o, engine.Done{Erased: &engine.Erased{Sessions: 1, Events: 3, Deliveries: 1}}, "at the end")
	dry := visitor(him)
	dry.DryRun, dry.Once = true, once(2, now())
	p.erase(dry)
	p.forgotten(dry.Once, "a dry run")
}

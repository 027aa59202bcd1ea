package engine_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
	"hookbolt/engine/transform"
)

// This file is the model of what the programs of a webhook make of its payloads, written beside each program and without jq, and of what
// becomes of deliveries that they filter or cannot build.

// simView is what the programs of the simulation read of a payload.
type simView struct {
	session, at, who string
	complete         bool
	emails           []string // of the leads that have one, as they stand in JSON
	leads, answers   int      // how many; 0 where the payload has none
}

func viewOf(payload string) simView {
	var p struct {
		SessionID string            `json:"session_id"`
		EventTime json.Number       `json:"event_time"`
		Visitor   json.Number       `json:"poltio_user_id"`
		Complete  bool              `json:"complete_session"`
		Answers   []json.RawMessage `json:"answers"`
		Leads     []struct {
			Email *string `json:"email"`
		} `json:"leads"`
	}
	if err := json.Unmarshal([]byte(payload), &p); err != nil {
		panic(err) // the model's own
	}
	v := simView{session: p.SessionID, at: p.EventTime.String(), who: p.Visitor.String(), complete: p.Complete, leads: len(p.Leads), answers: len(p.Answers)}
	for _, l := range p.Leads {
		if l.Email != nil {
			v.emails = append(v.emails, *l.Email)
		}
	}
	return v
}

// visitor is the remainder of the visitor's number.
func (v *simView) visitor(by int) int {
	n, _ := strconv.Atoi(v.who)
	return n % by
}

// simBuilt is what becomes of a payload: a body with its content type and the end of its URL, or nothing, because it was filtered or because a
// program has failed.
type simBuilt struct {
	body, contentType, target string
	filtered                  bool
	failed                    string // the program
}

// simFilter is a filter, and its model: whether it lets a payload through, or fails.
type simFilter struct {
	text   string
	passes func(v *simView) (passes, fails bool)
}

var simFilters = []simFilter{
	{"", func(*simView) (bool, bool) { return true, false }},
	{".complete_session", func(v *simView) (bool, bool) { return v.complete, false }},
	{".leads | length > 0", func(v *simView) (bool, bool) { return v.leads > 0, false }},
	{"(.answers | length) > 1 or null", func(v *simView) (bool, bool) { return v.answers > 1, false }},
	{"select(.complete_session)", func(v *simView) (bool, bool) { return v.complete, false }},
	{`if .poltio_user_id % 5 == 3 then error("no such visitor") else (.leads | length) != 1 end`, func(v *simView) (bool, bool) { return v.leads != 1, v.visitor(5) == 3 }},
	{"if (.leads | length) > 1 then .leads + 1 else true end", func(v *simView) (bool, bool) { return true, v.leads > 1 }},
	{simBroken, func(*simView) (bool, bool) { return false, true }},
}

// simBroken works with the sample only.
const simBroken = `.session_id == "22ffdf18-1035-4e56-baa2-8327e3af5242" or error({code: 7})`

// simTransform is a transform with its content type, "" for the default, and its model. An empty body means that it gives nothing.
type simTransform struct {
	text, contentType string
	body              func(v *simView) (body string, fails bool)
}

var simTransforms = []simTransform{
	{`{text: "\(.session_id) \(.event_time)", leads: "\(.leads | length) leads"}`, "", func(v *simView) (string, bool) {
		return fmt.Sprintf(`{"leads":"%d leads","text":"%s %s"}`, v.leads, v.session, v.at), false
	}},
	{"{session_id, complete_session, event_time, who: .poltio_user_id, emails: [.leads[]?.email // empty]}", "", func(v *simView) (string, bool) {
		emails, _ := json.Marshal(append([]string{}, v.emails...))
		return fmt.Sprintf(`{"complete_session":%t,"emails":%s,"event_time":%s,"session_id":"%s","who":%s}`, v.complete, emails, v.at, v.session, v.who), false
	}},
	{`"session \(.session_id) at \(.event_time), \(.answers | length) answers"`, "text/plain; charset=utf-8", func(v *simView) (string, bool) {
		return fmt.Sprintf("session %s at %s, %d answers", v.session, v.at, v.answers), false
	}},
	{`{session_id, at: .event_time, who: .poltio_user_id, email: [.leads[]?.email // empty]}`, "application/x-www-form-urlencoded", func(v *simView) (string, bool) {
		var emails strings.Builder
		for _, e := range v.emails {
			emails.WriteString("&email=" + url.QueryEscape(e))
		}
		return fmt.Sprintf("at=%s%s&session_id=%s&who=%s", v.at, emails.String(), v.session, v.who), false
	}},
	{"if .complete_session then {session_id, event_time, id: 9007199254740993} else empty end", "application/vnd.a+json", func(v *simView) (string, bool) {
		if !v.complete {
			return "", false
		}
		return fmt.Sprintf(`{"event_time":%s,"id":9007199254740993,"session_id":"%s"}`, v.at, v.session), false
	}},
	{`{session_id, event_time, x: (if .poltio_user_id % 4 == 1 then 1 | .foo else "ok" end)}`, "", func(v *simView) (string, bool) {
		return fmt.Sprintf(`{"event_time":%s,"session_id":"%s","x":"ok"}`, v.at, v.session), v.visitor(4) == 1
	}},
}

// simURLValue gives the values of simNames, and its model is the end of the URL.
type simURLValue struct {
	text   string
	target func(v *simView) (target string, fails bool)
}

// simNames is the end of the URL of a webhook with url_values.
const simNames = "/{at}?c={c}"

var simURLValues = []simURLValue{
	{"{at: .event_time, c: .complete_session}", func(v *simView) (string, bool) { return fmt.Sprintf("/%s?c=%t", v.at, v.complete), false }},
	{`{at: "at \(.event_time)", c: "x/y&\(.session_id)"}`, func(v *simView) (string, bool) {
		return fmt.Sprintf("/at%%20%s?c=x%%2Fy%%26%s", v.at, v.session), false
	}},
	{`{at: .event_time, c: (if .poltio_user_id % 6 == 5 then [] else 1 end)}`, func(v *simView) (string, bool) {
		return fmt.Sprintf("/%s?c=1", v.at), v.visitor(6) == 5
	}},
}

// simPrograms is the programs of a webhook. The zero value has none.
type simPrograms struct {
	filter    *simFilter
	transform *simTransform
	values    *simURLValue
}

// build is the model: what becomes of a payload.
func (p *simPrograms) build(payload string) simBuilt {
	v := viewOf(payload)
	b := simBuilt{body: payload, contentType: "application/json"}
	if p.filter != nil {
		switch passes, fails := p.filter.passes(&v); {
		case fails:
			return simBuilt{failed: "filter"}
		case !passes:
			return simBuilt{filtered: true}
		}
	}
	if t := p.transform; t != nil {
		b.contentType = cmp.Or(t.contentType, b.contentType)
		body, fails := t.body(&v)
		switch {
		case fails:
			return simBuilt{failed: "transform"}
		case body == "":
			return simBuilt{filtered: true}
		}
		b.body = body
	}
	if p.values != nil {
		target, fails := p.values.target(&v)
		if fails {
			return simBuilt{failed: "url_values"}
		}
		b.target = target
	}
	return b
}

// any reports whether there is a program.
func (p *simPrograms) any() bool { return *p != simPrograms{} }

// settings writes the programs as settings.
func (p *simPrograms) settings() string {
	program := func(text string) string {
		if text == "" {
			return "null"
		}
		b, _ := json.Marshal(text)
		return string(b)
	}
	text, contentType, filter, values := "", "", "", ""
	if p.filter != nil {
		filter = p.filter.text
	}
	if p.transform != nil {
		text, contentType = p.transform.text, p.transform.contentType
	}
	if p.values != nil {
		values = p.values.text
	}
	return fmt.Sprintf(`"filter":%s,"transform":%s,"url_values":%s,"content_type":%s`, program(filter), program(text), program(values), program(contentType))
}

// somePrograms invents programs of a webhook, or none where its URL has no names. s.rng is the caller's.
func (s *sim) somePrograms(names bool) (p simPrograms) {
	if n := s.rng.IntN(2 * len(simFilters)); n < len(simFilters) && simFilters[n].text != "" {
		p.filter = &simFilters[n]
	}
	if n := s.rng.IntN(2 * len(simTransforms)); n < len(simTransforms) {
		p.transform = &simTransforms[n]
	}
	if names { // its URL always needs values
		p.values = &simURLValues[s.rng.IntN(len(simURLValues))]
	}
	return p
}

// simNoWorker is how long no process can be started, in seconds, in one of so many spells.
const simNoWorker, simNoWorkerOf = 120, 40

// runPrograms stands for the worker processes: it takes time, or has none, as chance has it.
func (p *process) runPrograms(ctx context.Context, job transform.Job) (transform.Result, error) {
	var head struct {
		SessionID uuid.UUID `json:"session_id"`
	}
	s := p.s
	if err := json.Unmarshal(job.Payload, &head); err != nil {
		s.violate("programs are given what is no payload: %v", err)
	}
	if _, known := s.known.Load(head.SessionID); !known || p.crashed() { // the sample, within a call
		return transform.Eval(job)
	}
	now := time.Now()
	n := s.chance("program", job.Owner, head.SessionID, now.UnixNano())
	if s.chance("workers", now.Unix()/simNoWorker)%simNoWorkerOf == 0 && !s.drained() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.soft["builds without a worker"]++
		s.busy(s.hook(job.Owner), now.Add(simTrouble))
		return transform.Result{}, fmt.Errorf("%w: simulated", transform.ErrNoWorker)
	}
	if wait := time.Duration(n>>8%2500) * time.Millisecond; n%5 == 0 || s.slowPrograms.Load() {
		s.mu.Lock()
		s.soft["builds that take time"]++
		s.mark(simLane{job.Owner, false}, '[', 1)
		s.mu.Unlock()
		var err error
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		s.mu.Lock()
		s.mark(simLane{job.Owner, false}, ']', 1)
		s.busy(s.hook(job.Owner), time.Now())
		s.mu.Unlock()
		if err != nil {
			return transform.Result{}, err
		}
	}
	return transform.Eval(job)
}

// simTrouble is how long a lane waits at most after a build without a worker.
const simTrouble = 31 * time.Second

// busy notes that a lane may not send before that time because its programs could not be run before. s.mu is held.
func (s *sim) busy(h *simHook, until time.Time) {
	if h == nil || !until.After(h.busyUntil) {
		return
	}
	h.busyUntil = until
	s.markNext(h, 'w', until)
}

// ends takes note that a delivery has ended without a body. s.mu is held.
func (s *sim) ends(d *simDelivery, f *engine.Freeze, what string) {
	now := time.Now().UTC()
	if f.At.After(now) || now.Sub(f.At) > 4*time.Second+8**simSlow {
		s.violate("%s: ended at %v", what, f.At)
	}
	if d.asking || d.askedAt.Equal(now) || d.touched.Equal(now) {
		d.recheck = true // a call by hand, and which came first only the store knows
	}
	d.state, d.stateAt, d.parked, d.fuzzy, d.requeued, d.superseded = engine.StatusFiltered, f.At, f.BuildError != "", false, false, nil
	if d.parked {
		d.state = engine.StatusFailed
	}
	if !d.parked {
		d.builtFrom = f.Events
	}
	d.endedAt = now
	s.soft[map[bool]string{true: "parked", false: "filtered"}[d.parked]]++
}

// reopens holds that a filtered or parked delivery is built anew only after something has queued it again. s.mu is held.
func (s *sim) reopens(d *simDelivery, events int, what string) {
	if d.waits() || d.recheck || d.state != engine.StatusFiltered && !d.parked {
		return
	}
	if ss := s.session(d.session); d.state == engine.StatusFiltered && d.kind == engine.KindComplete {
		for _, i := range ss.unjudged {
			if i >= d.builtMax && ss.eventsIn(i) < events {
				h := s.hook(d.hook)
				s.again(d, ss.batches[i].sentAt.Add(time.Duration(h.delay)*time.Second))
				return
			}
		}
	}
	s.violate("%s: built anew, though it was %s", what, d.state)
}

// again queues a filtered delivery for what came late. s.mu is held.
func (s *sim) again(d *simDelivery, due time.Time) {
	now := time.Now().UTC()
	d.state, d.tries, d.parked, d.fuzzy, d.since = engine.StatusPending, 0, false, false, now
	d.dueAt, d.due, d.readyAt, d.firstDue = due, due, later(due, now), later(due, now)
	d.queued++
	s.soft["filtered and evaluated again"]++
}

// judgeFiltered holds what a request has made of a filtered complete delivery. s.mu is held.
func (s *sim) judgeFiltered(h *simHook, ss *simSession, d *simDelivery, i int, unsure bool) {
	e, _, _, err := s.world.Delivery(context.Background(), d.ID())
	if err != nil {
		s.found(simLost, "%+v: filtered: %v", d.simKey, err)
		return
	}
	shape := h.shapes[len(h.shapes)-1]
	content := func(requests int) string { return ss.payload(requests, engine.KindComplete, time.Time{}, shape, 0) }
	due := ss.batches[i].sentAt.Add(time.Duration(h.delay) * time.Second)
	switch changes := content(i) != content(i+1); {
	case unsure || !changes && ss.bytes > 32<<10: // of larger sessions anything counts as a change
		if e.Status.Waiting() {
			s.again(d, e.DueAt)
			d.due, d.readyAt = e.NextAttemptAt, later(e.NextAttemptAt, time.Now())
		}
	case !changes || !h.matches(ss.content):
	case !e.Status.Waiting():
		s.found(simLost, "%+v: %s, and not evaluated again for what came late", d.simKey, e.Status)
	case !e.DueAt.Equal(due) || !e.NextAttemptAt.Equal(due):
		s.found(simOff, "%+v: filtered, evaluated again at %v, the model says %v", d.simKey, e.NextAttemptAt, due)
	default:
		s.again(d, due)
	}
}

// observeBuilt counts what a webhook's programs have come to: the fifth failure in a row pauses it. s.mu is held.
func (s *sim) observeBuilt(h *simHook, f *engine.Freeze) {
	w, now := f.Webhook, time.Now().UTC()
	if w == nil || w.Filter == nil && w.Transform == nil && w.URLValues == nil || h.gone {
		return
	}
	build := buildOf(w)
	row := &h.row
	if row.build != build {
		*row = simRow{build: build, at: now, worked: row.at.Equal(now), learn: row.learn} // so that which came last is not known
	}
	if !row.at.Equal(now) {
		*row = simRow{build: build, at: now, leastBefore: row.least, mostBefore: row.most, learn: row.learn}
	}
	if f.BuildError == "" {
		row.worked = true
	} else {
		row.fails++
	}
	row.least, row.most = row.leastBefore+row.fails, row.mostBefore+row.fails
	switch {
	case row.worked && row.fails == 0:
		row.least, row.most = 0, 0
	case row.worked: // in which order they were counted only the engine knows
		row.least = 0
	}
	if row.most < 5 {
		return
	}
	current := s.process.Webhooks().Get(h.id)
	switch {
	case row.least < 5, h.changedAt.Equal(now) || h.resumedAt.Equal(now):
		row.learn, row.least, row.most = true, 0, 4
		s.mark(simLane{h.id, false}, '(', 0)
	case current == nil || buildOf(current) != build || !current.ResumedAt.Equal(w.ResumedAt): // mended meanwhile
		*row = simRow{build: build, at: now, learn: row.learn}
	default:
		*row = simRow{build: build, at: now, learn: row.learn}
		if !h.paused {
			s.pausedByPrograms(h)
		}
	}
}

func (s *sim) pausedByPrograms(h *simHook) {
	h.paused, h.heldAt, h.pausedBy, h.byLane, h.pauseUnsure = true, time.Now(), "its programs have failed for 5 deliveries in a row", false, true
	s.mark(simLane{h.id, false}, 'h', 0)
	s.soft["paused by programs"]++
}

// simRow is how many deliveries in a row a webhook's programs have failed for.
type simRow struct {
	build                   string
	least, most             int       // failures
	at                      time.Time // of the last delivery; what happens in an instant has no order
	leastBefore, mostBefore int       // before that instant
	fails                   int       // in it
	worked                  bool      // something was built in it
	learn                   bool      // the webhook may be paused
}

func buildOf(w *engine.Webhook) string {
	text := func(p *string) string {
		if p == nil {
			return ""
		}
		return *p
	}
	return strings.Join([]string{text(w.Filter), text(w.Transform), text(w.URLValues), w.ContentType, w.URL}, "\n")
}

// learnPause learns whether a webhook was paused by its programs, where only the engine knows. s.mu is held.
func (s *sim) learnPause(h *simHook, w *engine.Webhook) {
	h.pauseUnsure = false
	if !h.row.learn {
		return
	}
	if h.row.learn = !time.Now().After(h.row.at); !h.row.learn {
		s.mark(simLane{h.id, false}, ')', 0)
	}
	if w.Paused && !h.paused && strings.Contains(w.PauseReason, "its programs have failed") {
		s.pausedByPrograms(h)
		h.pauseUnsure = false
	}
}

// reprogram changes the programs of a webhook.
func (s *sim) reprogram(h *simHook, p simPrograms) {
	s.mu.Lock()
	was := h.shapes[len(h.shapes)-1]
	shape := was
	shape.from, shape.programs = time.Now().UTC(), p
	at := len(h.shapes) - 1
	h.shapes = append(h.shapes, shape)
	h.changedAt = shape.from
	parked, sure := int64(0), !s.behind() && *simSlow == 0
	s.soft["programs changed"]++
	s.mu.Unlock()
	synctest.Wait()
	if s.rng.IntN(2) == 0 { // hold the answer against the store, now that nothing moves
		for _, d := range s.list(engine.DeliveryQuery{WebhookID: h.id, Status: engine.StatusFailed}) {
			if d.Parked() {
				parked++
			}
		}
	} else {
		sure = false
	}
	s.mu.Lock()
	s.probeNow(h, false)
	s.mu.Unlock()
	patch, err := engine.ParseWebhookPatch([]byte("{" + p.settings() + "}"))
	s.check(err)
	done, err := s.UpdateWebhook(s.ctx, h.id, patch)
	if err != nil {
		s.violate("change of the programs of webhook %d to %s: %v", h.id, p.settings(), err)
	}
	if want := parked * map[bool]int64{true: 1}[was.programs != p]; sure && done.Parked != want {
		s.violate("change of the programs of webhook %d: %d are said to be parked, %d are", h.id, done.Parked, want)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h.shapes[at].to = time.Now().UTC()
	s.probeNow(h, true)
}

// interfere changes the programs of a webhook, and lets an event come, while one of its programs runs.
func (s *sim) interfere() {
	var hooks []*simHook
	for _, h := range s.alive() {
		if h.programmed && h.active && h.delay < 120 && h.yieldedAt.IsZero() {
			hooks = append(hooks, h)
		}
	}
	if len(hooks) == 0 {
		return
	}
	h := hooks[s.rng.IntN(len(hooks))]
	s.slowPrograms.Store(true)
	defer s.slowPrograms.Store(false)
	s.mu.Lock()
	ss := s.newSession()
	if h.content != nil {
		ss.content = *h.content
	}
	ss.startAt = time.Now().UTC()
	events := []*simEvent{s.eventOf(ss, ss.startAt, simStart), s.eventOf(ss, ss.startAt, simVote), s.eventOf(ss, ss.startAt, simFinish)}
	s.soft["interferences"]++
	s.mu.Unlock()
	if !s.send(slices.Repeat([]*simSession{ss}, len(events)), events) {
		return
	}
	s.mu.Lock()
	due := ss.startAt.Add(time.Duration(h.delay) * time.Second)
	if d := s.deliveries[simKey{hook: h.id, session: ss.id, kind: engine.KindComplete}]; d != nil {
		due = d.due
	}
	s.mu.Unlock()
	time.Sleep(time.Until(due) + time.Duration(s.rng.Int64N(int64(time.Second))))
	if s.rng.IntN(3) > 0 {
		s.reprogram(h, s.somePrograms(h.names))
	}
	synctest.Wait()
	s.mu.Lock()
	ok := s.goesOn(ss, time.Now())
	late := s.eventOf(ss, time.Now().UTC(), simLead)
	s.mu.Unlock()
	if ok {
		s.send([]*simSession{ss}, []*simEvent{late})
	}
	time.Sleep(time.Duration(s.rng.Int64N(int64(5 * time.Second))))
}

// timeInBody finds the time in which a body was prepared, wherever a program has put it.
var timeInBody = regexp.MustCompile(`(?:"event_time":|at=| at |[0-9a-f]{12} )([0-9]{9,})`)

func eventTimeOf(body string) (int64, bool) {
	m := timeInBody.FindStringSubmatch(body)
	if m == nil {
		return 0, false
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	return n, err == nil
}

// checkBuilt holds what was made of a session, at that time and from so many events, against the programs of its webhook. s.mu is held.
func (s *sim) checkBuilt(d *simDelivery, f *engine.Freeze) {
	got := simBuilt{filtered: f.Filtered}
	if f.BuildError != "" {
		got.failed, _, _ = strings.Cut(f.BuildError, ":")
		got.failed, _, _ = strings.Cut(got.failed, ",")
	}
	if f.Payload != nil {
		got.body, got.contentType = string(f.Payload), cmp.Or(f.ContentType, "application/json")
		if values := f.URLValues.Map(); values != nil {
			escaped := func(name string) string { return strings.ReplaceAll(url.QueryEscape(values[name]), "+", "%20") }
			got.target = strings.NewReplacer("{at}", escaped("at"), "{c}", escaped("c")).Replace(simNames)
		}
	}
	ss, at := s.session(d.session), f.At
	n := -1
	for i := range ss.batches {
		if ss.eventsIn(i+1) == f.Events {
			n = i + 1
			break
		}
	}
	if n < 0 {
		s.found(simWrong, "%+v: built from %d events, which the session never had", d.simKey, f.Events)
		return
	}
	d.builtMin, d.builtMax = n, n
	var want []simBuilt
	for _, shape := range s.hook(d.hook).shapes {
		if shape.from.After(at) || !shape.to.IsZero() && shape.to.Before(at) {
			continue
		}
		payload := ss.payload(n, d.kind, d.asOf, shape, at.Unix())
		if payload == "" {
			want = append(want, simBuilt{})
			continue
		}
		w := shape.programs.build(payload)
		if w == got {
			d.sent = w
			s.totals.payloads++
			return
		}
		want = append(want, w)
	}
	s.found(simWrong, "%+v: built\n%+v\nthe model says\n%+v", d.simKey, got, want)
}

// checkSent holds the parts of a request that programs make beside the body. s.mu is held.
func (s *sim) checkSent(d *simDelivery, r *received, target, what string) {
	contentType := r.header.Get("Content-Type")
	if d.kind == engine.KindTest || d.sent == (simBuilt{}) { // of what was built before the model knew it, the first attempt tells
		if d.sent == (simBuilt{}) {
			d.sent = simBuilt{contentType: contentType, target: target}
		}
	}
	if contentType != d.sent.contentType {
		s.found(simWrong, "%s: content type %q, the model says %q", what, contentType, d.sent.contentType)
	}
	if target != d.sent.target {
		s.found(simWrong, "%s: its URL ends in %q, the model says %q", what, target, d.sent.target)
	}
}

// auditEnded holds a stored delivery without a body against the model's. s.mu is held.
func (s *sim) auditEnded(d *simDelivery, e *engine.Delivery) {
	switch ended := d.state == engine.StatusFiltered || d.parked; {
	case d.parked != e.Parked():
		s.found(simWrong, "%s %s: parked is %t (%q), the model says %t", e.Kind, e.ID, e.Parked(), e.BuildError, d.parked)
	case d.parked && e.LastError != engine.ErrorTransform:
		s.found(simWrong, "%s %s: parked, and its last error is %q", e.Kind, e.ID, e.LastError)
	case ended && (e.Tries != d.tries || !e.FrozenAt.IsZero()):
		s.found(simWrong, "%s %s, %s: %d tries, frozen at %v; it was never sent", e.Kind, e.ID, e.Status, e.Tries, e.FrozenAt)
	case ended && !e.FinishedAt.Equal(d.stateAt):
		s.found(simWrong, "%s %s, %s: since %v, the model says %v", e.Kind, e.ID, e.Status, e.FinishedAt, d.stateAt)
	}
}

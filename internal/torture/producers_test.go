package torture

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// producers post sessions, each over a connection of its own that is kept alive, until they are stopped.
type producers struct {
	rig  *rig
	stop chan struct{}
	done sync.WaitGroup

	refusal atomic.Pointer[string] // the last one
}

// produce starts n producers on a rig. They wait while it has no server, and go on with the next one.
func (g *rig) produce(n int) *producers {
	p := &producers{rig: g, stop: make(chan struct{})}
	p.refusal.Store(new("none was refused"))
	for i := range n {
		r := random(g.t, "producer", g.nextPart()*1000+i)
		p.done.Go(func() { p.run(r) })
	}
	return p
}

// haltPatience is how long a server may refuse what producers have begun.
const haltPatience = time.Minute

// halt lets each producer end what it is at, which may need a server, and waits for them. Where a server takes nothing in any more, that is
// complained of, and they give up.
func (p *producers) halt() {
	close(p.stop)
	ended := make(chan struct{})
	go func() {
		p.done.Wait()
		close(ended)
	}()
	pass(haltPatience, ended)
	if isClosed(ended) {
		return
	}
	p.rig.books.complain("events are still not taken in %v after the end: %s", haltPatience, *p.refusal.Load())
	p.rig.giveUp()
	<-ended
}

func (p *producers) stopped() bool {
	select {
	case <-p.stop:
		return true
	default:
		return false
	}
}

func (p *producers) run(r *rand.Rand) {
	client := newClient()
	client.Timeout = cmp.Or(p.rig.opts.patience, client.Timeout)
	defer client.CloseIdleConnections()
	turn := r.IntN(1000)
	for !p.stopped() {
		if p.rig.ledger.owing() > p.rig.opts.backlog {
			pass(10*time.Millisecond, p.stop)
			continue
		}
		for _, req := range p.rig.opts.draft(p.rig, r) {
			if !p.deliver(client, req, &turn) {
				break
			}
		}
	}
}

// deliver sends a request, again and again if it may be, and tells whether it was acknowledged. Servers take turns.
func (p *producers) deliver(client *http.Client, req *request, turn *int) bool {
	for {
		urls, generation := p.rig.await(p.stop, req.repeatable)
		if len(urls) == 0 {
			return false // stopped: it was not sent, or has been given up as unanswered
		}
		*turn++
		url := urls[*turn%len(urls)]
		p.rig.ledger.sending(req)
		started := time.Now()
		status, err := post(client, url+"/v1/events", req.body, req.events)
		switch {
		case err == nil && status == http.StatusAccepted:
			p.rig.latency.add(time.Since(started))
			p.rig.ledger.acknowledge(req)
			return true
		case err == nil && status != http.StatusServiceUnavailable:
			p.rig.ledger.complain("POST /v1/events: %d for\n%s", status, req.body)
			return false
		case !req.repeatable:
			p.rig.ledger.abandon(req)
			return false
		}
		p.refusal.Store(new(fmt.Sprintf("status %d, %v", status, err)))
		p.rig.awaitNext(generation, 100*time.Millisecond)
	}
}

// newClient makes a client with connections of its own.
func newClient() *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}, Timeout: 30 * time.Second}
}

// post sends events and reads the answer whole. It returns an error if that was not possible.
func post(client *http.Client, url, body string, events int) (status int, err error) {
	resp, err := client.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode == http.StatusAccepted {
		var accepted struct {
			Accepted int `json:"accepted"`
		}
		if err := json.Unmarshal(answer, &accepted); err != nil || accepted.Accepted != events {
			return 0, fmt.Errorf("202 with %q for %d events", answer, events)
		}
	}
	return resp.StatusCode, nil
}

// call makes an API call with JSON both ways; out may be nil.
func call(ctx context.Context, method, url string, in, out any) error {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode/100 != 2:
		return fmt.Errorf("%s %s: %s: %s", method, url, resp.Status, answer)
	case out == nil:
		return nil
	}
	return json.Unmarshal(answer, out)
}

const contentID = "6caaa000-2bd8-4b28-8b9b-bfe1fca94f39"

// draft invents what a producer sends next: sessions of the kinds that behave differently, as one or more requests that have to be
// acknowledged in turn.
func (g *rig) draft(r *rand.Rand) []*request {
	ids := r.IntN(2) == 0
	switch n := r.IntN(100); {
	case n < 40: // a session whole
		s := newSession(r, ids)
		s.start("")
		s.votes(r.IntN(4), "")
		s.lead(r.IntN(3))
		s.finish("")
		return []*request{g.request(ids, s)}
	case n < 60: // several sessions in one request
		var all []*session
		for range 2 + r.IntN(12) {
			s := newSession(r, ids)
			s.start("")
			s.votes(r.IntN(3), "")
			s.finish("")
			all = append(all, s)
		}
		return []*request{g.request(ids, all...)}
	case n < 75: // a session as it goes on, a request for each step
		s := newSession(r, true)
		s.stepwise = true
		var steps []*request
		s.start("")
		steps = append(steps, g.request(true, s))
		for range 1 + r.IntN(3) {
			s.votes(1, "")
			steps = append(steps, g.request(true, s))
		}
		s.lead(1)
		s.finish("")
		return append(steps, g.request(true, s))
	case n < 88: // one that is never finished
		s := newSession(r, ids)
		s.start("")
		s.votes(1+r.IntN(3), "")
		s.lead(r.IntN(2))
		return []*request{g.request(ids, s)}
	default: // one from long ago, which gives both deliveries
		s := newSession(r, ids)
		began := time.Now().Add(-time.Hour).UTC().Truncate(time.Millisecond)
		at := func(d time.Duration) string { return began.Add(d).Format(time.RFC3339Nano) }
		s.old = true
		s.start(at(0))
		s.votes(1+r.IntN(2), at(time.Millisecond))
		s.early = slices.Clone(s.answered)
		s.votes(1+r.IntN(2), at(30*time.Minute))
		s.finish(at(40 * time.Minute))
		return []*request{g.request(ids, s)}
	}
}

// session is what a producer has said of a session so far.
type session struct {
	r        *rand.Rand
	id       uuid.UUID
	ids      bool // each event has an id
	count    int  // events so far
	events   []string
	answered []string // question:answer
	emails   []string
	finished bool
	old      bool     // its events have times of their own, which lie far back
	later    bool     // more comes after its finish: what its payloads hold depends on when they are built
	early    []string // for an old one: what was answered by its incomplete instant
	stepwise bool     // it is sent in several requests
}

func newSession(r *rand.Rand, ids bool) *session {
	s := &session{r: r, ids: ids}
	for i := range s.id {
		s.id[i] = byte(r.Uint32())
	}
	s.id[6], s.id[8] = s.id[6]&0x0f|0x40, s.id[8]&0x3f|0x80
	return s
}

func (s *session) event(at, format string, args ...any) {
	var b strings.Builder
	fmt.Fprintf(&b, `{"session_id":"%s"`, s.id)
	if s.count == 0 {
		fmt.Fprintf(&b, `,"content_id":%q,"content_type":"quiz","poltio_user_id":%d`, contentID, s.r.IntN(1000))
	}
	if s.ids {
		fmt.Fprintf(&b, `,"id":"e%d"`, s.count)
	}
	if at != "" {
		fmt.Fprintf(&b, `,"time":%q`, at)
	}
	fmt.Fprintf(&b, ","+format+"}", args...)
	s.count++
	s.events = append(s.events, b.String())
}

func (s *session) start(at string) { s.event(at, `"type":"start"`) }

func (s *session) votes(n int, at string) {
	for range n {
		question := len(s.answered) + 1
		answer := s.r.IntN(1 << 20)
		s.answered = append(s.answered, fmt.Sprintf("%d:%d", question, answer))
		s.event(at, `"type":"vote","question_id":%d,"question":"How much is %[1]d?","answer_id":%d,"answer":"%s"`, question, answer,
			strings.Repeat("much ", 1+s.r.IntN(40)))
	}
}

func (s *session) lead(n int) {
	for range n {
		email := fmt.Sprintf("v%d@example.com", s.r.IntN(1<<30))
		s.emails = append(s.emails, email)
		s.event("", `"type":"lead","lead":{"email":%q,"name":"A visitor"}`, email)
	}
}

func (s *session) finish(at string) {
	s.event(at, `"type":"finish"`)
	s.finished = true
}

// factsOf writes answers (question:answer) and the e-mail addresses of leads as one string; nil means that the payload has no such field.
func factsOf(answers, emails []string) string {
	text := "no answers"
	if answers != nil {
		text = "answers[" + strings.Join(answers, " ") + "]"
	}
	if emails != nil {
		return text + " leads[" + strings.Join(emails, " ") + "]"
	}
	return text + " no leads"
}

// facts are those for a webhook.
func (h *hook) facts(answers, emails []string) string {
	if !h.answers {
		answers = nil
	} else if answers == nil {
		answers = []string{}
	}
	if !h.leads {
		emails = nil
	} else if emails == nil {
		emails = []string{}
	}
	return factsOf(answers, emails)
}

// request makes a request of the events of sessions that were not sent yet, in one of the forms that a body may have.
func (g *rig) request(repeatable bool, sessions ...*session) *request {
	req := &request{repeatable: repeatable, expects: make(map[key]expectation), sessions: make(map[uuid.UUID]int)}
	var events []string
	for _, s := range sessions {
		req.sessions[s.id] += len(s.events)
		events = append(events, s.events...)
		s.events = nil
		for i := range g.opts.hooks {
			g.opts.hooks[i].expect(s, req.expects)
		}
	}
	req.events = len(events)
	req.body = strings.Join(events, "\n")
	if sessions[0].r.IntN(2) == 0 {
		req.body = "[" + strings.Join(events, ",") + "]"
	}
	return req
}

// expect adds the deliveries that a session leads to as it is now.
func (h *hook) expect(s *session, expects map[key]expectation) {
	if h.passes != nil && !h.passes(s) {
		return
	}
	if s.finished {
		facts := h.facts(s.answered, s.emails)
		if s.later && h.passes == nil {
			facts = ""
		}
		expects[key{h.path, s.id, true}] = expectation{must: true, facts: facts}
	}
	if !h.incomplete {
		return
	}
	incomplete := key{h.path, s.id, false}
	switch {
	case s.old:
		expects[incomplete] = expectation{must: true, facts: h.facts(s.early, nil)}
	case s.stepwise:
		expects[incomplete] = expectation{} // it depends on how long the steps take
	case s.finished: // by its incomplete instant
	default:
		expects[incomplete] = expectation{must: true, facts: h.facts(s.answered, s.emails)}
	}
}

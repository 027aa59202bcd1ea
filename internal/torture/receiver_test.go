package torture

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

// receiver is the endpoint of an experiment: it remembers every request and treats a share of them badly.
type receiver struct {
	url    string
	seed   uint64
	ledger *ledger
	manner manner

	mu       sync.Mutex
	byID     map[uuid.UUID]*received
	keys     map[key]uuid.UUID // the id that a delivery has come under
	requests int
	sending  int            // requests under way
	most     int            // the most of them at once
	byPath   map[string]int // requests under way
	mostPath int            // the most of one path at once
	conns    map[net.Conn]bool
	closed   chan struct{} // capacity 1; told whenever a connection has ended

	// Where several processes send, sender tells whose a connection is, by the address at its other end, and all requests are noted. It is set before the first one.
	sender    func(net.Addr) int
	sightings []*sighting
	lastOf    map[string]*sighting // the last one for each path
	firstOf   map[string]*sighting // the first one for each path that is not of forgotten, since it was reset
	forgotten int
	down      map[string]bool // the paths that take nothing
}

// sighting is a request as it was seen.
type sighting struct {
	id         uuid.UUID
	uri, path  string
	sender     int // the number of its process; 0 if that is not known
	begin, end time.Time
	header     http.Header
	body       []byte
	status     int // of the answer; 0 for none
}

// received is what came under one id.
type received struct {
	requests int
	broken   bool // its first request ended with its connection
	whole    bool // its body was read to its end at least once; hash and key are set
	hash     [32]byte
	key      key
}

// manner says how a receiver behaves. The zero value is kind: it answers 200 at once.
type manner struct {
	// failing is the share of deliveries whose first request fails: by a 500, a 503, or a connection that breaks.
	failing float64
	// slow is the share of requests that are answered after some time, up to slowness.
	slow     float64
	slowness time.Duration
	// hostile makes it treat connections badly, too; see hostile_test.go. The other fields are of no meaning then.
	hostile bool
	// idle makes a hostile one close connections while they are kept, too.
	idle bool
	// long is the share of requests that are answered after longness.
	long     float64
	longness time.Duration
	// moves tells that webhooks get other URLs.
	moves bool
	// anything takes deliveries that the ledger does not know.
	anything bool
}

// difficult is how most experiments' endpoints behave.
var difficult = manner{failing: 0.08, slow: 0.05, slowness: 200 * time.Millisecond}

// newReceiver starts an endpoint on loopback. It is stopped at the end of the test.
func newReceiver(t *testing.T, l *ledger, m manner) *receiver {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &receiver{url: "http://" + listener.Addr().String(), seed: seed, ledger: l, manner: m, byID: make(map[uuid.UUID]*received), byPath: make(map[string]int),
		lastOf: make(map[string]*sighting), firstOf: make(map[string]*sighting), keys: make(map[key]uuid.UUID), conns: make(map[net.Conn]bool), closed: make(chan struct{}, 1)}
	if m.hostile {
		t.Cleanup(func() { listener.Close() })
		go v.serveHostile(listener)
		return v
	}
	server := &http.Server{Handler: v, ConnState: v.connState, ConnContext: func(ctx context.Context, c net.Conn) context.Context {
		if v.sender == nil {
			return ctx
		}
		// Not here: the other connections would wait for it, for seconds on a busy machine.
		return context.WithValue(ctx, senderKey{}, sync.OnceValue(func() int { return v.sender(c.RemoteAddr()) }))
	}}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return v
}

func (v *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		return // of quiesce
	}
	id, err := uuid.Parse(r.Header.Get("webhook-id"))
	if err != nil {
		v.ledger.complain("a request without a webhook-id: %v", r.Header)
		return
	}
	n, s := v.begin(id, r.URL.Path), v.see(id, r)
	defer v.end(r.URL.Path)
	defer v.over(s)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sender has died in the middle of it
	}
	k := v.read(id, r.URL, body)
	s.body = body
	dice := v.dice(id, n)
	if v.isDown(k.path) {
		s.status = http.StatusInternalServerError
		w.WriteHeader(s.status)
		return
	}
	if v.manner.long > 0 && dice.Float64() < v.manner.long {
		pass(v.manner.longness, r.Context().Done())
	}
	if dice.Float64() < v.manner.slow {
		pass(between(dice, time.Millisecond, v.manner.slowness), r.Context().Done())
	}
	status := http.StatusOK
	if n == 1 && dice.Float64() < v.manner.failing {
		status = [...]int{http.StatusInternalServerError, http.StatusServiceUnavailable, 0}[dice.IntN(3)]
	}
	if status == 0 {
		v.mu.Lock()
		v.byID[id].broken = true
		v.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	s.status = status
	w.WriteHeader(status)
	if status == http.StatusOK {
		v.ledger.arrive(k)
	}
}

// dice are what the receiver decides by for the n-th request under an id.
func (v *receiver) dice(id uuid.UUID, n int) *rand.Rand {
	h := fnv.New64a()
	h.Write(id[:])
	return rand.New(rand.NewPCG(v.seed, h.Sum64()+uint64(n)))
}

type senderKey struct{}

// see notes a request, where several processes send.
func (v *receiver) see(id uuid.UUID, r *http.Request) *sighting {
	s := &sighting{id: id, uri: r.RequestURI, path: firstPart(r.URL.Path), header: r.Header, begin: time.Now()}
	if v.sender == nil {
		return s
	}
	s.sender = r.Context().Value(senderKey{}).(func() int)()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.sightings = append(v.sightings, s)
	v.lastOf[s.path] = s
	if v.firstOf[s.path] == nil && s.sender != v.forgotten {
		v.firstOf[s.path] = s
	}
	return s
}

func (v *receiver) over(s *sighting) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s.end = time.Now()
}

// begin counts a request.
func (v *receiver) begin(id uuid.UUID, path string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.requests++
	v.sending++
	v.most = max(v.most, v.sending)
	v.byPath[path]++
	v.mostPath = max(v.mostPath, v.byPath[path])
	c := v.byID[id]
	if c == nil {
		c = &received{}
		v.byID[id] = c
	}
	c.requests++
	return c.requests
}

func (v *receiver) end(path string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.sending--
	v.byPath[path]--
}

// read looks at what came under an id: always the same bytes, each delivery under one id only, and the payload that is expected.
func (v *receiver) read(id uuid.UUID, to *url.URL, body []byte) key {
	uri := to.RequestURI()
	if v.manner.moves {
		uri = ""
	}
	hash := sha256.Sum256(slices.Concat([]byte(uri), body))
	k, facts, err := parsePayload(firstPart(to.Path), body)
	if err != nil {
		v.ledger.complain("%s: its payload: %v", id, err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	c := v.byID[id]
	if c.whole {
		if c.hash != hash || c.key != k {
			v.ledger.complain("%s: came again with other bytes", id)
		}
		return k
	}
	c.whole, c.hash, c.key = true, hash, k
	if other, ok := v.keys[k]; ok && other != id {
		v.ledger.complain("%v: came under two ids, %s and %s", k, other, id)
	}
	v.keys[k] = id
	if v.manner.anything {
		return k
	}
	if wrong := v.ledger.check(k, facts); wrong != "" {
		v.ledger.complain("%s: %s", id, wrong)
	}
	return k
}

// firstPart is what stands before the second slash of a path.
func firstPart(path string) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return "/" + first
}

// isDown tells whether a path takes nothing.
func (v *receiver) isDown(path string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.down[path]
}

// fail has a path take nothing, or everything again.
func (v *receiver) fail(path string, down bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.down = map[string]bool{path: down}
}

// parsePayload reads a payload, and its facts as factsOf writes them.
func parsePayload(path string, body []byte) (k key, facts string, err error) {
	var p struct {
		SessionID uuid.UUID `json:"session_id"`
		Complete  bool      `json:"complete_session"`
		Answers   *[]struct {
			ID      int64 `json:"question_id"`
			Answers []struct {
				ID int64 `json:"answer_id"`
			} `json:"answers"`
		} `json:"answers"`
		Leads *[]struct {
			Email string `json:"email"`
		} `json:"leads"`
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return k, "", err
	}
	var answers, emails []string
	if p.Answers != nil {
		answers = []string{}
		for _, q := range *p.Answers {
			for _, a := range q.Answers {
				answers = append(answers, fmt.Sprintf("%d:%d", q.ID, a.ID))
			}
		}
	}
	if p.Leads != nil {
		emails = []string{}
		for _, l := range *p.Leads {
			emails = append(emails, l.Email)
		}
	}
	return key{path, p.SessionID, p.Complete}, factsOf(answers, emails), nil
}

func (v *receiver) connState(c net.Conn, state http.ConnState) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch state {
	case http.StateNew:
		v.conns[c] = true
	case http.StateClosed, http.StateHijacked:
		delete(v.conns, c)
		select {
		case v.closed <- struct{}{}:
		default:
		}
	}
}

// quiesce waits until everything that a sender which has ended had sent is read and counted. Connections are accepted in the order
// in which they came, so once one of our own was served, all that the sender had made are known; then they have to end.
func (v *receiver) quiesce(patience time.Duration) error {
	client := newClient()
	resp, err := client.Get(v.url)
	if err != nil {
		return fmt.Errorf("ask the receiver: %w", err)
	}
	resp.Body.Close()
	client.CloseIdleConnections()
	deadline := time.After(patience)
	for {
		v.mu.Lock()
		open := len(v.conns)
		v.mu.Unlock()
		if open == 0 {
			return nil
		}
		select {
		case <-v.closed:
		case <-deadline:
			return fmt.Errorf("%d connections to the receiver are still open %v after the sender's end", open, patience)
		}
	}
}

// counts are how many requests came under each id.
func (v *receiver) counts() map[uuid.UUID]int {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := make(map[uuid.UUID]int, len(v.byID))
	for id, c := range v.byID {
		n[id] = c.requests
	}
	return n
}

// broken returns the deliveries whose first request has ended with its connection.
func (v *receiver) broken() map[uuid.UUID]bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	list := make(map[uuid.UUID]bool)
	for id, c := range v.byID {
		if c.broken {
			list[id] = true
		}
	}
	return list
}

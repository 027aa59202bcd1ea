package bench

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// sink has the endpoints of a run's webhooks. What arrives is noted in the tally that the session is of.
type sink struct {
	url    string // without a path
	nonce  string
	mux    *http.ServeMux
	server *http.Server
	done   chan struct{} // closed when it serves no more

	mu        sync.Mutex
	endpoints int                      // guarded by mu
	tallies   atomic.Pointer[[]*tally] // replaced with mu held
	buffers   sync.Pool                // of *bytes.Buffer
	attempts  atomic.Int64             // that were answered with an error, as the run wants it
	strange   atomic.Int64             // requests that are none of a session of this run
}

func newSink(nonce string) (*sink, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &sink{url: "http://" + listener.Addr().String(), nonce: nonce, mux: http.NewServeMux(), done: make(chan struct{})}
	s.buffers.New = func() any { return new(bytes.Buffer) }
	s.tallies.Store(&[]*tally{})
	s.server = &http.Server{Handler: s.mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(s.done)
		s.server.Serve(listener) // until close
	}()
	return s, nil
}

func (s *sink) close() {
	s.server.Close()
	<-s.done
}

// newTally makes a tally whose sessions the sink knows.
func (s *sink) newTally() *tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := *s.tallies.Load()
	t := &tally{index: len(before)}
	after := append(before[:len(before):len(before)], t)
	s.tallies.Store(&after)
	return t
}

// endpoint is where a webhook sends to.
type endpoint struct {
	sink *sink
	url  string
	// status is its answer; it may change while it serves.
	status atomic.Int32
	// worked is whether it has answered 200.
	worked atomic.Bool
	// slowBy is how long it takes to answer, delay its webhook's.
	slowBy, delay time.Duration
}

// newEndpoint opens an endpoint that answers 200.
func (s *sink) newEndpoint(delay, slowBy time.Duration) *endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endpoints++
	path := "/" + strconv.Itoa(s.endpoints)
	e := &endpoint{sink: s, url: s.url + path, slowBy: slowBy, delay: delay}
	e.status.Store(http.StatusOK)
	s.mux.Handle(path, e)
	return e
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	arrivedAt := time.Now()
	buffer := e.sink.buffers.Get().(*bytes.Buffer)
	defer e.sink.buffers.Put(buffer)
	buffer.Reset()
	if _, err := buffer.ReadFrom(r.Body); err != nil {
		return // the sender has gone
	}
	if e.slowBy > 0 && !sleep(r.Context(), e.slowBy) {
		return
	}
	status := int(e.status.Load())
	if status == http.StatusOK {
		e.worked.Store(true)
		e.note(buffer.Bytes(), arrivedAt)
	} else {
		e.sink.attempts.Add(1)
	}
	w.WriteHeader(status)
}

var (
	customIDKey = []byte(`"custom_id":"`)
	endKey      = []byte(`"session_end_date":"`)
	quote       = []byte(`"`)
)

// note counts an arrival. It looks for two fields instead of decoding JSON: what the sink takes of the processor, the server lacks.
func (e *endpoint) note(payload []byte, arrivedAt time.Time) {
	index, number, ok := parseCustomID(valueOf(payload, customIDKey), e.sink.nonce)
	tallies := *e.sink.tallies.Load()
	if !ok || index >= len(tallies) {
		e.sink.strange.Add(1)
		return
	}
	t := tallies[index]
	t.arrive(number)
	var endedAt time.Time
	if endedAt.UnmarshalText(valueOf(payload, endKey)) == nil { // the bare relay passes events on, which have no such field
		t.lag.record(arrivedAt.Sub(endedAt.Add(e.delay)))
	}
}

// valueOf returns the string that follows a key, up to the next quote; nil if there is none.
func valueOf(payload, key []byte) []byte {
	_, rest, _ := bytes.Cut(payload, key)
	value, _, found := bytes.Cut(rest, quote)
	if !found {
		return nil
	}
	return value
}

// sleep waits and tells whether the time has passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Relay is the bare relay that the server is held against: it serves on a free port of loopback until ctx ends, tells where on log as
// the server does ("ready url=…"), and passes the body of each request on to the address to, waits for the answer, and answers 202.
func Relay(ctx context.Context, to string, log io.Writer) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 0, 1000
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		resp, err := client.Post(to, "application/json", bytes.NewReader(text))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		w.WriteHeader(http.StatusAccepted)
	})}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if _, err := io.WriteString(log, "ready url=http://"+listener.Addr().String()+"\n"); err != nil {
		return err
	}
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

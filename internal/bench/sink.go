package bench

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// sink has the endpoints of a run's webhooks. It counts each arrival in the tally of its session.
type sink struct {
	url   string // without a path
	nonce string
	// certificate is that of the endpoints, in PEM; nil if they speak HTTP. Clients trust it as an authority.
	certificate []byte
	mux         *http.ServeMux
	server      *http.Server
	done        chan struct{} // closed when the server has stopped

	mu        sync.Mutex
	endpoints int                      // guarded by mu
	tallies   atomic.Pointer[[]*tally] // replaced with mu held
	buffers   sync.Pool                // of *bytes.Buffer
	attempts  atomic.Int64             // attempts that were answered with an error on purpose
	unknown   atomic.Int64             // requests that are not for a session of this run
}

// newSink listens on an address, "" for a free port on loopback. With a version of Options.TLS it speaks HTTPS.
func newSink(nonce, addr, tlsVersion string) (*sink, error) {
	listener, err := net.Listen("tcp", cmp.Or(addr, "127.0.0.1:0"))
	if err != nil {
		return nil, err
	}
	s := &sink{url: "http://" + listener.Addr().String(), nonce: nonce, mux: http.NewServeMux(), done: make(chan struct{})}
	s.buffers.New = func() any { return new(bytes.Buffer) }
	s.tallies.Store(&[]*tally{})
	s.server = &http.Server{Handler: s.mux, ReadHeaderTimeout: 10 * time.Second}
	if tlsVersion != "" {
		s.url = "https://" + listener.Addr().String()
		var settings *tls.Config
		if settings, s.certificate, err = newCertificate(); err != nil {
			listener.Close()
			return nil, err
		}
		s.server.Protocols = new(http.Protocols)
		s.server.Protocols.SetHTTP1(tlsVersion == HTTP1)
		s.server.Protocols.SetHTTP2(tlsVersion == HTTP2)
		settings.NextProtos = map[string][]string{HTTP1: {"http/1.1"}, HTTP2: {"h2"}}[tlsVersion]
		listener = tls.NewListener(listener, settings)
	}
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

// newTally returns a new tally of the sink.
func (s *sink) newTally() *tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := *s.tallies.Load()
	t := &tally{index: len(before)}
	after := append(before[:len(before):len(before)], t)
	s.tallies.Store(&after)
	return t
}

// endpoint is the endpoint of one webhook.
type endpoint struct {
	sink *sink
	url  string
	// status is the status of its responses. It may change while it serves.
	status atomic.Int32
	// worked is whether it has answered 200.
	worked atomic.Bool
	// slowBy is how long it takes to respond. delay is the delay of its webhook.
	slowBy, delay time.Duration
}

// newEndpoint opens an endpoint that answers 200.
func (s *sink) newEndpoint(delay, slowBy time.Duration) *endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endpoints++
	return s.open("/"+strconv.Itoa(s.endpoints), delay, slowBy)
}

// open opens an endpoint at a path; "/" has all paths that no other one has.
func (s *sink) open(path string, delay, slowBy time.Duration) *endpoint {
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
		return // the client has disconnected
	}
	if e.slowBy > 0 && !sleep(r.Context(), e.slowBy) {
		return
	}
	status := int(e.status.Load())
	if status == http.StatusOK {
		e.worked.Store(true)
		e.record(buffer.Bytes(), arrivedAt)
	} else {
		e.sink.attempts.Add(1)
	}
	w.WriteHeader(status)
}

var (
	customIDKey = []byte(`"custom_id":`)
	endKey      = []byte(`"session_end_date":`)
	quote       = []byte(`"`)
)

// record counts an arrival. It searches for two fields instead of decoding JSON, because the sink shares the CPU with the server.
func (e *endpoint) record(payload []byte, arrivedAt time.Time) {
	index, number, ok := parseCustomID(valueOf(payload, customIDKey), e.sink.nonce)
	tallies := *e.sink.tallies.Load()
	if !ok || index >= len(tallies) {
		e.sink.unknown.Add(1)
		return
	}
	t := tallies[index]
	t.arrive(number)
	var endedAt time.Time
	if endedAt.UnmarshalText(valueOf(payload, endKey)) == nil { // the bare relay forwards events, which have no such field
		t.lag.record(arrivedAt.Sub(endedAt.Add(e.delay)))
	}
}

// valueOf returns the string that follows a key, up to the next quote; nil if there is none. Other senders may write a space in between.
func valueOf(payload, key []byte) []byte {
	_, rest, _ := bytes.Cut(payload, key)
	rest, isText := bytes.CutPrefix(bytes.TrimLeft(rest, " "), quote)
	value, _, found := bytes.Cut(rest, quote)
	if !isText || !found {
		return nil
	}
	return value
}

// sleep waits for d. It returns false if ctx ends first.
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

// Relay is the bare relay with which the server is compared. It serves on a free loopback port until ctx ends, and logs the URL as the
// server does ("ready url=…"). It forwards the body of each request to the URL to, waits for the response, and then answers 202. caFile has the
// certificates, in PEM, that it trusts in place of the system's; "" for none.
func Relay(ctx context.Context, to, caFile string, log io.Writer) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 0, 1000
	if caFile != "" {
		text, err := os.ReadFile(caFile)
		if err != nil {
			return err
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool()}
		transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(text)
	}
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

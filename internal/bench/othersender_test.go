package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

// otherSender stands in for another program: it sends what it gets, in an envelope that it has written anew, this many times.
func otherSender(t *testing.T, times int) (url, endpoint string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") // to find a free port
	if err != nil {
		t.Fatal(err)
	}
	endpoint = l.Addr().String()
	l.Close()
	var client http.Client
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var message struct{ Payload map[string]any }
		if err := json.NewDecoder(r.Body).Decode(&message); err != nil || r.Header.Get("X-Key") != testToken || r.URL.Path != "/messages" || len(message.Payload) < 10 {
			t.Errorf("%s %s, key %q, %d fields, %v", r.Method, r.URL, r.Header.Get("X-Key"), len(message.Payload), err)
		}
		text, err := json.MarshalIndent(map[string]any{"data": message.Payload}, "", "  ")
		if err != nil {
			t.Error(err)
		}
		for range times {
			resp, err := client.Post("http://"+endpoint+"/hook/7", "application/json", bytes.NewReader(text))
			if err != nil {
				t.Error(err)
				continue
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		w.WriteHeader(http.StatusCreated)
	}))
	t.Cleanup(func() {
		server.Close()
		client.CloseIdleConnections()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	return server.URL + "/messages", endpoint
}

func otherSenderOptions(url, endpoint string) Options {
	o := testOptions()
	o.Webhooks = 1
	o.RelayURL, o.Endpoint, o.RelayHeader, o.RelayBody, o.JSON = url, endpoint, http.Header{"X-Key": {testToken}}, `{"eventType":"done","payload":{{session}}}`, true
	o.Config = func(string, string) (string, error) { return "", nil }
	return o
}

// The same load is measured at another sender: full speed and half of it, with the lag, and with what is lost or repeated.
func TestOtherSender(t *testing.T) {
	for _, times := range []int{1, 0, 2} {
		url, endpoint := otherSender(t, times)
		o := otherSenderOptions(url, endpoint)
		o.Dir = t.TempDir()
		if times != 1 {
			o.Rate = 300
		}
		report, err := reportOf(t, &o, 200*time.Millisecond)
		if times != 1 {
			if err == nil || *report.Steady.Missing == 0 != (times == 2) || report.Steady.Repeated == 0 != (times == 0) {
				t.Errorf("sent %d times: %v, %+v", times, err, report.Steady)
			}
			continue
		}
		if err != nil || len(report.Problems) > 0 {
			t.Errorf("%v, problems %q", err, report.Problems)
		}
		for name, m := range map[string]*Measured{"full speed": report.FullSpeed, "half": report.Steady} {
			if m.Deliveries == 0 || *m.Missing != 0 || m.Repeated != 0 || m.RefusedRequests != 0 || m.Lag == nil || m.Acknowledgement == nil || m.CPU != nil {
				t.Errorf("%s: %+v", name, m)
			}
		}
	}
}

func TestValidateOtherSender(t *testing.T) {
	for _, tc := range []struct {
		change func(*Options)
		want   string
	}{
		{func(*Options) {}, ""},
		{func(o *Options) { o.RelayBody = "" }, ""},
		{func(o *Options) {
			o.RelayBody, o.RelayHeader = "session={{session}}", http.Header{"Content-Type": {"text/plain"}}
		}, ""},
		{func(o *Options) { o.Endpoint = "" }, "-relay-url takes -endpoint"},
		{func(o *Options) { o.RelayURL = "" }, "-endpoint, -relay-header and -relay-body can only"},
		{func(o *Options) { o.URL = "http://x" }, "-relay-url can only be used with"},
		{func(o *Options) { o.TLS = HTTP2 }, "-relay-url can only be used with"},
		{func(o *Options) { o.Webhooks = 2 }, "-relay-url can only be used with"},
		{func(o *Options) { o.Scheduled = 2 }, "-relay-url can only be used with"},
		{func(o *Options) { o.RelayBody = `{"payload":1}` }, "-relay-body: the text must have {{session}} once, where the session's JSON is to stand (it has it 0 times)"},
		{func(o *Options) { o.RelayBody = `[{{session}},{{session}}]` }, "-relay-body: the text must have {{session}} once"},
		{func(o *Options) { o.RelayBody = `{"payload":"{{session}}"}` }, "-relay-body: with the session's JSON in the place of {{session}} the text is not JSON"},
		{func(o *Options) { o.RelayBody = `{"at":"` + timeField + `","payload":{{session}}}` }, "-relay-body: the text has a placeholder"},
	} {
		o := otherSenderOptions("http://127.0.0.1:1/", "127.0.0.1:2")
		tc.change(&o)
		got := ""
		if err := o.Validate(); err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, tc.want) || tc.want == "" && got != "" {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
}

// The endpoints speak the version of HTTP that was asked for, and no other one; the relay trusts their certificate.
func TestEndpointsSpeakHTTPS(t *testing.T) {
	for version, want := range map[string]string{HTTP1: "HTTP/1.1", HTTP2: "HTTP/2.0"} {
		s, err := newSink("0badcafe", "", version)
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		file := t.TempDir() + "/ca.pem"
		if err := os.WriteFile(file, s.certificate, 0o600); err != nil {
			t.Fatal(err)
		}
		protocol := make(chan string, 1)
		s.mux.HandleFunc("/", func(_ http.ResponseWriter, r *http.Request) { protocol <- r.Proto })
		log := &logTail{ready: make(chan string, 1)}
		ended := make(chan error, 1)
		ctx, stop := context.WithCancel(t.Context())
		go func() { ended <- Relay(ctx, s.url, file, log) }()
		resp, err := http.Post(<-log.ready, "text/plain", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusAccepted {
			t.Fatalf("%s: the relay answers %s", version, resp.Status)
		}
		if got := <-protocol; got != want {
			t.Errorf("%s: the request came by %s", version, got)
		}
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

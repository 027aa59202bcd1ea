package server_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"hookbolt/internal/hookbolttest"
)

// balancer sends requests to the members that say they are ready, as it has last heard. It repeats nothing.
type balancer struct {
	client *http.Client

	mu      sync.Mutex
	members []string        // URLs
	ready   map[string]bool // guarded by mu, as all below
	next    int
	sent    map[string]int // by member
	failed  []error
}

// check asks all members whether they are ready.
func (b *balancer) check() {
	for _, url := range b.members {
		resp, err := b.client.Get(url + "/readyz")
		if err == nil {
			resp.Body.Close()
		}
		b.mu.Lock()
		b.ready[url] = err == nil && resp.StatusCode == http.StatusOK
		b.mu.Unlock()
	}
}

// pick returns the next member that is ready.
func (b *balancer) pick() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range b.members {
		b.next++
		if url := b.members[b.next%len(b.members)]; b.ready[url] {
			return url
		}
	}
	return b.members[0]
}

// post sends a session of its own.
func (b *balancer) post() {
	url := b.pick()
	req, _ := http.NewRequest("POST", url+"/v1/events", strings.NewReader(hookbolttest.NewSession()))
	req.GetBody = nil // the client repeats nothing either
	resp, err := b.client.Do(req)
	if err == nil {
		if resp.Body.Close(); resp.StatusCode != http.StatusAccepted {
			err = errors.New(resp.Status)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sent[url]++; err != nil {
		b.failed = append(b.failed, err)
	}
}

// await waits until each member was sent a number of requests.
func (b *balancer) await(t *testing.T, n int) {
	t.Helper()
	for end := time.Now().Add(hookbolttest.Timeout); ; time.Sleep(10 * time.Millisecond) {
		b.mu.Lock()
		least := n
		for _, url := range b.members {
			least = min(least, b.sent[url])
		}
		b.mu.Unlock()
		if least >= n {
			return
		}
		if time.Now().After(end) {
			t.Fatal("the balancer sends too little to see anything")
		}
	}
}

// A balancer that asks a member whether it is ready, and repeats nothing, loses no request when the member is stopped: /readyz says so before the port is closed.
func TestStopOfAMemberBehindABalancer(t *testing.T) {
	t.Parallel()
	config, _ := writePostgresConfig(t)
	config = hookbolttest.Write(t, config+".delay.toml", strings.Replace(hookbolttest.Read(t, config), "[http]\n", "[http]\nshutdown_delay = \"5s\"\n", 1))
	stays, goes := hookbolttest.Start(t, "serve", "-config", config), hookbolttest.Start(t, "serve", "-config", config)
	b := &balancer{client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}, members: []string{stays.URL(t), goes.URL(t)}, ready: make(map[string]bool), sent: make(map[string]int)}
	defer b.client.CloseIdleConnections()
	b.check()
	leaving := goes.URL(t)

	end := make(chan struct{})
	var work sync.WaitGroup
	repeat := func(pause time.Duration, f func()) {
		work.Go(func() {
			for {
				select {
				case <-end:
					return
				case <-time.After(pause):
					f()
				}
			}
		})
	}
	repeat(250*time.Millisecond, b.check)
	for range 4 {
		repeat(time.Millisecond, b.post)
	}
	b.await(t, 10)
	goes.Stop(errors.New("signal: of the test"))
	goes.Stderr.Find(t, "until balancers have noticed")

	// It is not ready any more, and takes a request on a connection of its own, which it has the client close.
	other := &http.Client{Transport: &http.Transport{}}
	defer other.CloseIdleConnections()
	resp, err := other.Get(leaving + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != http.StatusServiceUnavailable || !resp.Close {
		t.Errorf("/readyz: %s, closes the connection: %v", resp.Status, resp.Close)
	}
	resp, err = other.Post(leaving+"/v1/events", "", strings.NewReader(hookbolttest.NewSession()))
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != http.StatusAccepted || !resp.Close {
		t.Errorf("events while it drains: %s, closes the connection: %v", resp.Status, resp.Close)
	}
	if code := goes.Exit(t); code != 0 {
		t.Errorf("exit code %d:\n%s", code, goes.Stderr)
	}
	if _, err := other.Get(leaving + "/readyz"); err == nil {
		t.Error("its port is still open")
	}
	time.Sleep(100 * time.Millisecond)
	close(end)
	work.Wait()
	if len(b.failed) > 0 {
		t.Errorf("%d of %d requests failed, such as: %v", len(b.failed), b.sent[leaving]+b.sent[stays.URL(t)], b.failed[0])
	}
	// Alone, there is nobody who could take requests: it stops at once.
	began := time.Now()
	if code := stays.End(t); code != 0 || strings.Contains(fmt.Sprint(stays.Stderr), "until balancers have noticed") {
		t.Errorf("the last one: exit code %d after %v:\n%s", code, time.Since(began), stays.Stderr)
	}
}

package httpapi

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hookbolt/engine"
)

// fleetStore is a store that several processes share.
type fleetStore struct {
	engine.Store
	fleet engine.Fleet
	err   error
}

func (s *fleetStore) Fleet(context.Context) (*engine.Fleet, error) { return &s.fleet, s.err }

// A server on a file has no members, and its webhooks have no owners.
func TestNoMembers(t *testing.T) {
	f := newFixture(t, Config{})
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/"}`)
	if got := f.want(200, "GET", "/v1/members", ""); got != "{\"items\":[],\"unowned_webhooks\":0}\n" {
		t.Error(got)
	}
	if got := f.want(200, "GET", "/v1/webhooks/1", ""); strings.Contains(got, `"member"`) {
		t.Error(got)
	}
	if got := f.want(200, "GET", "/", "") + f.want(200, "GET", "/webhooks/1", ""); strings.Contains(got, "Members") || strings.Contains(got, "Delivered by") {
		t.Error("the pages tell of members")
	}
}

func TestMembers(t *testing.T) {
	f := newFixture(t, Config{})
	for range 2 {
		f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/"}`)
	}
	joined := time.Date(2026, 11, 27, 1, 51, 17, 0, time.UTC)
	s := &fleetStore{Store: f.store, fleet: engine.Fleet{Unowned: 1, Owners: map[uint32]int64{1: 17}, Members: []engine.Member{
		{ID: 17, Host: "app<1>", Release: "v1.4.0", State: engine.MemberWorking, JoinedAt: joined, BeatAge: 412 * time.Millisecond, Webhooks: 1, InFlight: 12, Keeper: true},
		{ID: 18, State: engine.MemberAway, JoinedAt: time.Now().Add(time.Hour), BeatAge: 6 * time.Second, This: true},
	}}}
	f.reg = prometheus.NewRegistry()
	log := slog.New(slog.NewTextHandler(f.log, nil))
	f.engine = engine.New(s, engine.DefaultConfig(), f.reg, log)
	f.h = observed{t: t, h: New(f.engine, Config{}, f.reg, log)}

	want := `{"items":[{"id":17,"host":"app<1>","release":"v1.4.0","state":"working","joined_at":"2026-11-27T01:51:17Z","beat_age_ms":412,"webhooks":1,"in_flight":12,"keeper":true,"this":false},` +
		fmt.Sprintf(`{"id":18,"host":null,"release":null,"state":"away","joined_at":"%s","beat_age_ms":6000,"webhooks":0,"in_flight":0,"keeper":false,"this":true}],"unowned_webhooks":1}`,
			s.fleet.Members[1].JoinedAt.UTC().Format("2006-01-02T15:04:05.999999Z07:00")) + "\n"
	if got := f.want(200, "GET", "/v1/members", ""); got != want {
		t.Errorf("got  %swant %s", got, want)
	}
	for path, want := range map[string]string{
		"/v1/webhooks/1": `"member":17`, "/v1/webhooks/2": `"member":null`,
		"/webhooks/1": `<dt>Delivered by</dt><dd>member 17 on app&lt;1&gt;</dd>`, "/webhooks/2": `<dt>Delivered by</dt><dd>none at the moment: another one takes it over</dd>`,
	} {
		if got := f.want(200, "GET", path, ""); !strings.Contains(got, want) {
			t.Errorf("%s lacks %s", path, want)
		}
	}
	page := f.want(200, "GET", "/", "")
	for _, want := range []string{`<tr id="member-17">`, `17 on app&lt;1&gt;<span class="dim">does the background work</span>`, `<span class="badge ok">working</span>`, `data-label="Sign of life">just now<`,
		`<tr id="member-18" class="bad">`, `>18<span class="dim">shows this page</span>`, `<span class="badge bad">away</span>`, `data-label="Sign of life">6 s ago<`, "1 webhook has no member at the moment"} {
		if !strings.Contains(page, want) {
			t.Errorf("the overview lacks %s", want)
		}
	}
	if _, row, _ := strings.Cut(page, `<tr id="member-18"`); !regexp.MustCompile(`(?s)^.*?data-label="Joined"><time [^>]*>just now</time>.*?</tr>`).MatchString(row) {
		t.Errorf("one whose clock is ahead has joined at a time to come: %s", row)
	}
	s.err = engine.ErrTransient
	f.want(503, "GET", "/v1/members", "")
	f.want(503, "GET", "/v1/webhooks/1", "")
	f.want(503, "GET", "/", "")
}

package bench

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// deliver posts a payload of a session to an endpoint and returns its answer.
func deliver(t *testing.T, e *endpoint, customID, endedAt string) int {
	t.Helper()
	resp, err := http.Post(e.url, "application/json", strings.NewReader(`{"session_end_date":"`+endedAt+`","custom_id":"`+customID+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// The sink tells what is missing, what came again and what is none of its sessions.
func TestSink(t *testing.T) {
	s, err := newSink("0badcafe", "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	defer http.DefaultClient.CloseIdleConnections()
	other, tally := s.newTally(), s.newTally()
	good, late := s.newEndpoint(0, 0), s.newEndpoint(time.Hour, time.Millisecond)
	id := func(number int64) string {
		text := []byte(customField)
		putCustomID(text, "0badcafe", tally.index, number)
		return string(text)
	}
	now := time.Now().UTC().Format(timeField)

	for _, number := range []int64{0, 63, 64, chunkBits - 1, chunkBits, chunkBits + 1} {
		tally.expected.set(number)
	}
	good.status.Store(http.StatusServiceUnavailable)
	if got := deliver(t, good, id(0), now); got != 503 || tally.missing() != 6 {
		t.Errorf("answer %d, %d missing; want 503 and nothing taken", got, tally.missing())
	}
	good.status.Store(http.StatusOK)
	for _, number := range []int64{0, 64, chunkBits, chunkBits + 1, 5, 0, 64} { // 5 was not acknowledged
		if got := deliver(t, good, id(number), now); got != 200 {
			t.Errorf("answer %d", got)
		}
	}
	if m, a, r := tally.missing(), tally.arrived.Load(), tally.repeated.Load(); m != 2 || a != 5 || r != 2 {
		t.Errorf("%d missing, %d arrived, %d repeated; want 2, 5, 2", m, a, r)
	}
	deliver(t, good, "somebody else's", now)
	deliver(t, good, strings.Replace(id(1), "-001-", "-002-", 1), now)
	if got := s.unknown.Load(); got != 2 {
		t.Errorf("%d unknown requests, want 2", got)
	}
	if other.arrived.Load() != 0 {
		t.Error("another tally has it")
	}

	// The lag is counted from the end of the session and the webhook's delay.
	before := tally.lag.read()
	deliver(t, late, id(63), time.Now().Add(-time.Hour-time.Minute).UTC().Format(timeField))
	if lag := tally.lag.read().since(before).percentile(.5); lag < 59*time.Second || lag > 2*time.Minute {
		t.Errorf("lag %v, want about a minute", lag)
	}
}

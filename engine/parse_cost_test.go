package engine

import (
	"runtime"
	"strings"
	"testing"
)

// A bad event makes those behind it no dearer: what a request costs grows with its size.
func TestBadEventCostsNoMore(t *testing.T) {
	const good = `{"type":"start","session_id":"5b0c4d8e-7d0f-4c0b-9a53-6f1f2f6f0d11"}`
	cost := func(body string) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		ParseEvents([]byte(body), benchNow)
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	all := strings.Repeat(good, 3000)
	if fine, bad := cost(all), cost(`{"type":"no"}`+all); bad > 2*fine {
		t.Errorf("3,000 events cost %d bytes, and %d behind a bad one", fine, bad)
	}
}

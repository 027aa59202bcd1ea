package engine

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
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

// What a request costs in memory is a small multiple of its size, whatever it is made of: neither are lists copied as they grow, nor events as
// they are grouped.
func TestMemoryOfRequest(t *testing.T) {
	ids := make([]string, 2000)
	for i := range ids {
		ids[i] = uuid.NewString()
	}
	for name, event := range map[string]func(i int) string{
		"short events":         func(int) string { return `{"type":"finish","session_id":"` + ids[0] + `"}` },
		"sessions of an event": func(i int) string { return `{"type":"finish","session_id":"` + ids[i] + `"}` },
		"interleaved sessions": func(i int) string { return `{"type":"finish","session_id":"` + ids[i%100] + `"}` },
	} {
		var body strings.Builder
		for i := range ids {
			body.WriteString(event(i))
		}
		text := []byte(body.String())
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		events, err := ParseEvents(text, benchNow)
		if err != nil {
			t.Fatal(err)
		}
		a := NewAppend(events, benchNow)
		runtime.ReadMemStats(&after)
		if factor := float64(after.TotalAlloc-before.TotalAlloc) / float64(len(text)); factor > 10 {
			t.Errorf("%s: %.1f times the size of the body", name, factor)
		} else {
			t.Logf("%s: %.1f times the size of the body, %d sessions", name, factor, len(a.Sessions))
		}
	}
}

// The events of a session keep their order, and sessions are in the order of their first events.
func TestGroupingKeepsOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		events := make([]Event, 1+random.IntN(50))
		want := make(map[uuid.UUID][]int)
		var order []uuid.UUID
		for i := range events {
			id := uuid.UUID{byte(random.IntN(8))}
			events[i] = Event{SessionID: id, Index: i}
			if want[id] == nil {
				order = append(order, id)
			}
			want[id] = append(want[id], i)
		}
		a := NewAppend(events, benchNow)
		if len(a.Sessions) != len(order) {
			t.Fatalf("%d sessions, want %d", len(a.Sessions), len(order))
		}
		for n, p := range a.Sessions {
			var got []int
			for _, ev := range p.Events {
				if ev.SessionID != order[n] {
					t.Fatalf("session %d has an event of another one", n)
				}
				got = append(got, ev.Index)
			}
			if !slices.Equal(got, want[order[n]]) {
				t.Fatalf("session %d: %v, want %v", n, got, want[order[n]])
			}
			if cap(p.Events) != len(p.Events) {
				t.Fatalf("an append to session %d would overwrite the next one", n)
			}
		}
	}
}

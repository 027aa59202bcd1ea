package engine

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
)

// randomHooks makes webhooks for all contents and for two single ones.
func randomHooks(rng *rand.Rand, n int) []*Webhook {
	var hooks []*Webhook
	for i := range n {
		hooks = append(hooks, randomHook(rng, uint32(i+1)))
	}
	return hooks
}

func randomHook(rng *rand.Rand, id uint32) *Webhook {
	w := &Webhook{ID: id, Active: rng.IntN(4) > 0, SendIncomplete: rng.IntN(2) == 0, Delay: int64(rng.IntN(9)), IncompleteDelay: int64(rng.IntN(9)),
		Operations: id == 7}
	if n := rng.IntN(3); n > 0 {
		w.ContentID = new(uuid.UUID{byte(n)})
	}
	return w
}

// A set that grew by changes is the one that is made of all webhooks at once.
func TestWebhookSetChanges(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	hooks := make(map[uint32]*Webhook)
	cancels := []Cancellation{{WebhookID: 3, Revision: 1, Scope: CancelAll}}
	set := NewWebhookSet(nil, nil).WithCancellations(cancels)
	for i := range 2000 {
		before, want := set, NewWebhookSet(set.All(), cancels)
		id := uint32(1 + rng.IntN(40))
		if rng.IntN(3) == 0 {
			delete(hooks, id)
			set = set.Without(id)
		} else {
			hooks[id] = randomHook(rng, id)
			set = set.With(hooks[id])
		}
		if !reflect.DeepEqual(before, want) {
			t.Fatalf("change %d has changed the set before it", i)
		}
		var all []*Webhook
		for _, w := range hooks {
			all = append(all, w)
		}
		if want := NewWebhookSet(all, cancels); fmt.Sprint(*set) != fmt.Sprint(*want) {
			t.Fatalf("change %d: got %v, want %v", i, *set, *want)
		}
		for id := range uint32(42) {
			if set.Get(id) != hooks[id] {
				t.Fatalf("change %d: webhook %d is %v", i, id, set.Get(id))
			}
		}
	}
}

// The steps of a fan-out come past each webhook that one of the sessions matches, once, in the order of the ids, and past no other.
func TestNextInFanOut(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 300 {
		hooks := randomHooks(rng, rng.IntN(60))
		set := NewWebhookSet(hooks, nil)
		var sessions []FannedOut
		for range 1 + rng.IntN(4) {
			s := FannedOut{ContentID: uuid.UUID{byte(rng.IntN(4))}}
			if rng.IntN(2) == 0 {
				s.StartedAt = foldStart
			} else {
				s.FinishedAt = foldStart
			}
			sessions = append(sessions, s)
		}
		last := uint32(rng.IntN(70))
		var want, got []uint32
		for _, w := range hooks {
			if w.ID <= last && slices.ContainsFunc(sessions, func(s FannedOut) bool {
				return w.Active && !w.Operations && (w.ContentID == nil || *w.ContentID == s.ContentID) && (w.SendIncomplete || !s.FinishedAt.IsZero())
			}) {
				want = append(want, w.ID)
			}
		}
		most := len(sessions) + rng.IntN(5)
		for after, done := uint32(0), false; !done; {
			var next []*Webhook
			var matches, want int
			next, matches, done = set.NextInFanOut(sessions, after, last, most)
			for _, w := range next {
				got = append(got, w.ID)
				after = w.ID
				for _, s := range sessions {
					if w.ContentID == nil || *w.ContentID == s.ContentID {
						want++
					}
				}
			}
			if matches != want || matches > most || len(next) == 0 && !done {
				t.Fatalf("%d webhooks with %d matches, counted %d, at most %d", len(next), want, matches, most)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got the webhooks %v, want %v", got, want)
		}
	}
}

// Triggers are listed as long as there is room for all of a session; otherwise there are none, and the fan-out leads to the same ones.
func TestAdmitBeyondRoom(t *testing.T) {
	set := NewWebhookSet(randomHooks(rand.New(rand.NewPCG(7, 8)), 50), nil)
	for _, events := range [][]Event{
		{firstEvent(at(0, EventStart))},
		{firstEvent(at(0, EventStart)), at(20, EventFinish)},
		{firstEvent(at(0, EventStart)), at(4, EventFinish)},
	} {
		events[0].Identity.ContentID = uuid.UUID{1}
		a := NewAppend(events, foldStart.Add(time.Hour))
		all, err := a.Admit(0, SessionHead{}, nil, set, MaxTriggers)
		if err != nil || len(all.Triggers) == 0 || !all.FanOut.IsZero() {
			t.Fatalf("with room: %d triggers, %+v, %v", len(all.Triggers), all.FanOut, err)
		}
		few, err := a.Admit(0, SessionHead{}, nil, set, len(all.Triggers)-1)
		if err != nil || len(few.Triggers) > 0 || few.FanOut.IsZero() || !reflect.DeepEqual(few.Head, all.Head) {
			t.Fatalf("without room: %d triggers, %+v, %v", len(few.Triggers), few.FanOut, err)
		}
		var later []Trigger
		hooks, _, done := set.NextInFanOut([]FannedOut{{few.FanOut, few.Head.Identity.ContentID}}, 0, 50, 50)
		if !done {
			t.Error("the fan-out stops before its end")
		}
		for _, w := range hooks {
			later = few.FanOut.AppendTriggers(later, &few.Head, w)
		}
		order := func(a, b Trigger) int {
			return 4*(int(a.WebhookID)-int(b.WebhookID)) + int(a.Kind) - int(b.Kind)
		}
		for i := range all.Triggers {
			all.Triggers[i].dueOnArrival = false // a fan-out comes later
		}
		slices.SortFunc(all.Triggers, order)
		slices.SortFunc(later, order)
		if !reflect.DeepEqual(later, all.Triggers) {
			t.Errorf("got %+v, want %+v", later, all.Triggers)
		}
	}
}

// What has led to a delivery already leads to no second one, and what the session's finish has made needless leads to none.
func TestFanOutTriggers(t *testing.T) {
	f := FanOut{StartedAt: foldStart, FinishedAt: foldStart.Add(20 * time.Second)}
	w := &Webhook{ID: 1, Active: true, SendIncomplete: true, IncompleteDelay: 10}
	head := SessionHead{FinishedAt: f.FinishedAt}
	if got := f.AppendTriggers(nil, &head, w); len(got) != 2 {
		t.Errorf("%+v", got)
	}
	head.FinishedAt = foldStart.Add(5 * time.Second) // known since
	if got := f.AppendTriggers(nil, &head, w); len(got) != 1 || got[0].Kind != KindComplete || !got[0].DueAt.Equal(f.FinishedAt) {
		t.Errorf("finished before its instant: %+v", got)
	}
	head.Deliveries = []DeliveryRef{{ID: uuid.New(), WebhookID: 1, Kind: KindComplete}}
	if got := f.AppendTriggers(nil, &head, w); len(got) != 0 {
		t.Errorf("it has led to a delivery: %+v", got)
	}
	w.ContentID = new(uuid.New())
	if got := f.AppendTriggers(nil, &SessionHead{}, w); len(got) != 0 {
		t.Errorf("of another content: %+v", got)
	}
}

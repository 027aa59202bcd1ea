package engine

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// posted admits the requests of a session one after another, each received so many seconds after foldStart, and returns the triggers of
// each: kind, seconds after foldStart when it is due, and of its instant if it has one.
func posted(t *testing.T, settle time.Duration, w *Webhook, requests map[int][]Event) (triggers map[int][]string) {
	t.Helper()
	hooks := NewWebhookSet([]*Webhook{w}, nil)
	var head SessionHead
	var stored []Event
	triggers = make(map[int][]string)
	seconds := func(at time.Time) string { return fmt.Sprint(at.Sub(foldStart).Seconds()) }
	for _, sec := range slices.Sorted(maps.Keys(requests)) {
		events := slices.Clone(requests[sec])
		if len(stored) == 0 {
			events[0] = firstEvent(events[0])
		}
		a := NewAppend(events, foldStart.Add(time.Duration(sec)*time.Second))
		a.Settle, a.Open = settle, map[uint32]bool{w.ID: true}
		d, err := a.Admit(0, head, nil, hooks, MaxTriggers)
		if err != nil {
			t.Fatal(err)
		}
		if d.Late {
			a.AdmitLate(&d, stored, hooks, MaxTriggers)
		}
		stored, head = append(stored, d.Fresh...), d.Head
		for _, trigger := range d.Triggers {
			var text strings.Builder
			text.WriteString(fmt.Sprintf("%s %s", trigger.Kind, seconds(trigger.DueAt)))
			if !trigger.AsOf.IsZero() {
				text.WriteString(" as of " + seconds(trigger.AsOf))
			}
			for _, flag := range []struct {
				name string
				set  bool
			}{{" claimed", trigger.Claim}, {" moves", trigger.Moves}, {" only", trigger.MovesOnly}} {
				if flag.set {
					text.WriteString(flag.name)
				}
			}
			if trigger.Late > 0 {
				text.WriteString(fmt.Sprintf(" for %d after %d", trigger.Late, trigger.Before))
			}
			triggers[sec] = append(triggers[sec], text.String())
			if !trigger.Moves && trigger.Kind != KindUpdate {
				head.Deliveries = append(head.Deliveries, DeliveryRef{WebhookID: w.ID, Kind: trigger.Kind, ID: uuid.New()})
			}
		}
	}
	return triggers
}

// When triggers fire, by when their events were received.
func TestSettle(t *testing.T) {
	w := &Webhook{ID: 1, Active: true, Delay: 10, IncompleteDelay: 60, SendAnswers: true, SendLeads: true}
	incomplete, atOnce := *w, *w
	incomplete.SendIncomplete = true
	atOnce.Delay, atOnce.SendIncomplete, atOnce.IncompleteDelay = 0, true, 5
	start, finish := at(0, EventStart), at(20, EventFinish)
	tests := []struct {
		name     string
		settle   int
		hook     *Webhook
		requests map[int][]Event
		want     map[int][]string
	}{
		{"in time", 2, w, map[int][]Event{0: {start}, 20: {finish}}, map[int][]string{20: {"complete 30"}}},
		{"late", 2, w, map[int][]Event{35: {start}, 36: {finish}}, map[int][]string{36: {"complete 38"}}},
		{"late, switched off", 0, w, map[int][]Event{35: {start}, 36: {finish}}, map[int][]string{36: {"complete 36 claimed"}}},
		{"longer than the delay", 30, w, map[int][]Event{35: {start}, 36: {finish}}, map[int][]string{36: {"complete 46"}}},
		{"no delay", 2, &atOnce, map[int][]Event{0: {start}, 20: {finish}}, map[int][]string{0: {"incomplete 5 as of 5"}, 20: {"complete 20 claimed"}}},
		{"whole", 2, w, map[int][]Event{35: {start, finish}}, map[int][]string{35: {"complete 30 claimed"}}},
		{"whole without a start", 2, w, map[int][]Event{35: {leadAt(3, "a"), finish}}, map[int][]string{35: {"complete 30 claimed"}}},
		{"whole, finished after the instant", 2, &atOnce, map[int][]Event{35: {start, finish}}, map[int][]string{35: {"incomplete 5 as of 5", "complete 20"}}},
		{"a finish alone is not whole", 2, w, map[int][]Event{35: {finish}}, map[int][]string{35: {"complete 37"}}},
		{"started and finished behind a lead", 2, w, map[int][]Event{34: {leadAt(-5, "a")}, 35: {start, finish}}, map[int][]string{35: {"complete 30 claimed"}}},
		{"incomplete, late", 2, &incomplete, map[int][]Event{70: {start}}, map[int][]string{70: {"incomplete 72 as of 60"}}},
		{"the start moves it, once", 2, &incomplete, map[int][]Event{1: {leadAt(1, "a")}, 40: {at(40, EventStart)}, 41: {at(41, EventStart)}, 42: {at(30, EventStart)}},
			map[int][]string{1: {"incomplete 61 as of 61"}, 40: {"incomplete 100 as of 100 moves"}}},
		{"the start moves it forward", 2, &incomplete, map[int][]Event{50: {leadAt(50, "a")}, 51: {start}},
			map[int][]string{50: {"incomplete 110 as of 110"}, 51: {"incomplete 60 as of 60 moves"}}},
		{"a start behind the finish makes none", 2, &incomplete, map[int][]Event{100: {at(100, EventFinish)}, 101: {start}},
			map[int][]string{100: {"complete 110"}, 101: {"incomplete 103 as of 60 moves only", "update 111 for 1 after 1"}}},
	}
	for _, test := range tests {
		if got := posted(t, time.Duration(test.settle)*time.Second, test.hook, test.requests); fmt.Sprint(got) != fmt.Sprint(test.want) {
			t.Errorf("%s:\n got %v\nwant %v", test.name, got, test.want)
		}
	}
}

// What changes a payload, and for which webhooks.
func TestLateChanges(t *testing.T) {
	answers := &Webhook{ID: 1, Active: true, SendAnswers: true}
	leads := &Webhook{ID: 1, Active: true, SendLeads: true}
	first := []Event{at(0, EventStart), voteAt(1, 1, 11), resultAt(20, 1)}
	tests := []struct {
		name           string
		late           Event
		answers, leads bool // webhooks whose payload changes
	}{
		{"a vote", voteAt(2, 1, 12), true, false},
		{"the same vote", voteAt(2, 1, 11), false, false},
		{"a lead", leadAt(3, "a"), false, true},
		{"a finish behind the result", at(21, EventFinish), false, false},
		{"a finish before it", at(19, EventFinish), false, false},
		{"a second result", resultAt(22, 2), false, false},
		{"an earlier result", resultAt(18, 2), true, true},
		{"an earlier start", at(-3, EventStart), true, true},
		{"a later start", at(3, EventStart), false, false},
		{"a field of the session", at(21, EventFinish, identified(Identity{CustomID: new("c")})), true, true},
		{"a field that it has", at(21, EventFinish, identified(Identity{PoltioUserID: new(int64(9))})), false, false},
		{"an undo", at(3, EventUndo, func(ev *Event) { ev.QuestionID = 1 }), true, false},
		{"an undo of nothing", at(3, EventUndo, func(ev *Event) { ev.QuestionID = 7 }), false, false},
	}
	for _, test := range tests {
		for w, want := range map[*Webhook]bool{answers: test.answers, leads: test.leads} {
			got := posted(t, 0, w, map[int][]Event{20: first, 50: {test.late}})[50]
			if want != (len(got) == 1) || want && got[0] != "update 50 for 1 after 3" {
				t.Errorf("%s, answers %t, leads %t: %v", test.name, w.SendAnswers, w.SendLeads, got)
			}
		}
	}
}

// The effects of late events, and which update has them.
func TestLateEffect(t *testing.T) {
	trigger := &Trigger{Kind: KindUpdate, Late: 2, Before: 5}
	frozen := func(from int) *Delivery { return &Delivery{FrozenAt: foldStart, BuiltFrom: from} }
	updates, none := &Webhook{SendUpdates: true}, &Webhook{}
	for _, test := range []struct {
		name     string
		w        *Webhook
		complete *Delivery
		want     LateEffect
	}{
		{"not built yet", updates, &Delivery{Status: StatusScheduled}, LateNothing},
		{"cancelled before it was built", updates, &Delivery{Status: StatusCancelled}, LateNothing},
		{"built before", updates, frozen(5), LateUpdate},
		{"built before, by a version that did not count", updates, frozen(0), LateUpdate},
		{"built with them", updates, frozen(7), LateNothing},
		{"its retention has ended", updates, nil, LateUpdate},
		{"no updates", none, frozen(5), LateCounted},
		{"no updates, retention ended", none, nil, LateCounted},
		{"no updates, built with them", none, frozen(6), LateNothing},
	} {
		if got := trigger.LateEffect(test.w, test.complete); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
	for update, want := range map[*Delivery]bool{
		{Status: StatusScheduled}: true, {Status: StatusCancelled}: false, {Status: StatusPending, BuiltFrom: 5}: false,
		{Status: StatusDelivered, BuiltFrom: 6}: true,
	} {
		if got := trigger.HasLate(update); got != want {
			t.Errorf("%+v has them: %t, want %t", update, got, want)
		}
	}
}

// A payload supersedes what waits of earlier states, and no more.
func TestSupersede(t *testing.T) {
	end := foldStart.Add(time.Minute)
	tests := []struct {
		name   string
		kind   Kind // of the payload, built from 9 events
		other  Delivery
		finish time.Time
		want   SupersedeEffect
	}{
		{"incomplete, pending", KindComplete, Delivery{Kind: KindIncomplete, Status: StatusPending, AsOf: end}, end, SupersedeCancels},
		{"incomplete, scheduled, to be sent", KindComplete, Delivery{Kind: KindIncomplete, Status: StatusScheduled, AsOf: end.Add(-1)}, end, SupersedeCancels},
		{"incomplete, scheduled, finished by its instant", KindComplete, Delivery{Kind: KindIncomplete, Status: StatusScheduled, AsOf: end}, end, SupersedeDrops},
		{"incomplete, failed", KindComplete, Delivery{Kind: KindIncomplete, Status: StatusFailed}, end, SupersedeNothing},
		{"complete by incomplete", KindIncomplete, Delivery{Kind: KindComplete, Status: StatusPending}, end, SupersedeNothing},
		{"complete, pending", KindUpdate, Delivery{Kind: KindComplete, Status: StatusPending}, end, SupersedeCancels},
		{"complete, delivered without late events", KindUpdate, Delivery{Kind: KindComplete, Status: StatusDelivered, LateEvents: 3}, end, SupersedeTells},
		{"complete, delivered", KindUpdate, Delivery{Kind: KindComplete, Status: StatusDelivered}, end, SupersedeNothing},
		{"an update of fewer events", KindUpdate, Delivery{Kind: KindUpdate, Status: StatusPending, FrozenAt: foldStart, BuiltFrom: 8}, end, SupersedeCancels},
		{"an update of as many events", KindUpdate, Delivery{Kind: KindUpdate, Status: StatusPending, FrozenAt: foldStart, BuiltFrom: 9}, end, SupersedeNothing},
		{"an update to be built", KindUpdate, Delivery{Kind: KindUpdate, Status: StatusScheduled}, end, SupersedeNothing},
		{"a test", KindUpdate, Delivery{Kind: KindTest, Status: StatusPending}, end, SupersedeNothing},
		{"by a test", KindTest, Delivery{Kind: KindIncomplete, Status: StatusPending}, end, SupersedeNothing},
	}
	for _, test := range tests {
		f := Freeze{Delivery: Delivery{ID: uuid.New(), Kind: test.kind}, Events: 9, At: end}
		d := test.other
		if got := f.Supersede(&d, test.finish); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
		want := test.other
		switch test.want {
		case SupersedeCancels:
			want.Status, want.FinishedAt, want.SupersededBy = StatusCancelled, end, f.Delivery.ID
		case SupersedeTells:
			want.LateEvents = 0
		}
		if d != want {
			t.Errorf("%s: it becomes %+v, want %+v", test.name, d, want)
		}
	}
}

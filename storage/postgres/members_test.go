package postgres

import (
	"slices"
	"testing"
	"time"

	"hookbolt/engine"
)

func (n *node) look(t *testing.T) *engine.Fleet {
	t.Helper()
	f, err := n.Fleet(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range f.Members {
		if m.BeatAge < 0 || m.BeatAge > deadAfter*defaultBeat+time.Second {
			t.Errorf("the beat of member %d is %s old", m.ID, m.BeatAge)
		}
	}
	return f
}

// same is what every member must tell alike: all but which one tells it, and the ages of beats, which each one measures.
func same(f *engine.Fleet) []engine.Member {
	members := slices.Clone(f.Members)
	for i := range members {
		members[i].This, members[i].BeatAge = false, 0
	}
	return members
}

func stateOfMember(f *engine.Fleet, id int64) engine.MemberState {
	for i := range f.Members {
		if f.Members[i].ID == id {
			return f.Members[i].State
		}
	}
	return ""
}

// Each member tells the same of all of them.
func TestFleetToldAlike(t *testing.T) {
	inBubble(t, func(t *testing.T, schema string) {
		all := fleetOf(t, schema, 2)
		hooks := hooksOf(t, all)
		a, b, w := all[0], all[1], hooks[0][0]
		queueTest(t, a.Store, w, benchNow())
		if n := len(claimIn(t, a.Store, testsOf(w), 1).Claimed); n != 1 {
			t.Fatalf("%d were claimed", n)
		}
		time.Sleep(2 * time.Second) // a beat tells of the claim
		of, there := a.look(t), b.look(t)
		if !slices.Equal(same(of), same(there)) {
			t.Errorf("one tells %+v\nthe other %+v", of, there)
		}
		keepers := 0
		for i, m := range there.Members {
			n := all[i]
			want := engine.Member{ID: n.memberID.Load(), Host: n.fleet.about.Host, State: engine.MemberWorking, JoinedAt: m.JoinedAt, BeatAge: m.BeatAge, Webhooks: len(hooks[i]), InFlight: int64(1 - i),
				This: i == 1, Keeper: n.fleet.keeper()}
			if m != want || m.JoinedAt.IsZero() || m.BeatAge > 1100*time.Millisecond {
				t.Errorf("member %d is told as %+v, want %+v", i, m, want)
			}
			if m.Keeper {
				keepers++
			}
			for _, w := range hooks[i] {
				if o := of.Owner(w.ID); o == nil || o.ID != m.ID {
					t.Errorf("webhook %d of member %d is told to be of %+v", w.ID, m.ID, o)
				}
			}
		}
		if len(there.Members) != 2 || keepers != 1 || !there.HasKeeper() || there.Unowned != 0 {
			t.Errorf("%d members, %d keepers, %d webhooks are nobody's", len(there.Members), keepers, there.Unowned)
		}
		figures := b.Figures()
		if figures.Owned != len(hooks[1]) || figures.Keeper != b.fleet.keeper() || figures.BeatAge > 1100*time.Millisecond || figures.TookOver != 0 {
			t.Errorf("figures: %+v", figures)
		}
	})
}

// A member that gives no sign of life is away, by the clock of the one that tells; once it is taken over it is not told of any more, and comes back as another one.
func TestFleetTellsWhoIsAway(t *testing.T) {
	inBubble(t, func(t *testing.T, schema string) {
		all := fleetOf(t, schema, 2)
		hooksOf(t, all)
		a, b, was := all[0], all[1], all[0].memberID.Load()
		a.line.cut()
		cut, away := time.Now(), time.Duration(0)
		for {
			f := b.look(t)
			state, since := stateOfMember(f, was), time.Since(cut)
			if state == "" {
				if since < 7*time.Second || since > 10*time.Second || f.Unowned > 0 && len(f.Members) != 1 {
					t.Errorf("it is not told of any more after %s: %+v", since, f)
				}
				break
			}
			if away == 0 && state == engine.MemberAway {
				away = since
			}
			if since > time.Minute {
				t.Fatal("it is told of for ever")
			}
			time.Sleep(50 * time.Millisecond)
		}
		if away < 4*time.Second || away > 6*time.Second {
			t.Errorf("it is away after %s, want 5 s after its last beat", away)
		}
		if f := a.Figures(); f.BeatAge < 8*time.Second {
			t.Errorf("its own beat is %s old", f.BeatAge)
		}
		time.Sleep(3 * time.Second)
		if f := b.look(t); f.Unowned != 0 || !f.HasKeeper() || b.Figures().TookOver != 1 {
			t.Errorf("after it was taken over: %+v, taken over %d", f, b.Figures().TookOver)
		}
		a.line.mend()
		_, err := appendOne(a.Store)
		for err != nil {
			time.Sleep(time.Second)
			_, err = appendOne(a.Store)
		}
		<-a.ended
		if f := b.look(t); len(f.Members) != 2 || stateOfMember(f, a.MemberID()) != engine.MemberStarting || a.MemberID() == was {
			t.Errorf("it is back, and does not watch yet: %+v", f)
		}
		a.watch()
		time.Sleep(3 * time.Second)
		a.Drain()
		time.Sleep(3 * time.Second)
		of, there := a.look(t), b.look(t)
		if stateOfMember(there, a.MemberID()) != engine.MemberDraining || !slices.Equal(same(of), same(there)) || there.Members[1].Webhooks != 0 {
			t.Errorf("it drains: %+v", there)
		}
		a.leave()
		if f := b.look(t); len(f.Members) != 1 || !f.Members[0].This {
			t.Errorf("it has left: %+v", f)
		}
		time.Sleep(5 * time.Second)
		if got := b.Figures().TookOver; got != 1 {
			t.Errorf("one that has left counts as taken over: %d", got)
		}
	})
}

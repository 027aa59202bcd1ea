package transform

import (
	"testing"
	"time"
)

// alone is a payload that is too large for a group.
var alone = make([]byte, maxGroupBytes)

// enqueued adds a job of an owner to a schedule. It runs alone.
func enqueued(s *schedule, owner uint32) *place {
	at := newPlace(&Job{Payload: alone})
	s.enqueue(at, owner)
	return at
}

// runs tells whether a job was let run. It gives it a worker that was killed already, so that nothing happens when it is killed again.
func runs(at *place) bool {
	select {
	case <-at.granted:
		at.worker = &worker{cause: endedMoved}
		return true
	default:
		return at.worker != nil
	}
}

// Owners that nobody knows get half of the places, and who is known gets one at once.
func TestScheduleKeepsAPlaceForTheKnown(t *testing.T) {
	s := newSchedule(3, 1)
	s.release(started(t, &s, 1), time.Millisecond) // 1 is known now
	for owner := range uint32(5) {
		at := enqueued(&s, 10+owner)
		if got, want := runs(at), owner < 1; got != want {
			t.Errorf("unknown owner %d: runs is %t", owner, got)
		}
	}
	if !runs(enqueued(&s, 1)) {
		t.Error("the known owner has no place")
	}
}

// started lets a job of an owner run.
func started(t *testing.T, s *schedule, owner uint32) *place {
	t.Helper()
	at := enqueued(s, owner)
	if !runs(at) {
		t.Fatalf("owner %d does not run", owner)
	}
	return at
}

// Owners take turns, however many jobs one of them has.
func TestScheduleTakesTurns(t *testing.T) {
	s := newSchedule(2, 1)
	first := started(t, &s, 1)
	var waiting []*place
	for range 3 {
		waiting = append(waiting, enqueued(&s, 1))
	}
	other := enqueued(&s, 2)
	if runs(other) {
		t.Fatal("an unknown owner has the last place")
	}
	s.release(first, time.Millisecond)
	if !runs(waiting[0]) || !runs(other) { // 1 is known, and 2 gets the place of the unknown
		t.Errorf("after the first job: %t, %t", runs(waiting[0]), runs(other))
	}
	s.release(waiting[0], time.Millisecond)
	s.release(other, time.Millisecond)
	third := enqueued(&s, 2)
	if !runs(waiting[1]) || runs(waiting[2]) || !runs(third) {
		t.Errorf("both are known: %t, %t, %t", runs(waiting[1]), runs(waiting[2]), runs(third))
	}
}

// Owners who keep all places busy leave one to others, from time to time.
func TestScheduleStarvesNobody(t *testing.T) {
	s := newSchedule(2, 1)
	s.release(started(t, &s, 1), time.Millisecond)
	s.release(started(t, &s, 2), time.Millisecond)
	first, second := started(t, &s, 1), started(t, &s, 2)
	newcomer := enqueued(&s, 3)
	enqueued(&s, 1)
	enqueued(&s, 2)
	if runs(newcomer) {
		t.Fatal("there is no room")
	}
	s.release(first, time.Millisecond)
	if !runs(newcomer) {
		t.Error("the known come first again")
	}
	s.release(newcomer, cheapBelow)
	if s.owners[3].class != unknown {
		t.Errorf("an owner whose job took %s is of class %d", cheapBelow, s.owners[3].class)
	}
	s.release(second, time.Millisecond)
}

// A job that takes long becomes slow, and gives its place to others.
func TestScheduleMovesSlowJobs(t *testing.T) {
	s := newSchedule(2, 1)
	long := started(t, &s, 1)
	s.turnSlow(long)
	if long.class != slow {
		t.Fatal("there is room among the slow, and it is not there")
	}
	second := started(t, &s, 2)
	s.turnSlow(second)
	if second.class == slow || len(s.overdue) != 1 {
		t.Fatal("there is no room among the slow")
	}
	third := enqueued(&s, 3)
	if runs(third) || len(s.overdue) != 0 {
		t.Fatal("the second was not ended for the third")
	}
	s.release(second, slowAfter)
	s.enqueue(second, 2) // it starts anew
	if !runs(third) || runs(second) {
		t.Errorf("third runs: %t, second runs: %t", runs(third), runs(second))
	}
	s.release(long, time.Second)
	if !runs(second) || second.class != slow {
		t.Error("the second does not run as slow")
	}
}

// A slow owner whose job is fast again is no longer slow; of slow ones, those come first that were slow less often.
func TestScheduleForgives(t *testing.T) {
	s := newSchedule(2, 1)
	for range 3 {
		s.release(started(t, &s, 1), time.Second)
	}
	s.release(started(t, &s, 2), time.Second)
	busy := started(t, &s, 1)
	again, other := enqueued(&s, 1), enqueued(&s, 2)
	s.release(busy, time.Second)
	if runs(again) || !runs(other) {
		t.Error("who was slow four times comes before who was slow once")
	}
	s.release(other, time.Millisecond)
	if s.owners[2].class != unknown {
		t.Errorf("after a fast job: class %d", s.owners[2].class)
	}
}

// What was given up leaves nothing behind, and a schedule does not remember owners without end.
func TestScheduleForgets(t *testing.T) {
	s := newSchedule(2, 1)
	at := started(t, &s, 1)
	waiting := enqueued(&s, 1)
	if !s.withdraw(waiting) || s.withdraw(at) {
		t.Error("withdraw")
	}
	s.release(at, 0)
	if s.owners[1].class != unknown || s.running != [classes]int{} || len(s.queues[known])+len(s.queues[unknown]) > 0 {
		t.Errorf("%+v", s)
	}
	for owner := range uint32(maxOwners + 100) {
		s.release(started(t, &s, owner), time.Millisecond)
	}
	if len(s.owners) > maxOwners {
		t.Errorf("%d owners are remembered", len(s.owners))
	}
}

// One job that took long, as on a new worker, makes nobody unknown; many do. Who is unknown becomes known with one job.
func TestScheduleAverages(t *testing.T) {
	s := newSchedule(2, 1)
	for _, c := range []struct {
		took time.Duration
		want class
	}{
		{slowAfter - 1, unknown}, {cheapBelow, unknown}, {time.Millisecond, known},
		{slowAfter - 1, known}, {time.Millisecond, known}, {slowAfter - 1, unknown}, {time.Millisecond, known},
		{slowAfter, slow}, {time.Millisecond, unknown}, {time.Millisecond, known},
	} {
		s.release(started(t, &s, 1), c.took)
		if got := s.owners[1].class; got != c.want {
			t.Fatalf("after a job of %s: class %d, want %d", c.took, got, c.want)
		}
	}
}

package transform

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"
)

// Jobs wait together while a job of their owner runs, and then run together, if their owner is known and they have the same programs, up to
// limits. Another worker is for a group that is full.
func TestScheduleGroups(t *testing.T) {
	small, other := &Job{Payload: []byte("{}")}, &Job{Payload: []byte("{}"), Programs: Programs{Filter: "other"}}
	half := &Job{Payload: alone[:maxGroupBytes/2]}
	repeat := func(job *Job, n int) []*Job { return slices.Repeat([]*Job{job}, n) }
	for _, c := range []struct {
		name string
		cost time.Duration // of the owner's jobs
		jobs []*Job        // while one runs
		want []int         // the groups that have begun once that one has ended
	}{
		{"one", 1, repeat(small, 1), []int{1}},
		{"some", 1, repeat(small, 5), []int{5}},
		{"many", 1, repeat(small, maxGroup+5), []int{maxGroup}}, // the others wait for more
		{"more than two groups", 1, repeat(small, 2*maxGroup+5), []int{maxGroup, maxGroup}},
		{"costly ones", groupTime/3 + 1, repeat(small, 5), []int{2, 2}},
		{"an owner that is not known", cheapBelow, repeat(small, 5), []int{1}},
		{"large ones", 1, repeat(half, 3), []int{2}},
		{"one larger than a group", 1, repeat(&Job{Payload: append(alone, ' ')}, 1), []int{1}},
		{"other programs", 1, []*Job{small, small, other, small}, []int{2, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSchedule(3, 1)
			s.release(started(t, &s, 1), c.cost)
			first := started(t, &s, 1)
			var places []*place
			for _, job := range c.jobs {
				places = append(places, newPlace(job))
				s.enqueue(places[len(places)-1], 1)
			}
			s.release(first, c.cost)
			var got []int
			for _, at := range places {
				if runs(at) {
					got = append(got, 1+len(at.group))
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("groups of %v, want %v", got, c.want)
			}
		})
	}
}

// An owner who is not known has no group, also if it was known when its jobs came.
func TestScheduleGroupsNoneOfTheSlow(t *testing.T) {
	s := newSchedule(2, 1)
	s.release(started(t, &s, 1), 1)
	first := started(t, &s, 1)
	small := &Job{Payload: []byte("{}")}
	for range 3 {
		s.enqueue(newPlace(small), 1)
	}
	s.release(first, slowAfter)
	if o := s.owners[1]; o.running != 1 || len(o.waiting) != 2 {
		t.Errorf("%d run, and %d wait", o.running, len(o.waiting))
	}
}

// A job whose context has ended when it is its turn leaves the others of its group theirs.
func TestPoolGroupOfTheUnwanted(t *testing.T) {
	pool := NewPool(Options{})
	defer pool.Close()
	for range 100 { // what is ready first is chance
		first, second := newPlace(&Job{Payload: []byte("{}")}), newPlace(&Job{Payload: []byte("{}")})
		pool.schedule.owners[1] = &owner{id: 1, class: known, waiting: []*place{second}}
		first.owner = pool.schedule.owners[1] // it has run before, and goes before the other
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := pool.enter(ended, first, 1); err == nil {
			pool.leave(first, 0)
			continue
		}
		if ended, _ := errors.AsType[*endedError](second.err); !second.answered || ended == nil {
			t.Fatalf("the other: %t, %v", second.answered, second.err)
		}
		return
	}
	t.Fatal("a job whose context has ended is granted each time")
}

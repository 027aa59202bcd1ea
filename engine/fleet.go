package engine

import (
	"context"
	"time"
)

// Fleet is what there is to know of the processes that share a store, at one moment. Each of them tells the same.
type Fleet struct {
	// Members are the processes, in the order in which they joined.
	Members []Member
	// Owners are the ids of the members that own the lanes of each webhook. Webhooks whose lanes nobody owns at the moment are missing.
	Owners map[uint32]int64
	// Unowned is how many webhooks have lanes that nobody owns.
	Unowned int
}

// Member is a process of a fleet.
type Member struct {
	// ID is given when a process joins, and never again. A process that others had taken for dead joins under a new one.
	ID int64
	// Host is the name of its machine or container, Release its version of hookbolt; "" if they are not known.
	Host, Release string
	State         MemberState
	// JoinedAt is when it joined, by the clock of its own machine.
	JoinedAt time.Time
	// BeatAge is how long ago the process that tells this has heard of it, by its own clock.
	BeatAge time.Duration
	// Webhooks is how many webhooks' lanes it owns, InFlight how many deliveries it has claimed.
	Webhooks int
	InFlight int64
	// This tells that it is the process that was asked, Keeper that it does the background work.
	This, Keeper bool
}

// MemberState is what a member does, in a word.
type MemberState string

const (
	// MemberStarting takes requests, and owns no lanes yet.
	MemberStarting MemberState = "starting"
	// MemberWorking takes requests, and makes the deliveries of its lanes.
	MemberWorking MemberState = "working"
	// MemberDraining gives its lanes to others, because it is about to end, or somebody has asked for it.
	MemberDraining MemberState = "draining"
	// MemberAway has given no sign of life for so long that it makes no attempts. Others take its lanes over if that goes on.
	MemberAway MemberState = "away"
)

// MemberStates are all states.
var MemberStates = []MemberState{MemberStarting, MemberWorking, MemberDraining, MemberAway}

// HasKeeper reports whether a member does the background work.
func (f *Fleet) HasKeeper() bool {
	for i := range f.Members {
		if f.Members[i].Keeper {
			return true
		}
	}
	return false
}

// Owner returns the member that owns the lanes of a webhook; nil if nobody does.
func (f *Fleet) Owner(webhookID uint32) *Member {
	id, ok := f.Owners[webhookID]
	for i := range f.Members {
		if ok && f.Members[i].ID == id {
			return &f.Members[i]
		}
	}
	return nil
}

// Fleet returns what there is to know of the processes that share the store; nil if the store belongs to one process. A Store of a fleet has a method
// Fleet of its own.
func (e *Engine) Fleet(ctx context.Context) (*Fleet, error) {
	if store, ok := e.store.(interface {
		Fleet(context.Context) (*Fleet, error)
	}); ok {
		return store.Fleet(ctx)
	}
	return nil, nil
}

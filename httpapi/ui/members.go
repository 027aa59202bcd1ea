package ui

import (
	"html/template"
	"slices"
	"strconv"
	"strings"
	"time"

	"hookbolt/engine"
)

// memberRow is a process of a fleet with what a glance at it should tell.
type memberRow struct {
	engine.Member
	now time.Time
}

// maxMembersShown bounds how many members the overview lists. Those that are away are always among them, before the others.
const maxMembersShown = 10

// membersOf lists the members of a fleet, and counts those that are not in the list.
func membersOf(f *engine.Fleet, now time.Time) (rows []memberRow, more int64) {
	if f == nil {
		return nil, 0
	}
	for _, m := range f.Members {
		rows = append(rows, memberRow{m, now})
	}
	if len(rows) <= maxMembersShown {
		return rows, 0
	}
	slices.SortStableFunc(rows, func(a, b memberRow) int { return strings.Compare(b.Mark(), a.Mark()) })
	return rows[:maxMembersShown], int64(len(rows) - maxMembersShown)
}

// Badge is the class of the badge with its state.
func (r memberRow) Badge() string {
	switch r.State {
	case engine.MemberWorking:
		return "ok"
	case engine.MemberAway:
		return "bad"
	case engine.MemberDraining:
		return "warn"
	}
	return "info"
}

// Mark is the class of a row that needs attention; "" for none.
func (r memberRow) Mark() string {
	if r.State == engine.MemberAway {
		return "bad"
	}
	return ""
}

// Since says how long it has been a member. Its clock may be ahead of this one: nothing joins in the future.
func (r memberRow) Since() template.HTML {
	joined := r.JoinedAt
	if joined.After(r.now) {
		joined = r.now
	}
	return ago(joined, r.now)
}

// heardLately is how old a beat may be that is said to have come just now: members beat every second.
const heardLately = 2 * time.Second

// Heard says how long ago it gave a sign of life.
func (r memberRow) Heard() string {
	if r.BeatAge < heardLately {
		return "just now"
	}
	return roughly(r.BeatAge.Truncate(time.Second)) + " ago"
}

// ownerOf names the member that owns a webhook's lanes; "" where there are no members.
func ownerOf(f *engine.Fleet, webhookID uint32) string {
	if f == nil {
		return ""
	}
	m := f.Owner(webhookID)
	if m == nil {
		return "none at the moment: another one takes it over"
	}
	name := "member " + strconv.FormatInt(m.ID, 10)
	if m.Host != "" {
		name += " on " + m.Host
	}
	return name
}

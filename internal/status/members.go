package status

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"hookbolt/internal/client"
	"hookbolt/internal/text"
)

// lateBeat is for how long a member has given no sign of life that makes no attempts any more.
const lateBeat = 5 * time.Second

// member is a process that shares the server's database.
type member struct {
	ID        int64
	Host      string
	Release   string
	State     string
	JoinedAt  time.Time `json:"joined_at"`
	BeatAgeMS int64     `json:"beat_age_ms"`
	Webhooks  float64
	InFlight  float64 `json:"in_flight"`
	Keeper    bool
	This      bool
}

// nameMembers reports the processes that share the database: each of them, if the token allows that. There are none with a file.
func (s *Report) nameMembers(ctx context.Context, c *client.Client, m scraped) {
	if age := seconds(m.value("hookbolt_postgres_beat_age_seconds")); age >= lateBeat {
		s.warn("this member has given no sign of life for %s, and makes no attempts: it does not reach PostgreSQL, or hangs", age)
	}
	family := "hookbolt_postgres_members"
	if m[family] == nil {
		return
	}
	row := []string{}
	for _, state := range m.labels(family, "state") {
		if n := m.value(family, "state", state); n > 0 {
			row = append(row, state+" "+number(n))
		}
	}
	if unowned := m.value("hookbolt_postgres_unowned_lanes"); unowned > 0 && !math.IsNaN(unowned) {
		row = append(row, "lanes that nobody owns "+number(unowned))
	}
	var list struct{ Items []member }
	if c.Call(ctx, http.MethodGet, "/v1/members", nil, &list) != nil { // it is a metrics token, or the database has just gone away
		s.row("members", row...)
		if away := m.value(family, "state", "away"); away > 0 {
			s.warn("members without a sign of life: %s (use an admin token to see which)", number(away))
		}
		return
	}
	var releases []string
	for i := range list.Items {
		if r := text.OneLine(list.Items[i].Release); r != "" && !slices.Contains(releases, r) {
			releases = append(releases, r)
		}
	}
	if len(releases) > 1 {
		row = append(row, "releases "+strings.Join(releases, " and "))
	}
	s.row("members", row...)
	for i := range list.Items {
		one := &list.Items[i]
		s.row("", one.parts()...)
		if one.State == "away" {
			s.warn("%s has given no sign of life for %s, and makes no attempts: others take its webhooks over", one.name(), one.age())
		}
	}
}

func (m *member) name() string {
	if m.Host == "" {
		return fmt.Sprintf("member %d", m.ID)
	}
	return fmt.Sprintf("member %d on %s", m.ID, text.OneLine(m.Host))
}

func (m *member) age() time.Duration { return seconds(float64(m.BeatAgeMS) / 1000) }

// parts are what the row of a member tells.
func (m *member) parts() []string {
	is := []string{}
	if m.Keeper {
		is = append(is, "background work")
	}
	if m.This {
		is = append(is, "this one")
	}
	return []string{m.name(), text.OneLine(m.State), "webhooks " + number(m.Webhooks), "in flight " + number(m.InFlight), "beat " + m.age().String() + " ago",
		"since " + m.JoinedAt.UTC().Format(time.RFC3339), text.OneLine(m.Release), strings.Join(is, ", ")}
}

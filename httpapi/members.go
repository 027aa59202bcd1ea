package httpapi

import (
	"net/http"

	"github.com/julienschmidt/httprouter"

	"hookbolt/engine"
)

// members tells of the processes that share a database. Items is empty for a server that keeps its data in a file.
type members struct {
	Items []member `json:"items"`
	// UnownedWebhooks is how many webhooks have deliveries that no member makes at the moment.
	UnownedWebhooks int `json:"unowned_webhooks"`
}

// member is one of these processes.
type member struct {
	ID       int64              `json:"id"`
	Host     *string            `json:"host"`
	Release  *string            `json:"release"`
	State    engine.MemberState `json:"state"`
	JoinedAt instant            `json:"joined_at"`
	// BeatAgeMS is how long ago the process that answers has heard of it.
	BeatAgeMS int64 `json:"beat_age_ms"`
	Webhooks  int   `json:"webhooks"`
	InFlight  int64 `json:"in_flight"`
	Keeper    bool  `json:"keeper"`
	This      bool  `json:"this"`
}

func (a *API) listMembers(r *http.Request, _ httprouter.Params) (any, error) {
	fleet, err := a.engine.Fleet(r.Context())
	if err != nil {
		return nil, err
	}
	answer := members{Items: []member{}}
	if fleet == nil {
		return answer, nil
	}
	answer.UnownedWebhooks = fleet.Unowned
	for i := range fleet.Members {
		m := &fleet.Members[i]
		answer.Items = append(answer.Items, member{ID: m.ID, Host: orNull(m.Host), Release: orNull(m.Release), State: m.State, JoinedAt: instant(m.JoinedAt),
			BeatAgeMS: m.BeatAge.Milliseconds(), Webhooks: m.Webhooks, InFlight: m.InFlight, Keeper: m.Keeper, This: m.This})
	}
	return answer, nil
}

// addOwner adds to a webhook which member owns its lanes; nothing where there are no members.
func addOwner(w webhook, fleet *engine.Fleet, id uint32) webhook {
	if fleet != nil {
		w.Add("member", orNull(fleet.Owners[id]))
	}
	return w
}

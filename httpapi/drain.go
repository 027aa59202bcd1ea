package httpapi

import (
	"context"
	"fmt"
	"net/http"

	"github.com/julienschmidt/httprouter"

	"hookbolt/engine"
)

// Fleet is a process among those that share its data. A balancer sends each request to any of them, so what one of them answers must hold at the
// others. Errors are like those of an engine.Store.
type Fleet interface {
	SignIns
	// Members is how many processes there are, this one included. It is cheap.
	Members() int
	// DrainByHand has this process give its lanes to others, until BackFromDrain. Both return at once, with the state, as DrainState does.
	DrainByHand(context.Context) (engine.Drain, error)
	BackFromDrain(context.Context) (engine.Drain, error)
	DrainState(context.Context) (engine.Drain, error)
}

// drain is how far this process is with giving its lanes to others.
type drain struct {
	Draining bool `json:"draining"`
	// Lanes is how many webhooks' lanes the process owns, Free how many nobody owns at the moment.
	Lanes int `json:"lanes"`
	Free  int `json:"free"`
	// Background reports that it does the background work: retention, replays and the like.
	Background bool `json:"background"`
	// Others is how many other processes can own lanes.
	Others int `json:"others"`
}

// errNoFleet is the answer where the data is in a file.
var errNoFleet = fmt.Errorf("%w: the data is in a file, which this process has for itself: there is no other one that could take its lanes. "+
	"To take it out, stop it; what is due is sent after the next start", engine.ErrConflict)

func (a *API) getDrain(r *http.Request, _ httprouter.Params) (any, error) {
	return a.showDrain(r, Fleet.DrainState)
}

func (a *API) postDrain(r *http.Request, _ httprouter.Params) (any, error) {
	return a.showDrain(r, Fleet.DrainByHand)
}

func (a *API) deleteDrain(r *http.Request, _ httprouter.Params) (any, error) {
	return a.showDrain(r, Fleet.BackFromDrain)
}

// showDrain makes a call of the fleet and shows the state that it returns.
func (a *API) showDrain(r *http.Request, call func(Fleet, context.Context) (engine.Drain, error)) (any, error) {
	if a.fleet == nil {
		return nil, errNoFleet
	}
	d, err := call(a.fleet, r.Context())
	if err != nil {
		return nil, err
	}
	return drain{d.On, d.Lanes, d.Free, d.Keeper, d.Others}, nil
}

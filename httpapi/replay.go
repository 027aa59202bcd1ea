package httpapi

import (
	"net/http"

	"github.com/julienschmidt/httprouter"

	"hookbolt/engine"
)

// replay is a replay in a response.
type replay struct {
	Status engine.ReplayScope `json:"status"`
	Error  *engine.ErrorClass `json:"error"`
	Since  instant            `json:"since"`
	Until  instant            `json:"until"`
	DryRun bool               `json:"dry_run"`
	// Count is how many deliveries it sends, Queued how many of them are in their lane so far.
	Count  int64 `json:"count"`
	Queued int64 `json:"queued"`
}

func showReplay(r *engine.Replay) replay {
	return replay{r.Scope, orNull(r.Error), instant(r.Since), instant(r.Until), r.DryRun, r.Count, r.Done}
}

// status is 200 for a dry run, because nothing goes on after the response.
func (r replay) status() int {
	if r.DryRun {
		return http.StatusOK
	}
	return http.StatusAccepted
}

func (a *API) replayWebhook(r *http.Request, ps httprouter.Params) (any, error) {
	id, err := webhookID(ps)
	if err != nil {
		return nil, err
	}
	body, err := a.readBody(r, maxCommand)
	if err != nil {
		return nil, err
	}
	return a.once(r, onceCall{
		body: body,
		do: func(o *engine.Once) (any, error) {
			ask, err := engine.ParseReplay(body)
			if err != nil {
				return nil, err
			}
			ask.WebhookID, ask.Once = id, o
			done, err := a.engine.Replay(r.Context(), ask)
			if err != nil {
				return nil, err
			}
			return showReplay(&done), nil
		},
		again: func(done *engine.Done) (any, error) { return showReplay(done.Replay), nil },
	})
}

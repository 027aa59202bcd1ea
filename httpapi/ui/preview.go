package ui

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"hookbolt/engine"
)

// preview is the form for what a webhook would send for a session, and that.
type preview struct {
	// Fitting are the webhooks that the session can be sent to, Others those for another content.
	Fitting, Others []webhookChoice
	TooMany         bool // too many webhooks for a drop-down list
	Webhook, AsOf   *input
	Sent            *sentView // nil before the form was sent
}

// preview builds what the chosen webhook would send, if one was chosen.
func (p *Pages) preview(r *http.Request, s *engine.Session) (*preview, error) {
	query := r.URL.Query()
	example := s.StartedAt.Add(time.Second - time.Nanosecond).UTC() // to the second, at which something had happened
	pre := &preview{
		Webhook: &input{Name: "webhook_id", Label: "Webhook", Kind: numberInput, Value: strings.TrimSpace(query.Get("webhook_id")), Placeholder: "its id"},
		AsOf: &input{Name: "as_of", Label: "As of (UTC)", Kind: textInput, Value: strings.TrimSpace(query.Get("as_of")), Placeholder: "now",
			Help: "With what had happened by then, such as " + example.Format("2006-01-02 15:04:05") + ". Empty: now."},
	}
	hooks := p.engine.Webhooks()
	if pre.TooMany = len(hooks) > maxChoices; !pre.TooMany {
		for _, w := range hooks {
			list := &pre.Fitting
			if w.ContentID != nil && *w.ContentID != s.Identity.ContentID {
				list = &pre.Others
			}
			id := strconv.FormatUint(uint64(w.ID), 10)
			*list = append(*list, webhookChoice{w.ID, nameOf(w), id == pre.Webhook.Value})
		}
	}
	if pre.Webhook.Value == "" {
		return pre, nil
	}
	id, err := strconv.ParseUint(pre.Webhook.Value, 10, 32)
	if err != nil || id == 0 {
		pre.Webhook.Error = "There is no such webhook."
	}
	var at time.Time
	if pre.AsOf.Value != "" {
		if at, err = parseTime(pre.AsOf.Value); err != nil {
			pre.AsOf.Error = err.Error()
		}
	}
	if pre.Webhook.Error != "" || pre.AsOf.Error != "" {
		return pre, nil
	}
	built, err := p.engine.Preview(r.Context(), engine.PreviewRequest{WebhookID: uint32(id), SessionID: s.ID, AsOf: at})
	bad, isInput := errors.AsType[engine.InputErrors](err)
	switch {
	case err == nil:
		pre.Sent = viewSent(&built)
	case isInput:
		pre.AsOf.Error = bad[0].Detail
	case errors.Is(err, engine.ErrConflict):
		pre.Webhook.Error = "The webhook is for another content: the session is not sent there."
	case errors.Is(err, engine.ErrNotFound):
		pre.Webhook.Error = "There is no such webhook."
	default:
		return nil, err
	}
	return pre, nil
}

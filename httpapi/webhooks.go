package httpapi

import (
	"cmp"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/julienschmidt/httprouter"

	"hookbolt/engine"
	"hookbolt/httpapi/audit"
	"hookbolt/httpapi/jsonobject"
)

// webhook is a webhook in an answer: its settings in the order of engine.Settings, without those that are secret, and what hookbolt tells
// beside them.
type webhook = jsonobject.Object

// previousSecret is a secret or key that signs beside the present one: never itself, only which one it is and until when.
type previousSecret struct {
	Which      engine.SecretName `json:"which"`
	SignsUntil instant           `json:"signs_until"`
}

// health is what the last attempts tell of an endpoint. A failing one gets a probe at a time, a throttled one is held or slowed down.
type health struct {
	State         string  `json:"state"` // ok, failing or throttled
	Failures      int     `json:"failures"`
	FirstFailedAt instant `json:"first_failed_at"`
	FailingSince  instant `json:"failing_since"`
	NextProbeAt   instant `json:"next_probe_at"`
	// Throttle is null unless the endpoint has refused load lately.
	Throttle *throttle `json:"throttle"`
}

// throttle is what an endpoint's refusals of load have led to.
type throttle struct {
	HeldUntil instant `json:"held_until"`
	// Rate is what the webhook is slowed down to, in attempts a second; null while it is held, and if there is no limit.
	Rate *float64 `json:"rate"`
}

func showHealth(h engine.Health) health {
	shown := health{"ok", h.Failures, instant(h.FirstFailedAt), instant(h.FailingSince), instant(h.NextProbeAt), nil}
	rate, throttled := h.Throttled(time.Now())
	if throttled {
		shown.State, shown.Throttle = "throttled", &throttle{HeldUntil: instant(h.Throttle.HeldUntil)}
		if rate > 0 {
			shown.Throttle.Rate = new(math.Round(rate*1000) / 1000)
		}
	}
	if h.Failing() {
		shown.State, shown.NextProbeAt = "failing", instant(h.NextAttemptAt())
	}
	return shown
}

// showWebhook shows a webhook without its secrets and credentials.
func showWebhook(w *engine.Webhook, h engine.Health) webhook {
	var shown webhook
	shown.Add("id", w.ID)
	for i := range engine.Settings {
		s := &engine.Settings[i]
		if !s.Shown() {
			continue
		}
		shown.Add(s.Name, s.Get(w))
		switch s.Name { // what belongs to it, and is no setting
		case "name":
			shown.Add("operations", w.Operations) // it gets operational events, and no sessions
		case "paused":
			shown.Add("pause_reason", orNull(w.PauseReason))
		}
	}
	previous := []previousSecret{}
	for _, p := range w.EarlierSecrets(time.Now()) {
		previous = append(previous, previousSecret{p.Which, instant(p.SignsUntil)})
	}
	shown.Add("health", showHealth(h))
	shown.Add("previous_secrets", previous)
	shown.Add("created_at", instant(w.CreatedAt))
	shown.Add("updated_at", instant(w.UpdatedAt))
	return shown
}

// showWithSecret shows a webhook in the answer to its creation or a rotation: the only ones that show its secrets without being asked for
// them. A key pair has none that endpoints need.
func showWithSecret(w *engine.Webhook, h engine.Health) webhook {
	shown, s := showWebhook(w, h), showSecrets(w)
	shown.Add("secret", s.Secret)
	shown.Add("signature_secret", s.SignatureSecret)
	return shown
}

// secrets are those that endpoints need.
type secrets struct {
	Secret string `json:"secret"`
	// SignatureSecret is the text that is the key of the HMAC in signature.header; null without one.
	SignatureSecret *string `json:"signature_secret"`
}

func showSecrets(w *engine.Webhook) secrets {
	return secrets{string(w.Secret), orNull(string(w.BodySecret()))}
}

// showCreated returns the response to the creation of a webhook: it says where the webhook is.
func showCreated(w *engine.Webhook, h engine.Health) reply {
	created := showTagged(showWithSecret(w, h), w)
	created.header["Location"] = "/v1/webhooks/" + strconv.FormatUint(uint64(w.ID), 10)
	return created
}

func (a *API) postWebhook(r *http.Request, _ httprouter.Params) (any, error) {
	body, err := a.readBody(r, maxSettings)
	if err != nil {
		return nil, err
	}
	return a.once(r, onceCall{
		body: body,
		do: func(o *engine.Once) (any, error) {
			patch, err := engine.ParseWebhookPatch(body)
			if err != nil {
				return nil, err
			}
			w, err := a.engine.CreateWebhook(r.Context(), patch.Once(o))
			if err != nil {
				return nil, err
			}
			audit.Record(r.Context(), w.ID, patch.Changes(new(engine.DefaultWebhook())))
			return showCreated(&w, engine.Health{}), nil
		},
		again: func(done *engine.Done) (any, error) {
			w, err := a.engine.Webhook(done.WebhookID)
			if err != nil {
				return nil, err
			}
			audit.Record(r.Context(), w.ID, nil)
			health, err := a.engine.Health(r.Context(), w.ID)
			return showCreated(&w, health[w.ID]), err
		},
	})
}

// page is a page of a list. NextCursor is null on the last one.
type page[T any] struct {
	Items      []T     `json:"items"`
	NextCursor *string `json:"next_cursor"`
}

// listWebhooks lists webhooks by id. content_id chooses those that are set to that content; those for every content are not among them.
// The cursor is the last id of the page before.
func (a *API) listWebhooks(r *http.Request, _ httprouter.Params) (any, error) {
	q := queryOf(r)
	limit, contentID, cursor := q.limit(), q.uuid("content_id"), q.cursor()
	after := uint32(0)
	if cursor != "" {
		var ok bool
		if after, ok = parseWebhookID(cursor); !ok {
			q.badCursor()
		}
	}
	if err := q.err(); err != nil {
		return nil, err
	}
	all := a.engine.Webhooks()
	start, _ := slices.BinarySearchFunc(all, uint64(after)+1, func(w *engine.Webhook, id uint64) int { return cmp.Compare(uint64(w.ID), id) })
	answer := page[webhook]{Items: []webhook{}}
	var shown []*engine.Webhook
	for _, w := range all[start:] {
		if contentID != uuid.Nil && (w.ContentID == nil || *w.ContentID != contentID) {
			continue
		}
		if len(shown) == limit {
			answer.NextCursor = new(strconv.FormatUint(uint64(after), 10))
			break
		}
		shown, after = append(shown, w), w.ID
	}
	health, err := a.engine.Health(r.Context(), engine.WebhookIDs(shown)...)
	if err != nil {
		return nil, err
	}
	for _, w := range shown {
		answer.Items = append(answer.Items, showWebhook(w, health[w.ID]))
	}
	return answer, nil
}

// webhookID reads the id of the path. What cannot be an id is not found, like an id that nobody has.
func webhookID(ps httprouter.Params) (uint32, error) {
	id, ok := parseWebhookID(ps.ByName("id"))
	if !ok {
		return 0, fmt.Errorf("webhook %q: %w", engine.Excerpt(ps.ByName("id")), engine.ErrNotFound)
	}
	return id, nil
}

// deliveryCounts counts a webhook's deliveries by status; Due are those of the scheduled and pending ones whose time has come,
// WithLateEvents those that lack events that came later, and Parked the failed ones whose body the webhook's programs could not build.
type deliveryCounts struct {
	Scheduled      int64   `json:"scheduled"`
	Pending        int64   `json:"pending"`
	Delivered      int64   `json:"delivered"`
	Failed         int64   `json:"failed"`
	Cancelled      int64   `json:"cancelled"`
	Filtered       int64   `json:"filtered"`
	Due            int64   `json:"due"`
	OldestDueAt    instant `json:"oldest_due_at"`
	WithLateEvents int64   `json:"with_late_events"`
	Parked         int64   `json:"parked"`
}

func (a *API) getWebhook(r *http.Request, ps httprouter.Params) (any, error) {
	id, err := webhookID(ps)
	if err != nil {
		return nil, err
	}
	w, err := a.engine.Webhook(id)
	if err != nil {
		return nil, err
	}
	overview, err := a.engine.Overview(r.Context())
	if err != nil {
		return nil, err
	}
	replays := []replay{}
	for i := range overview.Replays {
		if r := &overview.Replays[i]; r.WebhookID == id {
			replays = append(replays, showReplay(r))
		}
	}
	certificate, _ := a.engine.ClientCertificate(&w) // what is wrong with its files, attempts say
	fleet, err := a.engine.Fleet(r.Context())
	if err != nil {
		return nil, err
	}
	health, err := a.engine.Health(r.Context(), id)
	if err != nil {
		return nil, err
	}
	shown := showDetail(showWebhook(&w, health[id]), overview.PerWebhook[id], replays, certificate)
	return showTagged(addOwner(shown, fleet, id), &w), nil
}

// clientCertificate is what an endpoint sees of a webhook's client certificate.
type clientCertificate struct {
	Subject   string  `json:"subject"`
	Issuer    string  `json:"issuer"`
	ExpiresAt instant `json:"expires_at"`
}

func showCertificate(c *engine.ClientCertificate) *clientCertificate {
	if c == nil {
		return nil
	}
	return &clientCertificate{c.Subject, c.Issuer, instant(c.ExpiresAt)}
}

// showDetail adds to a webhook what is kept for it, its replays on their way, and its client certificate.
func showDetail(w webhook, s engine.WebhookStats, replays []replay, certificate *engine.ClientCertificate) webhook {
	w.Add("deliveries", deliveryCounts{
		Scheduled: s.Scheduled, Pending: s.Pending, Delivered: s.Delivered, Failed: s.Failed, Cancelled: s.Cancelled, Filtered: s.Filtered,
		Due: s.Due, OldestDueAt: instant(s.OldestDueAt), WithLateEvents: s.Late, Parked: s.Parked,
	})
	w.Add("replays", replays)
	w.Add("client_certificate", showCertificate(certificate))
	return w
}

// patchWebhook merges settings that are objects with what is set. With replace they take its place, for a caller who knows the whole of them
// and does not see what is set: a file of webhooks.
func (a *API) patchWebhook(r *http.Request, ps httprouter.Params) (any, error) {
	id, err := webhookID(ps)
	if err != nil {
		return nil, err
	}
	q, parse := queryOf(r), engine.ParseMergePatch
	if q.flag("replace") {
		parse = engine.ParseWebhookPatch
	}
	if err := q.err(); err != nil {
		return nil, err
	}
	body, err := a.readBody(r, maxSettings)
	if err != nil {
		return nil, err
	}
	patch, err := parse(body)
	if err != nil {
		return nil, err
	}
	only, err := ifMatch(r)
	if err != nil {
		return nil, err
	}
	present, err := a.engine.Webhook(id)
	if err != nil {
		return nil, err
	}
	audit.Record(r.Context(), id, patch.Changes(&present))
	w, err := a.engine.UpdateWebhook(r.Context(), id, patch.IfTag(only.tags))
	if err != nil {
		return nil, a.explain(err, id, only)
	}
	health, err := a.engine.Health(r.Context(), id)
	if err != nil {
		return nil, err
	}
	shown := showWebhook(&w.Webhook, health[id])
	shown.Add("dropped", append([]string{}, w.Dropped...))
	shown.Add("parked", w.Parked)
	return showTagged(shown, &w.Webhook), nil
}

func (a *API) deleteWebhook(r *http.Request, ps httprouter.Params) (any, error) {
	id, err := webhookID(ps)
	if err != nil {
		return nil, err
	}
	only, err := ifMatch(r)
	if err != nil {
		return nil, err
	}
	return nil, a.explain(a.engine.DeleteWebhookIfTag(r.Context(), id, only.tags), id, only)
}

func (a *API) getSecret(_ *http.Request, ps httprouter.Params) (any, error) {
	id, err := webhookID(ps)
	if err != nil {
		return nil, err
	}
	w, err := a.engine.Webhook(id)
	if err != nil {
		return nil, err
	}
	return showSecrets(&w), nil
}

func (a *API) rotateSecret(r *http.Request, ps httprouter.Params) (any, error) {
	id, err := webhookID(ps)
	if err != nil {
		return nil, err
	}
	body, err := a.readBody(r, maxCommand)
	if err != nil {
		return nil, err
	}
	only, err := ifMatch(r)
	if err != nil {
		return nil, err
	}
	show := func(w engine.Webhook, err error) (any, error) {
		if err != nil {
			return nil, a.explain(err, id, only)
		}
		health, err := a.engine.Health(r.Context(), id)
		return showTagged(showWithSecret(&w, health[id]), &w), err
	}
	return a.once(r, onceCall{
		body: body,
		do: func(o *engine.Once) (any, error) {
			rotation, err := engine.ParseRotation(body)
			if err != nil {
				return nil, err
			}
			rotation.IfTag, rotation.Once = only.tags, o
			if rotation.Which != "" {
				audit.Record(r.Context(), id, []string{string(rotation.Which)})
			}
			return show(a.engine.RotateSecret(r.Context(), id, rotation))
		},
		// The tag of If-Match was that of the webhook before: it is not asked for again.
		again: func(done *engine.Done) (any, error) { return show(a.engine.Webhook(done.WebhookID)) },
	})
}

func (a *API) testWebhook(r *http.Request, ps httprouter.Params) (any, error) {
	id, err := webhookID(ps)
	if err != nil {
		return nil, err
	}
	show := func(d engine.Delivery, err error) (any, error) {
		if err != nil {
			return nil, err
		}
		return showDelivery(&d), nil
	}
	return a.once(r, onceCall{
		do: func(o *engine.Once) (any, error) { return show(a.engine.TestWebhookOnce(r.Context(), id, o)) },
		again: func(done *engine.Done) (any, error) {
			d, _, _, err := a.engine.Delivery(r.Context(), done.DeliveryID)
			return show(d, err)
		},
	})
}

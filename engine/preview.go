package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"time"

	"hookbolt/engine/jsonread"
	"hookbolt/engine/send"
	"hookbolt/engine/transform"

	"github.com/google/uuid"
)

// PreviewRequest asks what a webhook would send. Its zero value means a new webhook with the default settings, and the sample of a complete
// session.
type PreviewRequest struct {
	// WebhookID is the webhook whose settings Settings are merged with; 0 for a new one.
	WebhookID uint32
	Settings  WebhookPatch
	// SessionID is a stored session; uuid.Nil for a sample. Incomplete asks for the sample of an incomplete session.
	SessionID  uuid.UUID
	Incomplete bool
	// AsOf builds the payload of what had happened by then. It is zero for now, and for a sample.
	AsOf time.Time
}

// Preview is what a webhook would send for a session.
type Preview struct {
	// Passes tells whether anything would be sent. If not, StoppedBy names the program that gives nothing to send, or Error says which one
	// fails; only Payload and Steps have a meaning then.
	Passes    bool
	StoppedBy string
	Error     *InputError
	Method    string
	// URL has its values filled in. It is "" if there is no URL yet.
	URL string
	// ContentType is "" for a request without a body.
	ContentType string
	// Header has the names of the header's fields. Their values are not shown: a signature of a body of the caller's choice would be as good
	// as the secret.
	Header []string
	Body   []byte
	// Payload is what the programs are run on.
	Payload []byte
	// Steps is how many steps the programs took, of MaxProgramSteps.
	Steps int
}

// MaxProgramSteps is how many steps the programs of a webhook may take for a payload.
const MaxProgramSteps = transform.MaxSteps

// IsJSON tells whether the body is JSON by its content type.
func (p *Preview) IsJSON() bool {
	return transform.EncodingOf(p.ContentType) == transform.EncodingJSON
}

// previewPatience bounds how long a preview waits for its turn and runs.
const previewPatience = 10 * time.Second

// errPreviewBusy is the cause of the end of a preview that has taken previewPatience.
var errPreviewBusy = errors.New("did not get its turn, because other programs are being tried; try again in a moment")

// ParsePreview parses a preview from a JSON object: webhook_id, settings, session_id, sample and as_of, all of them optional. settings are read
// as ParseMergePatch reads them. The error is an InputErrors.
func ParsePreview(body []byte) (PreviewRequest, error) {
	var ask PreviewRequest
	var bad InputErrors
	sample := false
	err := parseObject(body, func(r *jsonread.Reader, key []byte) bool {
		switch string(key) {
		case "webhook_id":
			if !r.Null() {
				ask.WebhookID = readWebhookID(r)
			}
		case "settings":
			raw := r.Raw()
			if r.Ended() {
				break
			}
			var err error
			if ask.Settings, err = ParseMergePatch(raw); err != nil {
				bad = append(bad, inSettings(err)...)
			}
		case "session_id":
			if !r.Null() {
				ask.SessionID = r.UUID()
			}
		case "sample":
			sample, ask.Incomplete = true, readSample(r)
		case "as_of":
			if !r.Null() {
				ask.AsOf = r.Time()
			}
		default:
			return false
		}
		return true
	})
	if malformed, ok := errors.AsType[InputErrors](err); ok {
		bad = append(bad, malformed...)
	}
	switch {
	case bad != nil:
		return PreviewRequest{}, bad
	case sample && ask.SessionID != uuid.Nil:
		return PreviewRequest{}, InputErrors{{Field: "sample", Detail: "takes the place of a session: give it without session_id"}}
	case ask.SessionID == uuid.Nil && !ask.AsOf.IsZero():
		return PreviewRequest{}, InputErrors{{Field: "as_of", Detail: "is for a stored session: give its session_id as well"}}
	}
	return ask, nil
}

func readWebhookID(r *jsonread.Reader) uint32 {
	n := r.Integer()
	if n < 1 || n > math.MaxUint32 {
		r.Fail("must be the id of a webhook, or null for a new one (got %d)", n)
	}
	return uint32(n)
}

func readSample(r *jsonread.Reader) (incomplete bool) {
	text := r.Text()
	if text != "complete" && text != "incomplete" {
		r.Fail("must be complete or incomplete (got %q)", Excerpt(text))
	}
	return text == "incomplete"
}

// inSettings returns errors of settings as errors of an object that has the settings in its member settings.
func inSettings(err error) InputErrors {
	bad, ok := errors.AsType[InputErrors](err)
	if !ok {
		return InputErrors{{Field: "settings", Detail: err.Error()}}
	}
	for i := range bad {
		if bad[i].Field == "" {
			bad[i].Field = "settings"
		} else {
			bad[i].Field = "settings." + bad[i].Field
		}
	}
	return bad
}

// Preview builds what a webhook would send, as a delivery does, and sends and stores nothing. It does not look at whether the webhook is active, nor
// at the address of its URL. ErrNotFound means that there is no such webhook or session, ErrConflict that the webhook does not get this
// session. The error is an InputErrors with fields as in ParsePreview if settings do not fit, or nothing had happened by AsOf. A program that
// fails is no error, but in the Preview.
func (e *Engine) Preview(ctx context.Context, ask PreviewRequest) (Preview, error) {
	w, err := e.previewed(&ask)
	if err != nil {
		return Preview{}, err
	}
	now := utcNow()
	var p Preview
	if p.Payload, err = e.previewPayload(ctx, &w, &ask, now); err != nil {
		return Preview{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, previewPatience, errPreviewBusy)
	defer cancel()
	built, err := e.build(ctx, w.trial(), p.Payload)
	p.Steps = built.Steps
	if err == nil && built.Filtered {
		p.StoppedBy, err = e.stoppedBy(ctx, &w, p.Payload)
	} else if err == nil {
		return p, e.previewRequest(&p, &w, &built, now)
	}
	failed, hasFailed := errors.AsType[*transform.Error](err)
	switch {
	case hasFailed:
		p.Error, err = new(failedProgram(failed)), nil
	case errors.Is(err, errPreviewBusy), errors.Is(err, transform.ErrNoWorker):
		p.Error, err = &InputError{Field: w.firstProgram(), Detail: err.Error()}, nil
	}
	return p, err
}

// previewed returns the webhook with the settings of a preview.
func (e *Engine) previewed(ask *PreviewRequest) (Webhook, error) {
	w := DefaultWebhook()
	if ask.WebhookID != 0 {
		var err error
		if w, err = e.Webhook(ask.WebhookID); err != nil {
			return Webhook{}, err
		}
	}
	if _, err := ask.Settings.applyTo(&w); err != nil {
		return Webhook{}, inSettings(err)
	}
	if err := cmp.Or(w.checkCredentials(), w.checkShape()); err != nil {
		return Webhook{}, inSettings(err)
	}
	if w.Secret == "" {
		w.Secret = send.NewSecret()
	}
	return w, nil
}

// previewPayload returns the payload of a preview.
func (e *Engine) previewPayload(ctx context.Context, w *Webhook, ask *PreviewRequest, now time.Time) ([]byte, error) {
	if ask.SessionID == uuid.Nil {
		return w.sample(!ask.Incomplete, now)
	}
	record, _, err := e.store.Session(ctx, ask.SessionID)
	if err != nil {
		return nil, err
	}
	if w.Operations {
		return nil, errNoSessions
	}
	if content := record.Head.Identity.ContentID; !w.wants(KindComplete, content) {
		name := "the webhook"
		if w.ID != 0 {
			name = fmt.Sprintf("webhook %d", w.ID)
		}
		return nil, fmt.Errorf("%w: %s is for content %s, but the session has content %s", ErrConflict, name, w.ContentID, content)
	}
	events, err := record.Events()
	if err != nil {
		return nil, err
	}
	s := Fold(events, ask.AsOf)
	if s.StartedAt.IsZero() {
		return nil, InputErrors{{Field: "as_of", Detail: "nothing of the session had happened by then"}}
	}
	kind := KindIncomplete
	if !s.FinishedAt.IsZero() {
		kind = KindComplete
	}
	return Render(s, w, kind, now)
}

// previewRequest fills in the request of an attempt that would send what was built.
func (e *Engine) previewRequest(p *Preview, w *Webhook, built *Built, now time.Time) error {
	d := Delivery{ID: uuid.New(), Kind: KindComplete, ContentType: built.ContentType, URLValues: built.URLValues}
	header, err := e.RequestHeader(w, &d, built.Body, now)
	if err != nil {
		return err
	}
	for _, f := range header {
		p.Header = append(p.Header, f.Name)
	}
	if w.URL != "" {
		if p.URL, err = e.RequestURL(w, &d); err != nil {
			return err
		}
	}
	p.Passes, p.Method = true, cmp.Or(w.Method, http.MethodPost)
	if w.SendsBody() {
		p.ContentType, p.Body = d.FrozenType(), built.Body
	}
	return nil
}

// stoppedBy returns which program of a webhook gives nothing to send for a payload.
func (e *Engine) stoppedBy(ctx context.Context, w *Webhook, payload []byte) (string, error) {
	switch {
	case w.Transform == nil:
		return "filter", nil
	case w.Filter == nil:
		return "transform", nil
	}
	r, err := e.runPrograms(ctx, transform.Job{Programs: transform.Programs{Filter: *w.Filter}, Payload: payload})
	if err == nil && r.Filtered {
		return "filter", nil
	}
	return "transform", err
}

package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/google/uuid"
	"github.com/julienschmidt/httprouter"

	"hookbolt/engine"
)

// preview is what a webhook would send. What is only known of something that is sent is null otherwise.
type preview struct {
	Passes bool `json:"passes"`
	// StoppedBy is the program that gives nothing to send, Error the one that fails.
	StoppedBy   *string       `json:"stopped_by"`
	Error       *programError `json:"error"`
	Method      *string       `json:"method"`
	URL         *string       `json:"url"`
	ContentType *string       `json:"content_type"`
	// Headers has names only: with the signature of a body of his choice, a caller could forge one.
	Headers []string `json:"headers"`
	// Body is a string with the bytes that would be sent.
	Body    *string         `json:"body"`
	Payload json.RawMessage `json:"payload"`
	Steps   int             `json:"steps"`
}

// programError is the failure of a program, with its place where one is known.
type programError struct {
	Field  string `json:"field"`
	Line   *int   `json:"line"`
	Column *int   `json:"column"`
	Detail string `json:"detail"`
}

func showPreview(p *engine.Preview) preview {
	shown := preview{Passes: p.Passes, StoppedBy: orNull(p.StoppedBy), Headers: append([]string{}, p.Header...), Payload: p.Payload, Steps: p.Steps}
	if e := p.Error; e != nil {
		shown.Error = &programError{e.Field, orNull(e.Line), orNull(e.Column), e.Detail}
	}
	if p.Passes {
		shown.Method, shown.URL, shown.ContentType, shown.Body = &p.Method, orNull(p.URL), orNull(p.ContentType), new(string(p.Body))
	}
	return shown
}

// postPreview shows what settings that are not saved would send. Only admins may run programs of their own.
func (a *API) postPreview(r *http.Request, _ httprouter.Params) (any, error) {
	body, err := a.readBody(r, maxSettings)
	if err != nil {
		return nil, err
	}
	ask, err := engine.ParsePreview(body)
	if err != nil {
		return nil, err
	}
	p, err := a.engine.Preview(r.Context(), ask)
	if err != nil {
		return nil, err
	}
	return showPreview(&p), nil
}

// previewWebhook shows what a webhook would send for a session now, byte for byte.
func (a *API) previewWebhook(r *http.Request, ps httprouter.Params) (any, error) {
	id, err := webhookID(ps)
	if err != nil {
		return nil, err
	}
	q := queryOf(r)
	session, asOf := q.uuid("session_id"), q.time("as_of")
	if session == uuid.Nil && q.bad == nil {
		q.refuse("session_id", "is required: the session to build the payload of")
	}
	if err := q.err(); err != nil {
		return nil, err
	}
	p, err := a.engine.Preview(r.Context(), engine.PreviewRequest{WebhookID: id, SessionID: session, AsOf: asOf})
	switch {
	case err != nil:
		return nil, err
	case p.Error != nil:
		return nil, fmt.Errorf("%w: webhook %d would send nothing, because %s", engine.ErrConflict, id, programFails(p.Error))
	case !p.Passes:
		return nil, fmt.Errorf("%w: webhook %d would send nothing: its %s gives nothing for this session", engine.ErrConflict, id, p.StoppedBy)
	}
	// A browser must not run what a visitor has typed, if the type is that of a document.
	return reply{value: exact{p.ContentType, p.Body}, header: map[string]string{"Content-Security-Policy": "sandbox; default-src 'none'"}}, nil
}

// programFails writes the failure of a program for the middle of a sentence.
func programFails(e *engine.InputError) string {
	where := ""
	if e.Line > 0 {
		where = fmt.Sprintf(" in line %d, column %d", e.Line, e.Column)
	}
	return fmt.Sprintf("its %s fails%s: %s", e.Field, where, e.Detail)
}

// exact is the body of a response that has a type of its own, or is empty and has none.
type exact struct {
	contentType string
	body        []byte
}

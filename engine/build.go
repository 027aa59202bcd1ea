package engine

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"slices"
	"strings"
	"sync"
	"time"

	"hookbolt/engine/jsonread"
	"hookbolt/engine/send"
	"hookbolt/engine/transform"
)

// What a webhook sends may differ from the payload: its programs, in jq, filter sessions, make another body, and give values for names in its
// URL. They are run where the payload is frozen, in processes of their own (package transform), and what they have made is frozen with the
// body. So each attempt sends the same, whatever becomes of the programs.

// Limits of what shapes a body.
const (
	maxProgram     = transform.MaxProgramBytes
	maxContentType = 200 // bytes
	// maxUnbuilt bounds what is stored of why a body could not be built, in bytes.
	maxUnbuilt = 1000
	// maxUnbuiltInRow is how many bodies of a webhook may fail to be built, one after the other, until it is paused.
	maxUnbuiltInRow = 5
)

// RunPrograms runs the programs of a job; see transform.Pool.Run.
type RunPrograms func(context.Context, transform.Job) (transform.Result, error)

// NeedsBuild reports whether the webhook sends something else than the payload as it is.
func (w *Webhook) NeedsBuild() bool {
	return w.hasPrograms() || w.ContentType != ""
}

func (w *Webhook) hasPrograms() bool {
	return w.Filter != nil || w.Transform != nil || w.URLValues != nil
}

// contentType is the setting content_type.
func (w *Webhook) contentType() string {
	if w.ContentType == "" {
		return payloadType
	}
	return w.ContentType
}

// programs returns the webhook's programs.
func (w *Webhook) programs() transform.Programs {
	text := func(p *string) string {
		if p == nil {
			return ""
		}
		return *p
	}
	return transform.Programs{Filter: text(w.Filter), Transform: text(w.Transform), URLValues: text(w.URLValues), Encoding: transform.EncodingOf(w.contentType())}
}

// sameBuild reports whether two states of a webhook make the same of a payload.
func (w *Webhook) sameBuild(o *Webhook) bool {
	return w.programs() == o.programs() && w.ContentType == o.ContentType && w.URL == o.URL
}

// Built is what a webhook makes of a payload.
type Built struct {
	// Filtered means that it is not sent. Then the rest is zero but Steps.
	Filtered    bool
	Body        []byte
	Shaped      bool   // see Delivery
	ContentType string // "" for that of every payload
	URLValues   URLValues
	// Steps is how many steps the programs took.
	Steps int
}

// build makes what a webhook sends of a payload. The error is a *transform.Error if its programs have failed, and transform.ErrNoWorker if
// no process could be started for them.
func (e *Engine) build(ctx context.Context, w *Webhook, payload []byte) (Built, error) {
	return e.buildWith(ctx, w, w.programs(), payload)
}

func (e *Engine) buildWith(ctx context.Context, w *Webhook, programs transform.Programs, payload []byte) (Built, error) {
	b := Built{Body: payload, ContentType: w.ContentType}
	if programs.Filter == "" && programs.Transform == "" && programs.URLValues == "" {
		return b, nil
	}
	r, err := e.runPrograms(ctx, transform.Job{Programs: programs, Owner: w.ID, Payload: payload})
	switch {
	case err != nil:
		return Built{}, err
	case r.Filtered:
		return Built{Filtered: true, Steps: r.Steps}, nil
	}
	b.Body, b.URLValues, b.Steps, b.Shaped = r.Body, send.NewURLValues(r.URLValues), r.Steps, programs.Transform != ""
	if programs.URLValues != "" {
		if _, err := send.FillURL(w.URL, r.URLValues); err != nil {
			return Built{}, &transform.Error{Program: "url_values", Detail: err.Error()}
		}
	}
	return b, nil
}

// buildError describes the failure of a program, for Delivery.BuildError.
func buildError(failed *transform.Error) string {
	text := failed.Program
	if failed.Line > 0 {
		text += fmt.Sprintf(", line %d, column %d", failed.Line, failed.Column)
	}
	return shortened(text+": "+failed.Detail, maxUnbuilt)
}

// shortened cuts a text at a character.
func shortened(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most-len("…")], "") + "…"
}

// fill puts what was built, or why nothing was, into a Freeze. It returns errors that say nothing about the programs.
func (f *Freeze) fill(b Built, err error) error {
	if failed, ok := errors.AsType[*transform.Error](err); ok {
		f.Payload, f.BuildError = nil, buildError(failed)
		return nil
	}
	f.Payload, f.Shaped, f.ContentType, f.URLValues, f.Filtered = b.Body, b.Shaped, b.ContentType, b.URLValues, b.Filtered
	return err
}

// unbuilt counts the bodies of each webhook that could not be built, one after the other. The counts are in memory: a restart begins anew.
type unbuilt struct {
	mu   sync.Mutex
	rows map[uint32]unbuiltRow // by webhook; none after a success; guarded by mu
}

// unbuiltRow is how many bodies in a row could not be built.
type unbuiltRow struct {
	webhook *Webhook // as it was for the last of them: with other programs another row begins
	n       int
}

// failed counts a body of a webhook that could not be built. It reports whether the row is full; then the next one begins.
func (u *unbuilt) failed(w *Webhook) (full bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	row := u.rows[w.ID]
	if row.webhook == nil || !row.webhook.sameBuild(w) {
		row.n = 0
	}
	if row.n++; row.n >= maxUnbuiltInRow {
		delete(u.rows, w.ID)
		return true
	}
	if u.rows == nil {
		u.rows = make(map[uint32]unbuiltRow)
	}
	u.rows[w.ID] = unbuiltRow{w, row.n}
	return false
}

// forget ends the row of a webhook.
func (u *unbuilt) forget(webhookID uint32) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.rows, webhookID)
}

// observeBuilt notes what became of a body: after maxUnbuiltInRow failures in a row the webhook is paused.
func (e *Engine) observeBuilt(ctx context.Context, f *Freeze) {
	w := f.Webhook
	if f.BuildError == "" {
		e.unbuilt.forget(w.ID)
		return
	}
	if !e.unbuilt.failed(w) {
		return
	}
	program, _, _ := strings.Cut(f.BuildError, ":") // without the detail, which may quote data
	reason := fmt.Sprintf("its programs have failed for %d deliveries in a row; the last failure is in %s, at %s", maxUnbuiltInRow, program, f.At.Format(time.RFC3339))
	e.pause(ctx, w, pauseProgram, reason, func(before, after *Webhook) bool {
		return !before.sameBuild(after) || !before.ResumedAt.Equal(after.ResumedAt)
	})
}

// trial returns the webhook as the pool of workers is to see it while somebody waits for what its programs give. All trials and previews have
// turns of their own: they do not wait behind the deliveries of the program that they are to mend, and slow none down.
func (w *Webhook) trial() *Webhook {
	trial := *w
	trial.ID = 0
	return &trial
}

// checkBuild tries what shapes a webhook's bodies on the samples. before is the webhook before the change.
func (e *Engine) checkBuild(ctx context.Context, w, before *Webhook) error {
	if err := w.checkShape(); err != nil {
		return err
	}
	if !w.hasPrograms() || w.sameBuild(before) && w.SendIncomplete == before.SendIncomplete && w.SendAnswers == before.SendAnswers && w.SendLeads == before.SendLeads {
		return nil
	}
	for _, complete := range []bool{true, false} {
		if !complete && !w.SendIncomplete {
			break
		}
		payload, err := w.sample(complete, utcNow())
		if err != nil {
			return err
		}
		trial := w.trial()
		b, err := e.build(ctx, trial, payload)
		if err == nil && b.Filtered && complete { // the rest has not run yet, and this sample has all that a session may have
			programs := trial.programs()
			programs.Filter = ""
			_, err = e.buildWith(ctx, trial, programs, payload)
		}
		failed, ok := errors.AsType[*transform.Error](err)
		switch {
		case ok && !complete:
			failed.Detail += " (with the sample of an incomplete session, which send_incomplete asks for)"
			fallthrough
		case ok:
			return InputErrors{failedProgram(failed)}
		case errors.Is(err, transform.ErrNoWorker):
			return InputErrors{{Field: w.firstProgram(), Detail: "cannot be used here, because programs run in a process of their own, and none could be started: " + err.Error()}}
		case err != nil:
			return err
		}
	}
	return nil
}

// failedProgram returns a failure of a program as an error of the input.
func failedProgram(failed *transform.Error) InputError {
	return InputError{Field: failed.Program, Line: failed.Line, Column: failed.Column, Detail: failed.Detail}
}

// firstProgram names a program of the webhook.
func (w *Webhook) firstProgram() string {
	switch {
	case w.Transform != nil:
		return "transform"
	case w.Filter != nil:
		return "filter"
	}
	return "url_values"
}

// checkShape refuses settings that do not go together.
func (w *Webhook) checkShape() error {
	names := send.URLNames(w.URL)
	switch {
	case w.Transform == nil && transform.EncodingOf(w.contentType()) != transform.EncodingJSON:
		return InputErrors{{Field: "content_type", Detail: fmt.Sprintf("needs a transform that makes such a body (got %s, and the payload is JSON)", w.contentType())}}
	case w.URLValues != nil && len(names) == 0 && w.URL != "": // a preview may have no URL yet
		return InputErrors{{Field: "url_values", Detail: "gives values for names in the URL, but its path and query have none: write {name} where a value belongs"}}
	}
	return nil
}

// sample returns what programs are tried on: the payload of an invented session, or the test event of the operations webhook.
func (w *Webhook) sample(complete bool, now time.Time) ([]byte, error) {
	if w.Operations {
		return testNotice(now), nil
	}
	return samplePayload(w, complete, now)
}

// readProgram reads a program. Whether it is one shows when it is run. White space at its end, such as the last newline of a file, is not kept.
func readProgram(r *jsonread.Reader) *string {
	text := strings.TrimRight(r.Text(), " \t\r\n")
	switch {
	case strings.TrimSpace(text) == "":
		r.Fail("must hold a program in jq, or be null for none")
	case len(text) > maxProgram:
		r.Fail("must have at most %d bytes (got %d)", maxProgram, len(text))
	}
	return &text
}

// readContentType reads a media type. That of every payload is "".
func readContentType(r *jsonread.Reader) string {
	text := r.Text()
	kind, params, err := mime.ParseMediaType(text)
	switch {
	case err != nil || !strings.Contains(kind, "/") || strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c > '~' }):
		r.Fail("must be a media type such as application/json, application/x-www-form-urlencoded or text/plain; charset=utf-8 (got %q)", Excerpt(text))
	case len(text) > maxContentType:
		r.Fail("must have at most %d bytes (got %d)", maxContentType, len(text))
	case strings.HasPrefix(kind, "multipart/"):
		r.Fail("must not be multipart: hookbolt sends bodies of one part")
	case params["charset"] != "" && !slices.Contains([]string{"utf-8", "utf8"}, strings.ToLower(params["charset"])):
		r.Fail("must have the charset utf-8 or none: bodies are UTF-8 (got %q)", Excerpt(params["charset"]))
	}
	if text == payloadType {
		return ""
	}
	return text
}

// buildTest builds the body of a test delivery, whatever the filter says. The error is an InputErrors if the webhook's programs fail, and
// ErrConflict if they give nothing to send.
func (e *Engine) buildTest(ctx context.Context, w *Webhook, now time.Time) (Built, error) {
	payload, err := w.sample(true, now)
	if err != nil {
		return Built{}, err
	}
	programs := w.programs()
	programs.Filter = ""
	b, err := e.buildWith(ctx, w.trial(), programs, payload)
	failed, ok := errors.AsType[*transform.Error](err)
	switch {
	case ok:
		return Built{}, InputErrors{failedProgram(failed)}
	case err != nil:
		return Built{}, err
	case b.Filtered:
		return Built{}, fmt.Errorf("%w: the transform of webhook %d gives nothing for the sample, so there is nothing to send", ErrConflict, w.ID)
	}
	return b, nil
}

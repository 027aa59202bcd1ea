package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"hookbolt/engine/send"
	"hookbolt/engine/transform"
)

// SystemEventType is the type of a system event.
//
// A system event notifies the operator: it is an ordinary signed delivery to Config.OperationsURL. It is queued in the transaction that
// stores its cause, so that neither is stored without the other; the events of the disk are queued by a check of their own. The engine
// makes the webhook that gets them. That webhook gets no sessions and no events about itself, because its own failures cannot be delivered
// to it.
//
// The body is that of Standard Webhooks: {"type", "timestamp", "data"}.
type SystemEventType string

// The system events. The data of each is a struct below.
const (
	SystemEventPaused    SystemEventType = "webhook.paused"    // a webhook was paused: by hand, after a 410, after days of failures
	SystemEventFailing   SystemEventType = "webhook.failing"   // an endpoint has been failing, or has refused all load, for Config.FailingAfter
	SystemEventRecovered SystemEventType = "webhook.recovered" // an endpoint that had been failing for that long works again
	SystemEventFailed    SystemEventType = "delivery.failed"   // the last retry of a delivery has failed
	SystemEventDiskLow   SystemEventType = "disk.low"          // the disk or the database is nearly full, or full
	SystemEventDiskOK    SystemEventType = "disk.ok"           // there is enough room again
	SystemEventTest      SystemEventType = "operations.test"   // a test delivery, by hand
)

// operationsName is the initial name of the operations webhook.
const operationsName = "hookbolt operations"

type (
	systemEvent struct {
		Type      SystemEventType `json:"type"`
		Timestamp string          `json:"timestamp"`
		Data      any             `json:"data"`
	}
	eventWebhook struct {
		ID        uint32  `json:"id"`
		Name      string  `json:"name"`
		ContentID *string `json:"content_id"`
	}
	pausedData struct {
		Webhook eventWebhook `json:"webhook"`
		Cause   pauseCause   `json:"cause"`
		Reason  string       `json:"reason"`
	}
	failingData struct {
		Webhook      eventWebhook `json:"webhook"`
		FailingSince string       `json:"failing_since"`
		Failures     int          `json:"failures"`
		LastError    ErrorClass   `json:"last_error"`
		LastStatus   *int         `json:"last_status"`
	}
	recoveredData struct {
		Webhook      eventWebhook `json:"webhook"`
		FailingSince string       `json:"failing_since"`
		Failures     int          `json:"failures"`
	}
	deliveryFailedData struct {
		Webhook    eventWebhook `json:"webhook"`
		DeliveryID string       `json:"delivery_id"`
		Kind       Kind         `json:"kind"`
		CreatedAt  string       `json:"created_at"`
		Attempts   int          `json:"attempts"`
		LastError  ErrorClass   `json:"last_error"`
		LastStatus *int         `json:"last_status"`
		// More is how many other deliveries of the webhook have failed since the last event about one, without an event of their own.
		More int `json:"more"`
	}
	diskData struct {
		// Reason says why events are refused; null while they are accepted.
		Reason *string `json:"reason"`
		// DiskFreeBytes is null if it is not known.
		DiskFreeBytes *int64 `json:"disk_free_bytes"`
		MinFreeBytes  int64  `json:"min_free_bytes"`
		DatabaseBytes int64  `json:"database_bytes"`
		UsedBytes     int64  `json:"used_bytes"`
		MaxBytes      *int64 `json:"max_bytes"`
	}
	testData struct {
		Message string `json:"message"`
	}
)

// payload returns the body of a system event.
func (t SystemEventType) payload(now time.Time, data any) []byte {
	body, err := encode(systemEvent{t, FormatTime(now), data})
	if err != nil {
		panic(err) // impossible: the data holds strings and numbers
	}
	return body
}

// describeWebhook returns a webhook as system events show it.
func describeWebhook(w *Webhook) eventWebhook {
	shown := eventWebhook{ID: w.ID, Name: w.Name}
	if w.ContentID != nil {
		shown.ContentID = new(w.ContentID.String())
	}
	return shown
}

// statusOrNil returns the status of a response, nil if there was no response.
func statusOrNil(status int) *int {
	if status == 0 {
		return nil
	}
	return &status
}

// pausedNotice returns the event for a paused webhook; nil for the operations webhook.
func pausedNotice(w *Webhook, cause pauseCause, now time.Time) []byte {
	if w.Operations {
		return nil
	}
	reason := w.PauseReason
	if reason == "" {
		reason = "paused by hand"
	}
	return SystemEventPaused.payload(now, pausedData{describeWebhook(w), cause, reason})
}

// failedNotice returns the event for a delivery that has failed for good, and for so many more; w is its webhook. It is nil if there is none, as
// for a test.
func failedNotice(w *Webhook, d *Delivery, more int, now time.Time) []byte {
	if w == nil || w.Operations || d.Kind == KindTest {
		return nil // whoever sends a test sees its result
	}
	return SystemEventFailed.payload(now, deliveryFailedData{describeWebhook(w), d.ID.String(), d.Kind, FormatTime(d.CreatedAt), d.Attempts, d.LastError, statusOrNil(d.LastStatus), more})
}

// healthNotice returns the event for an endpoint that has been failing for long, or works again after that; nil if there is none.
func (e *Engine) healthNotice(w *Webhook, before, after Health, a *Attempt, now time.Time) []byte {
	switch {
	case w.Operations:
	case after.Notified && !before.Notified:
		return SystemEventFailing.payload(now, failingData{describeWebhook(w), FormatTime(after.worksNotSince()), after.Failures, a.Error, statusOrNil(a.Status)})
	case before.failingFor(e.config().FailingAfter, now) && after.worksNotSince().IsZero() && (before.Failing() || before.Notified): // a single refusal may ask for hours
		return SystemEventRecovered.payload(now, recoveredData{describeWebhook(w), FormatTime(before.worksNotSince()), before.Failures})
	}
	return nil
}

// EnsureOperations creates, changes or deletes the operations webhook, so that it is what Config says. It stores nothing if nothing has to
// change. Several processes may call it at once: the Store refuses a second operations webhook with ErrRevision, and the call is repeated
// then. Call it before Run, and after Configure. The error is an InputErrors if the URL is refused.
func (e *Engine) EnsureOperations(ctx context.Context) error {
	for {
		err := e.ensureOperations(ctx)
		if !errors.Is(err, ErrRevision) {
			return err
		}
	}
}

// ensureOperations is one try of EnsureOperations.
func (e *Engine) ensureOperations(ctx context.Context) error {
	cfg, current := e.Config(), e.store.Webhooks().Operations()
	switch {
	case cfg.OperationsURL == "" && current == nil:
		return nil
	case cfg.OperationsURL == "":
		return e.deleteWebhook(ctx, current.ID, nil)
	case current == nil:
		_, err := e.CreateWebhook(ctx, ownPatch(func(w *Webhook) {
			w.Name, w.Operations, w.Delay = operationsName, true, 0
			cfg.setOperations(w)
		}))
		return err
	}
	updated, err := e.updateWebhook(ctx, current.ID, ownPatch(cfg.setOperations), func(_, _ *Webhook) error { return nil })
	if len(updated.Dropped) > 0 {
		e.log.Warn(operationsSetting(cfg.OperationsURL)+" is on another host now; the credentials of the operations webhook were dropped", "dropped", updated.Dropped)
	}
	return err
}

// setOperations sets what the configuration says of the operations webhook.
func (c *Config) setOperations(w *Webhook) {
	w.Transform, w.ContentType = nil, ""
	if c.OperationsTransform != "" {
		w.Transform = &c.OperationsTransform
		if c.OperationsContentType != payloadType {
			w.ContentType = c.OperationsContentType
		}
	}
	canonicalURL := send.CanonicalURL
	if IsMailURL(c.OperationsURL) {
		canonicalURL = send.CanonicalMailURL
		w.URLValues, w.Method, w.Success, w.Signature, w.TLS = nil, "", nil, nil, nil
		if w.MaxInFlight == nil {
			w.MaxInFlight = new(1) // mail servers allow few connections at once
		}
	}
	w.URL = c.OperationsURL
	if canonical, err := canonicalURL(c.OperationsURL); err == nil {
		w.URL = canonical
	}
	if c.OperationsSecret != "" && c.OperationsSecret != w.Secret {
		w.Secret, w.PreviousSecrets = c.OperationsSecret, nil
	}
}

// CheckOperationsTransform returns what is wrong with Config.OperationsTransform and Config.OperationsContentType: the program is run on an event
// of each type. field is the wrong one, "transform" or "content_type".
func CheckOperationsTransform(program, contentType string) (field string, err error) {
	settings, err := json.Marshal(map[string]string{"transform": program, "content_type": contentType})
	if err != nil {
		return "transform", err
	}
	w := Webhook{}
	patch, err := ParseWebhookPatch(settings)
	if err == nil {
		_, err = patch.applyTo(&w)
	}
	if err == nil {
		err = w.checkShape()
	}
	if bad, ok := errors.AsType[InputErrors](err); ok {
		return bad[0].Field, errors.New(bad[0].Detail)
	}
	for _, payload := range sampleOperations() {
		if _, err := transform.Eval(transform.Job{Programs: w.programs(), Payload: payload}); err != nil {
			failed, ok := errors.AsType[*transform.Error](err)
			switch {
			case ok && failed.Line > 0:
				err = fmt.Errorf("line %d, column %d: %s", failed.Line, failed.Column, failed.Detail)
			case ok:
				err = errors.New(failed.Detail)
			}
			return "transform", fmt.Errorf("%w (with the event %s)", err, typeOf(payload))
		}
	}
	return "", nil
}

// typeOf returns the type of a system event.
func typeOf(payload []byte) SystemEventType {
	var event struct{ Type SystemEventType }
	if err := json.Unmarshal(payload, &event); err != nil {
		panic(err) // impossible: it was encoded here
	}
	return event.Type
}

// sampleOperations returns a system event of each type.
func sampleOperations() [][]byte {
	at := time.Date(2026, 1, 15, 10, 0, 9, 0, time.UTC)
	w := eventWebhook{ID: 3, Name: "crm"}
	size := int64(1 << 30)
	return [][]byte{
		testNotice(at),
		SystemEventPaused.payload(at, pausedData{w, pauseEndpointGone, "the endpoint answered 410 Gone at 2026-01-15T10:00:09Z"}),
		SystemEventFailing.payload(at, failingData{w, FormatTime(at), 42, ErrorTimeout, nil}),
		SystemEventRecovered.payload(at, recoveredData{w, FormatTime(at), 42}),
		SystemEventFailed.payload(at, deliveryFailedData{w, "019bc0a5-3f1c-7d21-9c65-0a1b2c3d4e18", KindComplete, FormatTime(at), 10, ErrorStatus, new(500), 2}),
		SystemEventDiskLow.payload(at, diskData{new("the disk is full"), &size, size, size, size, nil}),
		SystemEventDiskOK.payload(at, diskData{nil, nil, size, size, size, &size}),
	}
}

// CheckOperations returns what is wrong with the URL and the secret of the operations webhook. It looks up no names. field is the wrong
// one, "url" or "secret". The error never repeats the secret.
func CheckOperations(url string, secret Secret) (field string, err error) {
	if url != "" {
		if _, err := send.CanonicalURL(url); err != nil {
			return "url", err
		}
	}
	if secret != "" {
		if _, err := secret.Key(); err != nil {
			return "secret", err
		}
	}
	return "", nil
}

// CheckOperationsAddress returns the error with which EnsureOperations would refuse a URL whose host is an address that is not allowed; nil
// for "".
func CheckOperationsAddress(url string, allow []netip.Prefix) error {
	return send.CheckAddress(url, allow)
}

// operationsSetting is the setting that the URL of the operations webhook comes from.
func operationsSetting(url string) string {
	if IsMailURL(url) {
		return "delivery.operations_smtp"
	}
	return "delivery.operations_url"
}

// httpSetting names a setting of the webhook that means nothing to a mail server; "" for none.
func (w *Webhook) httpSetting() string {
	switch {
	case w.URLValues != nil:
		return "url_values"
	case w.Method != "":
		return "method"
	case w.Success != nil:
		return "success"
	case w.Signature != nil:
		return "signature"
	}
	return ""
}

// checkOperations refuses changes of the operations webhook that EnsureOperations would undo, or that make no sense.
func (e *Engine) checkOperations(w, before *Webhook) error {
	switch {
	case !before.Operations:
		return nil
	case w.URL != before.URL:
		return InputErrors{{Field: "url", Detail: "is set by " + operationsSetting(before.URL)}}
	case w.ContentType != before.ContentType:
		return InputErrors{{Field: "content_type", Detail: "is set by delivery.operations_content_type"}}
	case (w.Transform == nil) != (before.Transform == nil) || w.Transform != nil && *w.Transform != *before.Transform:
		return InputErrors{{Field: "transform", Detail: "is set by delivery.operations_transform"}}
	case IsMailURL(w.URL) && w.httpSetting() != "":
		return InputErrors{{Field: w.httpSetting(), Detail: "cannot be set: the URL is that of a mail server, which gets mail and no requests"}}
	case IsMailURL(w.URL) && (len(w.Headers) > 0 || w.BasicAuth != nil || w.OAuth2 != nil):
		return InputErrors{{Field: "", Detail: "a mail server gets no headers, basic_auth or oauth2: its account is delivery.operations_smtp_username and delivery.operations_smtp_password"}}
	case w.Secret != before.Secret && e.config().OperationsSecret != "":
		return InputErrors{{Field: "secret", Detail: "is set by delivery.operations_secret"}}
	case w.ContentID != nil:
		return InputErrors{{Field: "content_id", Detail: "must be null: operational events are of no content"}}
	}
	return nil
}

const (
	// operationsInterval is the time between two checks of what there is to tell: the room for new data, failed deliveries that were counted.
	operationsInterval = 30 * time.Second
	// Room becomes low below lowFactor times storage.min_free, or above lowPercent of storage.max_bytes. It is enough again above
	lowFactor, okFactor   = 2, 3
	lowPercent, okPercent = 95, 92
)

// watchOperations queues the system events that no change of a webhook or a delivery causes, until ctx ends: when room becomes low, and when there
// is enough again, and about the failed deliveries that were counted.
func (e *Engine) watchOperations(ctx context.Context) {
	for low := false; ; {
		if e.keeper.Load() {
			low = e.notifyDisk(ctx, low)
		}
		e.tellFailures(ctx, false)
		if !sleep(ctx, operationsInterval) {
			return
		}
	}
}

// notifyDisk queues a system event if the state of the room has changed and the operations webhook is active. low is the state of the last
// event. It returns the new one, or low if no event was queued: the next check tries again then.
func (e *Engine) notifyDisk(ctx context.Context, low bool) bool {
	w, now := e.store.Webhooks().Operations(), utcNow()
	if w == nil || !w.Active {
		return low
	}
	s, err := e.store.Stats(ctx, now, false)
	if err != nil || s.File == nil {
		return low
	}
	payload := diskNotice(&s, low, now)
	if payload == nil {
		return low
	}
	if e.enqueueOperation(ctx, payload, now) {
		return !low
	}
	return low
}

// enqueueOperation queues a system event. It reports whether it did, or whether there is nobody to tell.
func (e *Engine) enqueueOperation(ctx context.Context, payload []byte, now time.Time) bool {
	w := e.store.Webhooks().Operations()
	if w == nil || !w.Active {
		return true
	}
	d, err := e.store.Enqueue(ctx, Enqueue{WebhookID: w.ID, Kind: KindOperation, Payload: payload, At: now})
	if err == nil {
		e.lanes.wakeAt(Queued{d.Lane(), d.NextAttemptAt})
	}
	return err == nil
}

// diskNotice returns the event for a change of the room in a store that has a file; nil if nothing has changed. low is the state before.
func diskNotice(s *Stats, low bool, now time.Time) []byte {
	factor, percent := int64(lowFactor), int64(lowPercent)
	if low {
		factor, percent = okFactor, okPercent
	}
	f := s.File
	used := s.SizeBytes - f.FreeBytes
	scarce := s.Full != nil ||
		f.DiskFreeBytes >= 0 && f.MinFreeBytes > 0 && f.DiskFreeBytes+f.FreeBytes < factor*f.MinFreeBytes ||
		f.MaxBytes > 0 && used > f.MaxBytes/100*percent
	if scarce == low {
		return nil
	}
	data := diskData{MinFreeBytes: f.MinFreeBytes, DatabaseBytes: s.SizeBytes, UsedBytes: used}
	if s.Full != nil {
		data.Reason = new(s.Full.Error())
	}
	if f.DiskFreeBytes >= 0 {
		data.DiskFreeBytes = &f.DiskFreeBytes
	}
	if f.MaxBytes > 0 {
		data.MaxBytes = &f.MaxBytes
	}
	if scarce {
		return SystemEventDiskLow.payload(now, data)
	}
	return SystemEventDiskOK.payload(now, data)
}

// testNotice returns the event that a test delivery of the operations webhook sends.
func testNotice(now time.Time) []byte {
	return SystemEventTest.payload(now, testData{"This is a test delivery of hookbolt."})
}

// errNoSessions is returned for calls that make sense only for a webhook that gets sessions.
var errNoSessions = fmt.Errorf("%w: this webhook gets operational events, not sessions", ErrConflict)

package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"hookbolt/engine/send"
)

// Operational events tell the operator, by an ordinary signed delivery to Config.OperationsURL, what he would otherwise have to look for.
// They are queued in the transaction of what they tell of, so that neither is there without the other. The webhook that carries them is
// made by the engine, is for no content, and is not told of itself: its trouble cannot be told by it.
//
// The body is that of Standard Webhooks: {"type", "timestamp", "data"}.

// SystemEventType is what an operational event tells of.
type SystemEventType string

// The operational events. The data of each is a struct below.
const (
	SystemEventPaused    SystemEventType = "webhook.paused"    // a webhook is held: by hand, after 410, after days of failures
	SystemEventFailing   SystemEventType = "webhook.failing"   // an endpoint has been failing for notifyFailingAfter
	SystemEventRecovered SystemEventType = "webhook.recovered" // an endpoint works again that had been failing for that long
	SystemEventFailed    SystemEventType = "delivery.failed"   // a delivery has failed for good
	SystemEventDiskLow   SystemEventType = "disk.low"          // there is little room left, or none
	SystemEventDiskOK    SystemEventType = "disk.ok"           // there is room again
	SystemEventTest      SystemEventType = "operations.test"   // somebody asked for a test delivery
)

// notifyFailingAfter is for how long an endpoint is failing before that is told. It is told once, and once more after a restart.
const notifyFailingAfter = time.Hour

// operationsName is the name that the operations webhook is made with.
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
	}
	diskData struct {
		// Reason says why events are refused; null while they are taken in.
		Reason *string `json:"reason"`
		// DiskFreeBytes is null where it is not known.
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

// payload is the body that is sent.
func (t SystemEventType) payload(now time.Time, data any) []byte {
	body, err := encode(systemEvent{t, FormatTime(now), data})
	if err != nil {
		panic(err) // cannot be: strings and numbers
	}
	return body
}

func describeWebhook(w *Webhook) eventWebhook {
	shown := eventWebhook{ID: w.ID, Name: w.Name}
	if w.ContentID != nil {
		shown.ContentID = new(w.ContentID.String())
	}
	return shown
}

// statusOrNil is an answer's status, nil if there was none.
func statusOrNil(status int) *int {
	if status == 0 {
		return nil
	}
	return &status
}

// pausedNotice tells that a webhook has been paused; nil for that of the operational events themselves.
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

// failedNotice tells that a delivery has failed for good; w is its webhook. It is nil where there is nothing to tell.
func failedNotice(w *Webhook, d *Delivery, now time.Time) []byte {
	if w == nil || w.Operations || d.Kind == KindTest {
		return nil // who sends a test looks at it
	}
	return SystemEventFailed.payload(now, deliveryFailedData{describeWebhook(w), d.ID.String(), d.Kind, FormatTime(d.CreatedAt), d.Attempts, d.LastError, statusOrNil(d.LastStatus)})
}

// healthNotice tells of an endpoint that has been failing for long, or works again after that; nil if there is nothing to tell.
func healthNotice(w *Webhook, before, after Health, a *Attempt, now time.Time) []byte {
	switch {
	case w.Operations:
	case after.Notified && !before.Notified:
		return SystemEventFailing.payload(now, failingData{describeWebhook(w), FormatTime(after.FailingSince), after.Failures, a.Error, statusOrNil(a.Status)})
	case before.failingLong(now) && !after.Failing():
		return SystemEventRecovered.payload(now, recoveredData{describeWebhook(w), FormatTime(before.FailingSince), before.Failures})
	}
	return nil
}

// EnsureOperations makes the operations webhook what Config says: makes it, changes it, or removes it. It changes nothing where nothing
// has to be. Processes may call it at once: the Store keeps a second one from being made, and who comes second looks again. To be called
// before Run, and after Configure. The error is an InputErrors if the URL is refused.
func (e *Engine) EnsureOperations(ctx context.Context) error {
	for {
		err := e.ensureOperations(ctx)
		if !errors.Is(err, ErrRevision) {
			return err
		}
	}
}

func (e *Engine) ensureOperations(ctx context.Context) error {
	cfg, current := e.Config(), e.store.Webhooks().Operations()
	switch {
	case cfg.OperationsURL == "" && current == nil:
		return nil
	case cfg.OperationsURL == "":
		return e.deleteWebhook(ctx, current.ID)
	case current == nil:
		patch := WebhookPatch{apply: []func(*Webhook){func(w *Webhook) {
			w.URL, w.Name, w.Operations, w.Delay = cfg.OperationsURL, operationsName, true, 0
			w.Secret = cfg.OperationsSecret
		}}}
		_, err := e.CreateWebhook(ctx, patch)
		return err
	case current.URL == cfg.OperationsURL && (cfg.OperationsSecret == "" || cfg.OperationsSecret == current.Secret):
		return nil
	}
	_, err := e.updateWebhook(ctx, current.ID, WebhookPatch{apply: []func(*Webhook){func(w *Webhook) {
		w.URL = cfg.OperationsURL
		if cfg.OperationsSecret != "" && cfg.OperationsSecret != w.Secret {
			w.Secret, w.PreviousSecrets = cfg.OperationsSecret, nil
		}
	}}}, func(_, _ *Webhook) error { return nil })
	return err
}

// CheckOperations says what is wrong with the two settings, as far as it shows without a look-up; field is the one that is wrong, url or
// secret. It never repeats the secret.
func CheckOperations(url string, secret Secret) (field string, err error) {
	if url != "" {
		if err := send.CheckURL(url); err != nil {
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

// CheckOperationsAddress returns the error with which EnsureOperations would refuse to set a URL whose host is an address that the
// configuration does not allow; nil for "".
func CheckOperationsAddress(url string, allow []netip.Prefix) error {
	return send.CheckAddress(url, allow)
}

// checkOperations refuses changes of the operations webhook that the configuration would take back, or that make no sense.
func (e *Engine) checkOperations(w, before *Webhook) error {
	switch {
	case !before.Operations:
		return nil
	case w.URL != before.URL:
		return InputErrors{{Field: "url", Detail: "is set by delivery.operations_url"}}
	case w.Secret != before.Secret && e.config().OperationsSecret != "":
		return InputErrors{{Field: "secret", Detail: "is set by delivery.operations_secret"}}
	case w.ContentID != nil:
		return InputErrors{{Field: "content_id", Detail: "must be null: operational events are of no content"}}
	}
	return nil
}

const (
	// diskCheckInterval is how often the room for new data is looked at.
	diskCheckInterval = 30 * time.Second
	// Room is low below lowFactor times storage.min_free, or above lowPercent of storage.max_bytes; and no longer low above okFactor times
	// the one and below okPercent of the other.
	lowFactor, okFactor   = 2, 3
	lowPercent, okPercent = 95, 92
)

// watchDisk tells when room becomes low, and when there is enough again, until ctx ends.
func (e *Engine) watchDisk(ctx context.Context) {
	for low := false; ; {
		if e.keeper.Load() {
			low = e.notifyDisk(ctx, low)
		}
		if !sleep(ctx, diskCheckInterval) {
			return
		}
	}
}

// notifyDisk tells of a change of the room for new data, if somebody wants to hear of it. low is what was told last, and what it returns is
// what has been told then: what could not be told is told at the next look.
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
	d, err := e.store.Enqueue(ctx, w.ID, KindOperation, payload, now)
	if err != nil {
		return low
	}
	e.lanes.wakeAt(Queued{d.Lane(), d.NextAttemptAt})
	return !low
}

// diskNotice tells of a change of the room for new data in a store that has a file; nil if there is none. low is how it was before.
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

// testNotice is what a test delivery of the operations webhook sends.
func testNotice(now time.Time) []byte {
	return SystemEventTest.payload(now, testData{"This is a test delivery of hookbolt."})
}

// errNoSessions is for what makes sense only for a webhook that gets sessions.
var errNoSessions = fmt.Errorf("%w: this webhook gets operational events, not sessions", ErrConflict)

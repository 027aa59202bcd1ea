package engine

import (
	"errors"
	"fmt"
)

// Errors of a Store and of the Engine's methods. Callers tell them apart with errors.Is.
var (
	// ErrNotFound is returned if no webhook, session or delivery has the given id.
	ErrNotFound = errors.New("not found")
	// ErrConflict is returned if the object exists but its state does not allow the call. Wrap it with the reason.
	ErrConflict = errors.New("conflict")
	// ErrPrecondition is returned if a webhook has none of the tags that the caller has seen: somebody else has changed it since.
	ErrPrecondition = errors.New("the webhook was changed since its tag was read")
	// ErrKeyReused is returned for a request whose key belongs to another request; see Engine.BeginOnce.
	ErrKeyReused = errors.New("the key belongs to another request")
	// ErrRepeated is returned by a Store for a change with a Once whose key it remembers. Nothing of the change was stored.
	ErrRepeated = fmt.Errorf("%w: a request with this key was carried out meanwhile", ErrConflict)
	// ErrRevision is returned by Store.PutWebhook if the webhook was changed by somebody else since it was read.
	ErrRevision = errors.New("webhook was changed meanwhile")
	// ErrNotSendable is returned by Store.Freeze if the delivery must no longer be sent as it was claimed: it was cancelled, queued again
	// or erased, or a cancellation covers it. Store.RecordAttempt returns it if the delivery was erased.
	ErrNotSendable = errors.New("delivery is no longer to be sent")
	// ErrMoreEvents is returned by Store.Freeze if the session has got events that the payload was not built from.
	ErrMoreEvents = errors.New("the session has more events than the payload was built from")
	// ErrUnavailable is returned if the store does not work: it is closed, it has stopped after a failed commit, or it cannot be reached.
	ErrUnavailable = errors.New("storage unavailable")
	// ErrTransient is an ErrUnavailable whose cause is expected to pass within seconds, such as a lost connection or contention. It ends
	// nothing: the call can be repeated.
	ErrTransient = fmt.Errorf("%w for a moment", ErrUnavailable)
	// ErrAway is an ErrTransient of a Store that cannot reach its database. The Store logs when that begins and when it ends; its callers do not.
	ErrAway = fmt.Errorf("%w: its database is away", ErrTransient)
	// ErrLost is returned by a Store that several processes share if this process no longer owns its lanes. All its claims have ended.
	// Callers of the Engine see it as an ErrUnavailable.
	ErrLost = fmt.Errorf("%w: this process has lost its lanes", ErrUnavailable)
	// ErrFull is returned if the store has no room for a change. Nothing of the change was stored; the call may succeed later. Wrap it with
	// figures that anybody may see.
	ErrFull = errors.New("no space")
)

// NotReadyError is returned by Engine.Ready if the store takes no changes and knows why.
type NotReadyError struct {
	// Why is a part of a sentence, such as "the database server cannot be reached". Anybody may see it.
	Why string
	// Err is the cause. It is an ErrTransient if it may pass without a restart.
	Err error
}

func (e *NotReadyError) Error() string { return e.Why + ": " + e.Err.Error() }
func (e *NotReadyError) Unwrap() error { return e.Err }

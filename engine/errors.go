package engine

import (
	"errors"
	"fmt"
)

// Returned by a Store and by the Engine's calls; callers decide on them with errors.Is.
var (
	// ErrNotFound is returned when there is no webhook, session or delivery with the given id.
	ErrNotFound = errors.New("not found")
	// ErrConflict is returned when the thing exists but its state does not allow the call. Wrap it with the reason.
	ErrConflict = errors.New("conflict")
	// ErrRevision is returned by Store.PutWebhook when the webhook was changed by somebody else meanwhile.
	ErrRevision = errors.New("webhook was changed meanwhile")
	// ErrNotSendable is returned by Store.Freeze when the delivery is no longer to be sent: cancelled, covered by a cancellation, or
	// erased; and by Store.RecordAttempt when it was erased.
	ErrNotSendable = errors.New("delivery is no longer to be sent")
	// ErrUnavailable is returned when the store takes no work: it is closed, it has stopped after a failed commit, or it cannot be
	// reached.
	ErrUnavailable = errors.New("storage unavailable")
	// ErrTransient is the ErrUnavailable of what is expected to pass within seconds, such as a lost connection or contention. It ends
	// nothing: the same call may be made again.
	ErrTransient = fmt.Errorf("%w for a moment", ErrUnavailable)
	// ErrLost is returned by a Store that several processes share when this one no longer owns its lanes: all its claims have ended.
	// It is an ErrUnavailable to whoever calls the Engine.
	ErrLost = fmt.Errorf("%w: this process has lost its lanes", ErrUnavailable)
	// ErrFull is returned when the store has no room for a change; nothing of it was stored, and later it may succeed. Wrap it with
	// figures that anybody may see.
	ErrFull = errors.New("no space")
)

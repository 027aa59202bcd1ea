package engine

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
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

// InputError says what is wrong with one piece of the caller's input.
type InputError struct {
	// Index is the place of the event within its request, from 0; always 0 where the input is a single object.
	Index int `json:"index"`
	// Field is the path of the field within it, such as "answers[2].answer_id"; "" means the object as a whole.
	Field string `json:"field"`
	// Detail says what was wrong and what would be right. It never repeats more than a few characters of the input.
	Detail string `json:"detail"`
	// Allow is the network that the webhook's allow_networks would have to name for the input to be taken. It is zero unless the input
	// was refused for its address.
	Allow netip.Prefix `json:"-"`
}

// InputErrors is the error of a call whose input was refused: nothing of it was stored. It is never empty.
type InputErrors []InputError

// maxInputErrors bounds the answer to a large body in which everything is wrong, and the work that is spent on it.
const maxInputErrors = 100

// Sorted returns the errors in the order of their events, no more of them than an answer should have.
func (e InputErrors) Sorted() InputErrors {
	slices.SortStableFunc(e, func(a, b InputError) int { return a.Index - b.Index })
	return e[:min(len(e), maxInputErrors)]
}

func (e InputErrors) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "event %d: ", e[0].Index)
	if e[0].Field != "" {
		b.WriteString(e[0].Field + ": ")
	}
	b.WriteString(e[0].Detail)
	if len(e) > 1 {
		fmt.Fprintf(&b, " (and %d more)", len(e)-1)
	}
	return b.String()
}

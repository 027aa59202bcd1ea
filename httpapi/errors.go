package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"hookbolt/engine"
)

// problem is an error response as RFC 9457 defines it. A handler may return one as its error.
type problem struct {
	// Type is always "about:blank", because the status says what kind of error it is. The title is that of the status.
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	// Errors has an entry for each invalid input.
	Errors engine.InputErrors `json:"errors,omitempty"`

	header map[string]string
}

func (p *problem) Error() string { return p.Detail }

// complete returns the problem with the fields that follow from its status.
func (p *problem) complete() problem {
	full := *p
	full.Type, full.Title = "about:blank", http.StatusText(p.Status)
	if p.Status == statusClientGone {
		full.Title = "Client Closed Request"
	}
	return full
}

// statusClientGone is the status in metrics for a request whose client disconnected before the response. nginx uses the same number.
const statusClientGone = 499

// errPanicked is the problem for a panic, which is logged already.
var errPanicked = &problem{Status: http.StatusInternalServerError, Detail: internalDetail}

var errNoSuchPath = &problem{Status: http.StatusNotFound, Detail: "there is nothing at this path"}

// internalDetail reveals nothing about the cause. The log has it.
const internalDetail = "something went wrong inside hookbolt; its log says more"

// problemOf is the only place where an error gets its status.
func problemOf(ctx context.Context, err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	if bad, ok := errors.AsType[engine.InputErrors](err); ok {
		return &problem{Status: http.StatusBadRequest, Detail: inputDetail(bad), Errors: bad}
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &problem{Status: http.StatusRequestEntityTooLarge,
			Detail: fmt.Sprintf("the body has more than %d bytes, which is the limit of this call (of events, http.max_body sets it)", tooLarge.Limit)}
	}
	switch {
	case errors.Is(err, engine.ErrNotFound):
		return &problem{Status: http.StatusNotFound, Detail: err.Error()}
	case errors.Is(err, engine.ErrConflict):
		// The status says "conflict" already; what follows is the reason.
		return &problem{Status: http.StatusConflict, Detail: strings.TrimPrefix(err.Error(), engine.ErrConflict.Error()+": ")}
	case errors.Is(err, engine.ErrPrecondition):
		return errChanged
	case errors.Is(err, engine.ErrErasureStopped):
		return &problem{Status: http.StatusServiceUnavailable, Detail: "hookbolt is stopping; the erasure is stored, and the next start completes it",
			header: map[string]string{"Retry-After": "5"}}
	case errors.Is(err, engine.ErrFull):
		return &problem{Status: http.StatusServiceUnavailable, Detail: err.Error() + "; nothing of this request was stored",
			header: map[string]string{"Retry-After": "5"}}
	case errors.Is(err, engine.ErrUnavailable):
		return &problem{Status: http.StatusServiceUnavailable, Detail: "the database takes no work at the moment; what this request would have stored is not acknowledged",
			header: map[string]string{"Retry-After": "5"}}
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return &problem{Status: statusClientGone, Detail: "the client went away before the answer"}
	}
	return &problem{Status: http.StatusInternalServerError, Detail: internalDetail}
}

// inputDetail describes the first error, so that a person need not read the list.
func inputDetail(bad engine.InputErrors) string {
	var b strings.Builder
	if bad[0].Index > 0 {
		fmt.Fprintf(&b, "event %d: ", bad[0].Index)
	}
	if bad[0].Field != "" {
		b.WriteString(bad[0].Field + ": ")
	}
	b.WriteString(bad[0].Detail)
	if len(bad) > 1 {
		fmt.Fprintf(&b, " (and %d more in errors)", len(bad)-1)
	}
	return b.String()
}

package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"hookbolt/engine"
)

// problem is an error answer, as RFC 9457 shapes it. A handler may return one as its error.
type problem struct {
	// Type is always "about:blank": the status says it all, and the title is the status's own.
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	// Errors has an entry for each piece of bad input.
	Errors engine.InputErrors `json:"errors,omitempty"`

	header map[string]string
}

func (p *problem) Error() string { return p.Detail }

// complete returns the problem with the members that follow from its status.
func (p *problem) complete() problem {
	full := *p
	full.Type, full.Title = "about:blank", http.StatusText(p.Status)
	if p.Status == statusClientGone {
		full.Title = "Client Closed Request"
	}
	return full
}

// statusClientGone is what metrics show for a request whose client went away before the answer; nobody reads it. It is nginx's number.
const statusClientGone = 499

// errPanicked stands for a panic, which is logged already.
var errPanicked = &problem{Status: http.StatusInternalServerError, Detail: internalDetail}

var errNoSuchPath = &problem{Status: http.StatusNotFound, Detail: "there is nothing at this path"}

// internalDetail tells nothing of the inside; the log does.
const internalDetail = "something went wrong inside hookbolt; its log says more"

// problemOf is the one place where an error gets its status.
func problemOf(ctx context.Context, err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	if bad, ok := errors.AsType[engine.InputErrors](err); ok {
		return &problem{Status: http.StatusBadRequest, Detail: inputDetail(bad), Errors: bad}
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &problem{Status: http.StatusRequestEntityTooLarge,
			Detail: fmt.Sprintf("the body has more than %d bytes, which is the limit that http.max_body sets", tooLarge.Limit)}
	}
	switch {
	case errors.Is(err, engine.ErrNotFound):
		return &problem{Status: http.StatusNotFound, Detail: err.Error()}
	case errors.Is(err, engine.ErrConflict):
		// The status says "conflict" already; what follows is the reason.
		return &problem{Status: http.StatusConflict, Detail: strings.TrimPrefix(err.Error(), engine.ErrConflict.Error()+": ")}
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

// inputDetail tells the first thing that is wrong, so that a person need not read on.
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

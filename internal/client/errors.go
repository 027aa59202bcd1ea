package client

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"hookbolt/internal/text"
)

var (
	// ErrUnreachable is an error of a call that got no answer.
	ErrUnreachable = errors.New("the server cannot be reached")
	// ErrNotHookbolt is an error of a call that somebody else has answered than a hookbolt.
	ErrNotHookbolt = errors.New("the answer is not of hookbolt")
)

// unreachable is an ErrUnreachable that says why.
type unreachable struct{ error }

func (e *unreachable) Unwrap() []error { return []error{e.error, ErrUnreachable} }

// unexpected is an ErrNotHookbolt that says what was answered.
type unexpected struct{ text string }

// NotHookbolt returns an ErrNotHookbolt that says what was answered.
func NotHookbolt(format string, args ...any) error { return &unexpected{fmt.Sprintf(format, args...)} }

func (e *unexpected) Error() string { return e.text }
func (e *unexpected) Unwrap() error { return ErrNotHookbolt }

// StatusError is an answer other than 2xx.
type StatusError struct {
	Call   string // such as "GET http://127.0.0.1:8080/v1/webhooks"
	Status int
	// Detail says what is wrong, in one line that steers no terminal.
	Detail string

	foreign bool // the answer is not of hookbolt
}

// Error is one line.
func (e *StatusError) Error() string {
	return fmt.Sprintf("%s: %d %s: %s", e.Call, e.Status, cmp.Or(http.StatusText(e.Status), "(a status without a name)"), e.Detail)
}

// Is makes an answer of somebody else an ErrNotHookbolt, too.
func (e *StatusError) Is(target error) bool { return e.foreign && target == ErrNotHookbolt }

// newStatusError reads a problem. Its errors, if it has any, say more than its detail. Of an answer that is not hookbolt's it shows the
// beginning.
func newStatusError(call string, resp *http.Response, body []byte) *StatusError {
	e := &StatusError{Call: call, Status: resp.StatusCode}
	var problem struct {
		Detail string `json:"detail"`
		Errors []struct {
			Field  string `json:"field"`
			Detail string `json:"detail"`
		} `json:"errors"`
	}
	if json.Unmarshal(body, &problem) != nil || problem.Detail == "" {
		e.foreign = true
		e.Detail = fmt.Sprintf("not an answer of hookbolt's; it begins with %.100q", text.OneLine(string(body[:min(len(body), 200)])))
		if to := resp.Header.Get("Location"); to != "" {
			e.Detail = fmt.Sprintf("it points to %.200q", text.OneLine(to))
		}
		return e
	}
	details := []string{problem.Detail}
	if len(problem.Errors) > 0 {
		details = nil
	}
	for _, bad := range problem.Errors {
		if bad.Field != "" {
			bad.Detail = bad.Field + ": " + bad.Detail
		}
		details = append(details, bad.Detail)
	}
	e.Detail = text.OneLine(strings.Join(details, "; "))
	return e
}

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
	// ErrUnreachable is returned by a call that got no response.
	ErrUnreachable = errors.New("the server cannot be reached")
	// ErrNotHookbolt is returned by a call that another kind of server has answered.
	ErrNotHookbolt = errors.New("the answer is not of hookbolt")
)

// unreachable is an ErrUnreachable with a reason.
type unreachable struct{ error }

func (e *unreachable) Unwrap() []error { return []error{e.error, ErrUnreachable} }

// unexpected is an ErrNotHookbolt that describes the response.
type unexpected struct{ text string }

// NotHookbolt returns an ErrNotHookbolt that describes the response.
func NotHookbolt(format string, args ...any) error { return &unexpected{fmt.Sprintf(format, args...)} }

func (e *unexpected) Error() string { return e.text }
func (e *unexpected) Unwrap() error { return ErrNotHookbolt }

// StatusError is a response with a status other than 2xx.
type StatusError struct {
	Call   string // such as "GET http://127.0.0.1:8080/v1/webhooks"
	Status int
	// Detail says what is wrong, in one line without control characters. It is not used if there are Errors.
	Detail string
	// Errors say what is wrong with fields of the request.
	Errors []FieldError

	foreign bool // the response is not hookbolt's
}

// FieldError is an entry of a problem's errors.
type FieldError struct {
	// Field is the path of the field, such as "answers[2].answer_id"; "" means the request as a whole.
	Field string `json:"field"`
	// Line and Column are the place in the text of the field, a program; 0 means that there is no such place.
	Line   int    `json:"line"`
	Column int    `json:"column"`
	Detail string `json:"detail"`
}

// Error is one line.
func (e *StatusError) Error() string {
	detail := e.Detail
	if len(e.Errors) > 0 {
		details := make([]string, len(e.Errors))
		for i, bad := range e.Errors {
			details[i] = bad.Detail
			if bad.Line > 0 {
				details[i] = fmt.Sprintf("line %d, column %d: %s", bad.Line, bad.Column, bad.Detail)
			}
			if bad.Field != "" {
				details[i] = bad.Field + ": " + details[i]
			}
		}
		detail = text.OneLine(strings.Join(details, "; "))
	}
	return fmt.Sprintf("%s: %d %s: %s", e.Call, e.Status, cmp.Or(http.StatusText(e.Status), "(a status without a name)"), detail)
}

// Is makes the response of another kind of server an ErrNotHookbolt, too.
func (e *StatusError) Is(target error) bool { return e.foreign && target == ErrNotHookbolt }

// newStatusError reads a problem. The problem's errors, if it has any, say more than its detail. If the response is not hookbolt's,
// the error shows its beginning.
func newStatusError(call string, resp *http.Response, body []byte) *StatusError {
	e := &StatusError{Call: call, Status: resp.StatusCode}
	var problem struct {
		Detail string       `json:"detail"`
		Errors []FieldError `json:"errors"`
	}
	if json.Unmarshal(body, &problem) != nil || problem.Detail == "" {
		e.foreign = true
		e.Detail = fmt.Sprintf("not an answer of hookbolt's; it begins with %.100q", text.OneLine(string(body[:min(len(body), 200)])))
		if to := resp.Header.Get("Location"); to != "" {
			e.Detail = fmt.Sprintf("it points to %.200q", text.OneLine(to))
		}
		return e
	}
	e.Detail, e.Errors = text.OneLine(problem.Detail), problem.Errors
	return e
}

package engine

import "fmt"

// SessionState says whether a session has finished, in the words of the payload and of deliveries.
type SessionState string

// The states of a session.
const (
	SessionComplete   SessionState = "complete"   // it has finished
	SessionIncomplete SessionState = "incomplete" // it has not finished
)

// ParseSessionState reads the name of a state.
func ParseSessionState(s string) (SessionState, error) {
	switch state := SessionState(s); state {
	case SessionComplete, SessionIncomplete:
		return state, nil
	}
	return "", fmt.Errorf("must be complete or incomplete (got %q)", Excerpt(s))
}

// State returns the state of a session.
func (h *SessionHead) State() SessionState {
	if h.FinishedAt.IsZero() {
		return SessionIncomplete
	}
	return SessionComplete
}

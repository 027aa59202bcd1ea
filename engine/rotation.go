package engine

import (
	"time"

	"hookbolt/engine/jsonread"
)

// MaxOverlap is how long a secret may sign on after its rotation.
const MaxOverlap = 30 * 24 * time.Hour

// defaultOverlap is how long a secret signs on after its rotation, unless the caller says: a day to change an endpoint.
const defaultOverlap = 24 * time.Hour

// Rotation is how a webhook gets its next secret.
type Rotation struct {
	// Overlap is how long the present secret signs beside the next one, 0 to MaxOverlap; 0: it stops at once.
	Overlap time.Duration
	// Secret is the next secret; "" has one made.
	Secret Secret
	// IfTag are the tags of which the webhook must have one; see WebhookPatch.IfTag.
	IfTag []string
	// Once is the request that it is made for, if it has a key; see Engine.BeginOnce.
	Once *Once
}

// ParseRotation reads a rotation from a JSON object, in which both fields may be left out or null. Without a body the overlap is a
// day and the secret is made. The error is an InputErrors.
func ParseRotation(body []byte) (Rotation, error) {
	rotation := Rotation{Overlap: defaultOverlap}
	if len(body) == 0 {
		return rotation, nil
	}
	err := parseObject(body, func(r *jsonread.Reader, key []byte) bool {
		switch string(key) {
		case "overlap":
			if r.Null() {
				break
			}
			d := readDuration(r)
			if d < 0 || time.Duration(d) > MaxOverlap {
				r.Fail("must be 0s to %s (got %s)", Duration(MaxOverlap), d)
			}
			rotation.Overlap = time.Duration(d)
		case "secret":
			if !r.Null() {
				rotation.Secret = readSecret(r)
			}
		default:
			return false
		}
		return true
	})
	if err != nil {
		return Rotation{}, err
	}
	return rotation, nil
}

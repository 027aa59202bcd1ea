package engine

import "time"

// SignIn is a browser that has signed in to the pages. Who reads it learns neither the id, which is the browser's cookie, nor the token.
type SignIn struct {
	// ID and Token are SHA-256 hashes: of the id that the browser has as its cookie, and of the token that it has signed in with.
	ID, Token [32]byte
	// EndAt is when the sign-in ends by itself, in UTC.
	EndAt time.Time
}

// MaxSignIns bounds the sign-ins of each token. Beyond it the oldest one ends. A token of a team has fewer browsers.
const MaxSignIns = 100

// Package storetest is the conformance suite of [engine.Store]: one rule for each promise of the interface. It is a black box. A rule
// knows a store by its methods alone, and decides what must have happened with the pure functions of package engine.
//
// # Use
//
// A store calls [Run] in a test of its own:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, storetest.Backend{New: func(tb storetest.TB) storetest.Opener {
//			path := filepath.Join(tb.TempDir(), "hookbolt.db")
//			return func() (storetest.Store, error) { return bolt.Open(path, bolt.Options{}) }
//		}})
//	}
//
// New makes an empty database, and has tb remove it. The Opener that it returns opens a store on this database, which stands for a process:
// a rule opens one, closes it, and opens the next one, which finds what was stored. If several processes may have the database at once,
// Backend.Shared says so: then the rules that need two of them are run, too.
//
// # What a store must provide
//
//   - Close ends the process: its calls fail with [engine.ErrUnavailable] afterwards, its claims have ended, and its lanes go to others.
//     A store may check its database there: an error of Close is a failure of the rule.
//   - A process that is alone comes to own all webhooks within Backend.Patience, new ones too; [engine.Store].Mine tells.
//   - Instants are kept to the nanosecond, in UTC.
//   - The rules run in parallel, each on a database of its own.
//
// # What is not tried
//
// What cannot be brought about through the interface: [engine.ErrFull], [engine.ErrTransient], [engine.ErrLost], damage, a crash in the middle
// of a commit, and the bounds of a step. A store has tests of its own for these.
//
// # Rules
//
// A rule has a broken store in the tests of this package: a correct one that breaks just this promise. A rule that does not catch it fails
// these tests. So a new rule needs a new broken store.
package storetest

import (
	"context"
	"slices"
	"testing"
	"time"

	"hookbolt/engine"
)

// TB is what a rule needs of a test. A [testing.T] is one. Fatalf ends the goroutine of the rule.
type TB interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Cleanup(func())
	TempDir() string
	Context() context.Context
}

// Store is a store under test, which can be closed.
type Store interface {
	engine.Store
	Close() error
}

// Opener opens a store on a database.
type Opener func() (Store, error)

// Backend makes the databases that the suite is run on.
type Backend struct {
	// New makes an empty database, and has tb remove it in the end.
	New func(tb TB) Opener
	// Shared tells that several stores may be open on a database at once.
	Shared bool
	// Patience is how long a rule waits for what a store does by itself, such as a first report of Watch. Defaults to 20 s.
	Patience time.Duration
}

const defaultPatience = 20 * time.Second

// Rule is a promise of [engine.Store], and how it is tried.
type Rule struct {
	// Name is the subject and the promise, such as "claim/oldest first".
	Name string
	// Shared tells that it takes several stores at once.
	Shared bool

	check func(t *T)
}

// Rules are all rules.
var Rules = slices.Concat(appendRules, fanOutRules, readyRules, claimRules, freezeRules, supersedeRules, programRules, recordRules, healthRules, noticeRules, rescheduleRules,
	readRules, listRules, webhookRules, cancellationRules, replayRules, onceRules, eraseRules, sessionsRules, personRules, maintainRules, statsRules, watchRules, errorRules,
	togetherRules, sharedRules)

// Run tries all rules on a store, each in a subtest.
func Run(t *testing.T, b Backend) {
	t.Helper()
	for _, r := range Rules {
		if r.Shared && !b.Shared {
			continue
		}
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			r.Check(t, b)
		})
	}
}

// Check tries the rule on a new database. What is left open when it ends is closed by tb.Cleanup.
func (r Rule) Check(tb TB, b Backend) {
	tb.Helper()
	if b.Patience == 0 {
		b.Patience = defaultPatience
	}
	r.check(&T{TB: tb, backend: b, open: b.New(tb)})
}

package storetest_test

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"hookbolt/storage/bolt"
	"hookbolt/storage/storetest"
)

// correct is a backend whose stores keep all promises.
var correct = storetest.Backend{New: func(tb storetest.TB) storetest.Opener {
	path := filepath.Join(tb.TempDir(), "hookbolt.db")
	return func() (storetest.Store, error) {
		s, err := bolt.Open(path, bolt.Options{})
		if err != nil {
			return nil, err
		}
		return s, nil
	}
}}

// recorder is a test that records failures instead of failing.
type recorder struct {
	t      *testing.T
	ctx    context.Context
	cancel context.CancelFunc

	mu       sync.Mutex
	failures []string
	cleanups []func()
}

func (r *recorder) Helper()                  {}
func (r *recorder) TempDir() string          { return r.t.TempDir() }
func (r *recorder) Context() context.Context { return r.ctx }

func (r *recorder) Cleanup(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cleanups = append(r.cleanups, f)
}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

// failures tries a rule and returns what it has found.
func failures(t *testing.T, rule storetest.Rule, b storetest.Backend) []string {
	r := &recorder{t: t}
	r.ctx, r.cancel = context.WithCancel(t.Context())
	done := make(chan any)
	go func() {
		defer func() { done <- recover() }()
		rule.Check(r, b)
	}()
	if p := <-done; p != nil {
		t.Errorf("%s: panic: %v", rule.Name, p)
	}
	r.cancel()
	for _, f := range slices.Backward(r.cleanups) {
		f()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failures
}

// breaks makes a backend of which each store is broken.
func breaks(b storetest.Backend, breaks func(b *broken)) storetest.Backend {
	good := b.New
	b.Patience = 300 * time.Millisecond // what a broken store does not do it never does
	b.New = func(tb storetest.TB) storetest.Opener {
		open, opened := good(tb), 0
		memory := newMemory()
		return func() (storetest.Store, error) {
			s, err := open()
			if err != nil {
				return nil, err
			}
			opened++
			b := &broken{Store: s, memory: memory, opened: opened}
			breaks(b)
			return b, nil
		}
	}
	return b
}

// Each rule catches a store that breaks its promise and no other.
func TestRulesCatchBrokenStores(t *testing.T) {
	rules := make(map[string]storetest.Rule)
	for _, r := range storetest.Rules {
		if _, twice := rules[r.Name]; twice {
			t.Errorf("two rules are called %s", r.Name)
		}
		rules[r.Name] = r
	}
	left := make(map[string]bool)
	for name := range rules {
		left[name] = true
	}
	for _, m := range mutants() {
		rule, ok := rules[m.rule]
		if !ok {
			t.Errorf("there is no rule %s", m.rule)
		}
		delete(left, m.rule)
		t.Run(m.rule+"/"+m.name, func(t *testing.T) {
			t.Parallel()
			backend := correct
			if rule.Shared {
				backend = shared
			}
			found := failures(t, rule, breaks(backend, m.breaks))
			if len(found) == 0 {
				t.Errorf("the rule does not catch a store that breaks it: %s", m.name)
			}
			for _, f := range found {
				t.Log("caught: " + f)
			}
		})
	}
	for name := range left {
		t.Errorf("the rule %s has no broken store", name)
	}
}

// A store that several processes share keeps the promises, too.
func TestShared(t *testing.T) { storetest.Run(t, shared) }

package engine

import (
	"context"
	"errors"
	"sync"
)

// errCutOff is the cause of contexts that end because this process may not own its lanes any more.
var errCutOff = errors.New("this process may have lost its lanes")

// cutOff is the context of all attempts in flight, which can be cut off together.
type cutOff struct {
	parent context.Context
	mu     sync.Mutex
	ctx    context.Context         // guarded by mu, as cancel
	cancel context.CancelCauseFunc //
}

func newCutOff(parent context.Context) *cutOff {
	c := &cutOff{parent: parent}
	c.ctx, c.cancel = context.WithCancelCause(parent)
	return c
}

// context returns the context for an attempt. Who asks for it before Store.Mine is cut off if what that has answered is over.
func (c *cutOff) context() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ctx
}

// end cuts off all attempts, also those that begin later.
func (c *cutOff) end(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cancel(cause)
}

// once cuts off the attempts in flight. Later ones may go on.
func (c *cutOff) once(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() == nil { // else they have ended for good
		c.cancel(cause)
		c.ctx, c.cancel = context.WithCancelCause(c.parent)
	}
}

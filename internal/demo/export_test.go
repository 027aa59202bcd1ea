package demo

import (
	"context"
	"time"
)

// RunFast is Run in a hurry.
func RunFast(ctx context.Context, o Options) error {
	o.pace = pace{factor: 60, between: 20 * time.Millisecond, ahead: 200 * time.Millisecond, arrivalTimeout: 20 * time.Second}
	return Run(ctx, o)
}

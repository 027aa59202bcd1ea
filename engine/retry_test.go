package engine

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestDefaultRetrySchedule(t *testing.T) {
	want := []string{"5s", "5m", "30m", "2h", "5h", "10h", "14h", "20h", "24h"}
	if len(DefaultRetrySchedule) != len(want) {
		t.Fatalf("%v, want %v", DefaultRetrySchedule, want)
	}
	for i, d := range DefaultRetrySchedule {
		if d.String() != want[i] {
			t.Errorf("step %d: %s, want %s", i, d, want[i])
		}
	}
	if err := CheckRetrySchedule(DefaultRetrySchedule); err != nil {
		t.Error(err)
	}
}

func TestRetryPolicyAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	failed := func(retryAfter time.Duration) *Attempt {
		return &Attempt{Outcome: Outcome{Status: 503, Error: ErrorStatus, RetryAfter: retryAfter}}
	}
	token := func(retryAfter time.Duration) *Attempt {
		return &Attempt{Outcome: Outcome{Error: ErrorOAuth, RetryAfter: retryAfter}}
	}
	held := failed(time.Minute)
	held.heldUntil = now.Add(10 * time.Minute)
	schedule := []Duration{Duration(5 * time.Second), Duration(5 * time.Minute)}
	rejected := &Attempt{Outcome: Outcome{StartedAt: now, Status: 401, Error: ErrorStatus, TokenRejected: true}}
	tests := []struct {
		name     string
		schedule []Duration
		attempt  *Attempt
		tries    int
		status   Status
		wait     time.Duration
		reason   NextReason
	}{
		{"delivered", schedule, &Attempt{Outcome: Outcome{Status: 204}}, 1, StatusDelivered, 0, ""},
		{"delivered by the last try", schedule, &Attempt{Outcome: Outcome{Status: 200}}, 3, StatusDelivered, 0, ""},
		{"first step", schedule, failed(0), 1, StatusPending, 5 * time.Second, NextBySchedule},
		{"last step", schedule, failed(0), 2, StatusPending, 5 * time.Minute, NextBySchedule},
		{"schedule ended", schedule, failed(0), 3, StatusFailed, 0, NextExhausted},
		{"long after its end", schedule, failed(0), 30, StatusFailed, 0, NextExhausted},
		{"no retries", nil, failed(0), 1, StatusFailed, 0, NextExhausted},
		{"load refused", schedule, failed(time.Minute), 1, StatusPending, 0, NextByThrottle},
		{"load refused at a later step", schedule, failed(time.Minute), 2, StatusPending, 0, NextByThrottle},
		{"load refused at the end", schedule, failed(time.Minute), 3, StatusPending, 0, NextByThrottle},
		{"load refused while the lane is held for longer", schedule, held, 1, StatusPending, 0, NextByThrottle},
		{"a token endpoint's Retry-After prolongs", schedule, token(time.Minute), 1, StatusPending, time.Minute, NextByRetryAfter},
		{"it never shortens", schedule, token(time.Minute), 2, StatusPending, 5 * time.Minute, NextBySchedule},
		{"it is bounded", schedule, token(1000 * time.Hour), 1, StatusPending, 24 * time.Hour, NextByRetryAfter},
		{"it makes no more tries", schedule, token(time.Minute), 3, StatusFailed, 0, NextExhausted},
		{"no answer", schedule, &Attempt{Outcome: Outcome{Error: ErrorTimeout}}, 1, StatusPending, 5 * time.Second, NextBySchedule},
		{"a token that was revoked", schedule, rejected, 1, StatusPending, 0, NextByToken},
		{"a token that was revoked, at the end", nil, rejected, 1, StatusPending, 0, NextByToken},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			policy := RetryPolicy{Schedule: tt.schedule, RetryAfterMax: 24 * time.Hour} // no jitter
			got := policy.After(tt.attempt, &Delivery{Attempts: tt.tries - 1, Tries: tt.tries - 1}, now, rand.Float64())
			want := Next{Status: tt.status, Reason: tt.reason}
			if tt.status == StatusPending {
				want.At = now.Add(tt.wait)
			}
			if got != want || got.Counts() == (tt.reason == NextByToken || tt.reason == NextByThrottle) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

// TestRefusedForever: an endpoint that refuses only one delivery uses up its tries in the end; one that refuses all does not.
func TestRefusedForever(t *testing.T) {
	now := time.Now()
	policy := RetryPolicy{Schedule: []Duration{Duration(time.Hour)}, RetryAfterMax: time.Hour}
	refused := &Attempt{Outcome: Outcome{Status: 429, Error: ErrorStatus, RetryAfter: time.Minute}}
	again := &Attempt{Outcome: refused.Outcome, refusedAgain: true}
	for refusals, want := range map[int]NextReason{0: NextByThrottle, 99: NextByThrottle, 100: NextBySchedule} {
		d := &Delivery{Attempts: refusals}
		if got := policy.After(refused, d, now, 0.5); got.Reason != want {
			t.Errorf("after %d refusals: %v, want %s", refusals, got, want)
		}
		if got := policy.After(again, d, now, 0.5); got.Reason != NextByThrottle {
			t.Errorf("after %d refusals of everything: %v", refusals, got)
		}
	}
}

// TestRefusedTest: the lane of tests is not held, so a test itself waits.
func TestRefusedTest(t *testing.T) {
	now := time.Now()
	policy := RetryPolicy{RetryAfterMax: time.Hour}
	for asked, want := range map[time.Duration]time.Duration{time.Minute: 10 * time.Minute, 20 * time.Minute: 20 * time.Minute, 9 * time.Hour: time.Hour} {
		a := &Attempt{Outcome: Outcome{Status: 429, Error: ErrorStatus, RetryAfter: asked}, heldUntil: now.Add(10 * time.Minute)}
		if got := policy.After(a, &Delivery{Kind: KindTest}, now, 0.5); got.At.Sub(now) != want || got.Reason != NextByThrottle {
			t.Errorf("asked for %s: %v", asked, got)
		}
	}
}

// TestRetryPolicyBoundBelowStep: a bound that is shorter than the step leaves the step as it is.
func TestRetryPolicyBoundBelowStep(t *testing.T) {
	now := time.Now()
	policy := RetryPolicy{Schedule: []Duration{Duration(time.Hour)}, RetryAfterMax: time.Minute}
	if got := policy.After(&Attempt{Outcome: Outcome{Error: ErrorStatus, RetryAfter: 2 * time.Hour}}, new(Delivery), now, rand.Float64()).At.Sub(now); got != time.Hour {
		t.Errorf("got %s, want 1h", got)
	}
}

// TestRetryJitter: every wait lies within the share, on both sides of the step, and the waits differ.
func TestRetryJitter(t *testing.T) {
	now := time.Now()
	for _, jitter := range []float64{0.1, 0.5, 1} {
		policy := RetryPolicy{Schedule: DefaultRetrySchedule, Jitter: jitter, RetryAfterMax: 24 * time.Hour}
		for i, step := range DefaultRetrySchedule {
			step := time.Duration(step)
			low, high := time.Duration(float64(step)*(1-jitter)), time.Duration(float64(step)*(1+jitter))
			var below, above int
			for range 1000 {
				wait := policy.After(&Attempt{Outcome: Outcome{Error: ErrorReset}}, &Delivery{Attempts: i, Tries: i}, now, rand.Float64()).At.Sub(now)
				if wait < low-1 || wait > high+1 {
					t.Fatalf("jitter %v, step %s: waits %s, want %s to %s", jitter, step, wait, low, high)
				}
				// Near the bounds, so that half of the share would not do.
				if wait < step-time.Duration(float64(step)*jitter*0.8) {
					below++
				}
				if wait > step+time.Duration(float64(step)*jitter*0.8) {
					above++
				}
			}
			// 100 each are expected; fewer than 30 is less likely than 1 in 10^15.
			if below < 30 || above < 30 {
				t.Errorf("jitter %v, step %s: %d of 1000 near the lower bound, %d near the upper", jitter, step, below, above)
			}
		}
		// What the endpoint asks for is not shortened by jitter.
		for range 100 {
			if wait := policy.After(&Attempt{Outcome: Outcome{Error: ErrorStatus, RetryAfter: time.Hour}}, new(Delivery), now, rand.Float64()).At.Sub(now); wait != time.Hour {
				t.Fatalf("waits %s, want what Retry-After says", wait)
			}
		}
	}
}

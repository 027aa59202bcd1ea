package torture

import "testing"

// throttleFlock is the engine's own tests with what it does about endpoints that refuse load broken.
var throttleFlock = &flock{names: make(map[edit]string)}

func init() {
	const throttle, lanes, pace = "engine/throttle.go", "engine/lanehealth.go", "engine/pace.go"
	for _, m := range []struct {
		name  string
		edits []edit
	}{
		// A refusal holds nothing.
		{"no-hold", []edit{{file: throttle, old: "\treturn max(hold, asked)\n", new: "\treturn mutated(\"no-hold\", 0, max(hold, asked))\n"}}},
		// The endpoint is asked again and again at the same intervals, though it takes nothing.
		{"no-backoff", []edit{{file: throttle, old: "\tfor range refusals - 1 {\n", new: "\tfor range mutated(\"no-backoff\", 0, refusals-1) {\n"}}},
		// A refused delivery loses a try.
		{"loses-tries", []edit{{file: "engine/retry.go", old: "return n.Reason != NextByToken && n.Reason != NextByThrottle",
			new: `return n.Reason != NextByToken && (n.Reason != NextByThrottle || mutant("loses-tries"))`}}},
		// One that is refused forever is kept forever.
		{"forever", []edit{{file: "engine/retry.go", old: "(a.refusedAgain || ", new: `(a.refusedAgain || mutant("forever") || `}}},
		// Refusals make the endpoint failing.
		{"is-failing", []edit{{file: "engine/health.go", old: "if h.Failures-h.Refused >= failingAfter {",
			new: `if h.Failures-mutated("is-failing", 0, h.Refused) >= failingAfter {`}}},
		// After the hold the lane sends as fast as before.
		{"burst", []edit{
			{file: throttle, old: "\tif t.Ceiling == 0 || t.over(since) {\n", new: "\tif t.Ceiling == 0 || t.over(since) || mutant(\"burst\") {\n"},
			{file: pace, old: "\tcase ln.window.size > 0:\n", new: "\tcase ln.window.size > 0 && !mutant(\"burst\"):\n"},
		}},
		// The rate does not fall.
		{"no-decrease", []edit{{file: throttle, old: "\tt.Ceiling = max(minRate, t.Ceiling)\n", new: "\tt.Ceiling = max(minRate, t.Ceiling, mutated(\"no-decrease\", 1000.0, 0))\n"}}},
		// It does not rise.
		{"no-rise", []edit{
			{file: throttle, old: "\tx := since.Seconds() / t.period().Seconds()\n", new: "\tx := mutated(\"no-rise\", 0, since.Seconds()/t.period().Seconds())\n"},
			{file: throttle, old: "|| since >= throttlePeriods*t.period()\n", new: "|| since >= throttlePeriods*t.period() && !mutant(\"no-rise\")\n"},
		}},
		// Each refusal of attempts that were in flight together lowers the rate.
		{"each-counts", []edit{{file: lanes, old: "late := ln.health.Throttle, c.round < ln.round", new: "late := ln.health.Throttle, c.round < ln.round && !mutant(\"each-counts\")"}}},
		// A restart ends the hold.
		{"forgets-hold", []edit{{file: "storage/bolt/codec.go", old: "\te.time(h.Throttle.HeldUntil)\n",
			new: "\te.time(mutated(\"forgets-hold\", time.Time{}, h.Throttle.HeldUntil))\n"}}},
		// A restart ends the beat of a rate limit.
		{"forgets-beat", []edit{{file: "storage/bolt/codec.go", old: "\te.time(h.NextSlotAt)\n", new: "\te.time(mutated(\"forgets-beat\", time.Time{}, h.NextSlotAt))\n"}}},
	} {
		throttleFlock.shared(m.name, m.edits...)
	}
}

// The engine's tests notice each way in which it could treat an endpoint that refuses load wrongly.
func TestThrottleControl(t *testing.T) {
	experiment(t)
	wantCaught(t, throttleFlock, "./engine", "Quota|HeldLane|OneDeliveryIs|EverythingIs|Gateway|RateLimitAcross|Refused/^5_a_second$|^5_in_any_second$")
}

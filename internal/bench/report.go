package bench

import (
	"time"
)

// Report is what a run has found out. A stage that was not run is null, and so is a figure that is not known.
type Report struct {
	StartedAt time.Time `json:"started_at"`
	Command   string    `json:"command"`
	Machine   Machine   `json:"machine"`

	Relay     *Measured  `json:"bare_relay"`
	Scheduled *Scheduled `json:"scheduled"`
	Idle      *Idle      `json:"idle"`
	FullSpeed *Measured  `json:"full_speed"`
	// Steady is half of the full speed, or what -rate says.
	Steady *Measured `json:"steady_rate"`
	Outage *Outage   `json:"outage"`

	// Interrupted is whether the run was ended early: then it does not tell what is missing.
	Interrupted bool `json:"interrupted"`
	// Problems is what was wrong; empty if all was well.
	Problems []string `json:"problems"`
}

// Percentiles are spans in milliseconds.
type Percentiles struct {
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99_9"`
	Max  float64 `json:"max"`
}

// percentiles returns those of what was counted; nil if that is nothing.
func (c *counts) percentiles() *Percentiles {
	if c.total == 0 {
		return nil
	}
	return &Percentiles{milliseconds(c.percentile(.5)), milliseconds(c.percentile(.99)), milliseconds(c.percentile(.999)), milliseconds(c.max)}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// Check is whether all that was accepted has been delivered once.
type Check struct {
	// Missing is how many deliveries did not come, Repeated how many came again. Missing is null where the run did not wait for them.
	Missing  *int64 `json:"missing"`
	Repeated int64  `json:"repeated"`
	// RefusedRequests were answered with something else than 202, or not at all; FirstRefusal is why the first of them was.
	RefusedRequests int64  `json:"refused_requests"`
	FirstRefusal    string `json:"first_refusal,omitempty"`
}

// Measured is a load and what came of it, in the measured window.
type Measured struct {
	Seconds     float64 `json:"seconds"`
	Connections int     `json:"connections"`
	Batch       int     `json:"sessions_per_request"`
	Webhooks    int     `json:"webhooks"`
	// Rate is what was to be sent of a steady rate; null at full speed.
	Rate *float64 `json:"rate_sessions_per_second"`
	// Unsent is how many requests of the steady rate were given up, because the server was too far behind.
	Unsent int64 `json:"unsent_requests"`

	AcceptedSessions float64 `json:"accepted_sessions_per_second"`
	AcceptedEvents   float64 `json:"accepted_events_per_second"`
	// Acknowledgement is from the instant at which a request was due to be sent to its answer.
	Acknowledgement *Percentiles `json:"acknowledgement_milliseconds"`
	// Deliveries is what arrived in the window, ShareOfRelay how much that is of what the bare relay did.
	Deliveries   float64  `json:"deliveries_per_second"`
	ShareOfRelay *float64 `json:"share_of_bare_relay_percent"`
	// Backlog is what waited to be delivered at the window's end. Sustained is what arrived from the window's begin to the last arrival:
	// what a server delivers that takes in more for a while than it sends.
	Backlog   int64   `json:"backlog_sessions"`
	Sustained float64 `json:"sustained_deliveries_per_second"`
	// Lag is from due to arrival, of the sessions that were sent in the window.
	Lag *Percentiles `json:"lag_milliseconds"`
	// FailedAttempts is what endpoints answered with an error, as they were told to, from the first request on.
	FailedAttempts int64 `json:"failed_attempts"`

	CPU                 *float64 `json:"cpu_seconds_per_1000_deliveries"`
	PeakMemory          *float64 `json:"peak_memory_bytes"` // since the start of the process
	AnonymousMemory     *float64 `json:"rss_anon_bytes"`
	Heap                *float64 `json:"heap_bytes"`
	Commits             *float64 `json:"commits_per_second"`
	OperationsPerCommit *float64 `json:"operations_per_commit"`
	Written             *float64 `json:"written_bytes_per_delivery"`
	File                *float64 `json:"file_bytes"`

	Check
	Samples []Sample `json:"samples,omitempty"`
}

// Sample is a line of figures while a load lasts. Rates and percentiles are those since the one before.
type Sample struct {
	Seconds         float64      `json:"seconds"` // since the window's begin
	Accepted        float64      `json:"accepted_sessions_per_second"`
	Delivered       float64      `json:"deliveries_per_second"`
	Acknowledgement *Percentiles `json:"acknowledgement_milliseconds"`
	Lag             *Percentiles `json:"lag_milliseconds"`
	Heap            *float64     `json:"heap_bytes"`
	AnonymousMemory *float64     `json:"rss_anon_bytes"`
	Goroutines      *float64     `json:"goroutines"`
	OpenFiles       *float64     `json:"open_files"`
	File            *float64     `json:"file_bytes"`
}

// Scheduled is what it costs to have much scheduled.
type Scheduled struct {
	Sessions   int64    `json:"sessions"`
	Webhooks   int      `json:"webhooks"`
	Seconds    float64  `json:"fill_seconds"`
	PerSecond  float64  `json:"fill_sessions_per_second"`
	Start      float64  `json:"start_to_ready_seconds"` // after a clean stop
	AfterCrash bool     `json:"after_kill"`             // the start is that after a kill instead
	File       *float64 `json:"file_bytes"`
	// Heap and AnonymousMemory are those after the start.
	Heap            *float64 `json:"heap_bytes"`
	AnonymousMemory *float64 `json:"rss_anon_bytes"`
	Check
}

// Idle is what a server costs that has nothing to do.
type Idle struct {
	Seconds         float64  `json:"seconds"`
	CPU             *float64 `json:"cpu_percent_of_a_core"`
	AnonymousMemory *float64 `json:"rss_anon_bytes"`
	Heap            *float64 `json:"heap_bytes"`
}

// Outage is how a backlog drains after its endpoints were mended.
type Outage struct {
	Sessions int64   `json:"sessions"`
	Webhooks int     `json:"webhooks"`
	Fill     float64 `json:"fill_seconds"`
	// DrainSeconds is from the first success to the last; Drain99 to that of 99 %, without those that wait for a retry of their own.
	DrainSeconds float64 `json:"drain_seconds"`
	Deliveries   float64 `json:"deliveries_per_second"`
	Deliveries99 float64 `json:"deliveries_per_second_to_99_percent"`
	// OtherLanes is the lag of another webhook, whose endpoint works, with sessions all the time.
	OtherLanes         *Percentiles `json:"other_lanes_lag_milliseconds"`
	OtherLanesSessions int64        `json:"other_lanes_sessions"`
	CPU                *float64     `json:"cpu_seconds_per_1000_deliveries"` // of the drain
	PeakMemory         *float64     `json:"peak_memory_bytes"`
	Heap               *float64     `json:"heap_bytes"`
	File               *float64     `json:"file_bytes"`
	Check
}

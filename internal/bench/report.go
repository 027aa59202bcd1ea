package bench

import (
	"time"
)

// Report has the results of a run. A stage that was skipped is null, and so is a figure that is not known.
type Report struct {
	StartedAt time.Time `json:"started_at"`
	Command   string    `json:"command"`
	Machine   Machine   `json:"machine"`

	Relay *Measured `json:"bare_relay"`
	// TunedRelay is the relay with the settings of the server's runtime.
	TunedRelay *Measured  `json:"tuned_relay"`
	Scheduled  *Scheduled `json:"scheduled"`
	Idle       *Idle      `json:"idle"`
	FullSpeed  *Measured  `json:"full_speed"`
	// Steady is the load at half of the full speed, or at -rate.
	Steady *Measured `json:"steady_rate"`
	Outage *Outage   `json:"outage"`

	// Interrupted is whether the run was ended early. Then the number of missing deliveries is not known.
	Interrupted bool `json:"interrupted"`
	// Problems lists what was wrong; empty if nothing was.
	Problems []string `json:"problems"`
}

// Percentiles are durations in milliseconds.
type Percentiles struct {
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99_9"`
	Max  float64 `json:"max"`
}

// percentiles returns the percentiles of the counted durations; nil if there are none.
func (c *counts) percentiles() *Percentiles {
	if c.total == 0 {
		return nil
	}
	return &Percentiles{milliseconds(c.percentile(.5)), milliseconds(c.percentile(.99)), milliseconds(c.percentile(.999)), milliseconds(c.max)}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// Check is whether every accepted session was delivered exactly once.
type Check struct {
	// Missing is how many deliveries did not arrive, Repeated how many arrived again. Missing is null if the run did not wait for them.
	Missing  *int64 `json:"missing"`
	Repeated int64  `json:"repeated"`
	// RefusedRequests is how many requests got another status than 202, or no response; FirstRefusal is the reason of the first one.
	RefusedRequests int64  `json:"refused_requests"`
	FirstRefusal    string `json:"first_refusal,omitempty"`
}

// Measured has the figures of a load in the measured window.
type Measured struct {
	Seconds     float64 `json:"seconds"`
	Connections int     `json:"connections"`
	Batch       int     `json:"sessions_per_request"`
	Webhooks    int     `json:"webhooks"`
	// Rate is the steady rate; null at full speed.
	Rate *float64 `json:"rate_sessions_per_second"`
	// Unsent is how many requests of the steady rate were not sent, because the server was too slow.
	Unsent int64 `json:"unsent_requests"`

	AcceptedSessions float64 `json:"accepted_sessions_per_second"`
	AcceptedEvents   float64 `json:"accepted_events_per_second"`
	// Acknowledgement is the time from when a request was due to be sent to its response.
	Acknowledgement *Percentiles `json:"acknowledgement_milliseconds"`
	// Deliveries is the rate of arrivals in the window, ShareOfRelay its share of the bare relay's rate, ShareOfTunedRelay that of the relay with the server's settings.
	Deliveries        float64  `json:"deliveries_per_second"`
	ShareOfRelay      *float64 `json:"share_of_bare_relay_percent"`
	ShareOfTunedRelay *float64 `json:"share_of_tuned_relay_percent"`
	// Backlog is how many accepted sessions had not arrived at the end of the window. Sustained is the rate of arrivals from the beginning of
	// the window to the last arrival. It is the rate that a server can keep if it accepts more than it delivers for a while.
	Backlog   int64   `json:"backlog_sessions"`
	Sustained float64 `json:"sustained_deliveries_per_second"`
	// Lag is the time from due to arrival, of the sessions that were sent in the window.
	Lag *Percentiles `json:"lag_milliseconds"`
	// FailedAttempts is how many attempts got an error from the failing endpoints, the warm-up included.
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

// Sample is a line of figures during a load. Rates and percentiles are those since the previous sample.
type Sample struct {
	Seconds         float64      `json:"seconds"` // since the beginning of the window
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

// Scheduled has the figures of a server with many scheduled deliveries.
type Scheduled struct {
	Sessions   int64    `json:"sessions"`
	Webhooks   int      `json:"webhooks"`
	Seconds    float64  `json:"fill_seconds"`
	PerSecond  float64  `json:"fill_sessions_per_second"`
	Start      float64  `json:"start_to_ready_seconds"` // after a clean stop
	AfterCrash bool     `json:"after_kill"`             // the start followed a kill instead
	File       *float64 `json:"file_bytes"`
	// Heap and AnonymousMemory are measured after the start.
	Heap            *float64 `json:"heap_bytes"`
	AnonymousMemory *float64 `json:"rss_anon_bytes"`
	Check
}

// Idle has the figures of an idle server.
type Idle struct {
	Seconds         float64  `json:"seconds"`
	CPU             *float64 `json:"cpu_percent_of_a_core"`
	AnonymousMemory *float64 `json:"rss_anon_bytes"`
	Heap            *float64 `json:"heap_bytes"`
}

// Outage has the figures of a backlog that drains after its endpoints have recovered.
type Outage struct {
	Sessions int64   `json:"sessions"`
	Webhooks int     `json:"webhooks"`
	Fill     float64 `json:"fill_seconds"`
	// DrainSeconds is the time from the first arrival to the last. Deliveries is the rate in that time, Deliveries99 the rate until 99 % had
	// arrived: the last ones wait for their next retry.
	DrainSeconds float64 `json:"drain_seconds"`
	Deliveries   float64 `json:"deliveries_per_second"`
	Deliveries99 float64 `json:"deliveries_per_second_to_99_percent"`
	// OtherLanes is the lag of another webhook, whose endpoint works and which gets sessions all the time.
	OtherLanes         *Percentiles `json:"other_lanes_lag_milliseconds"`
	OtherLanesSessions int64        `json:"other_lanes_sessions"`
	CPU                *float64     `json:"cpu_seconds_per_1000_deliveries"` // of the drain
	PeakMemory         *float64     `json:"peak_memory_bytes"`
	Heap               *float64     `json:"heap_bytes"`
	File               *float64     `json:"file_bytes"`
	Check
}

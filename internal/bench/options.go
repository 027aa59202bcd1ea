package bench

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"time"
)

// Options are what a run does. Validate tells what makes no sense.
type Options struct {
	// Connections is how many the generator uses, each with a request after the other. Batch is how many sessions a request has.
	Connections, Batch int
	// Webhooks is among how many the sessions go round: each is for a content of its own, so a session leads to one delivery.
	Webhooks int
	// Delay is the webhooks' own setting, in whole seconds.
	Delay time.Duration
	// Failing is the share of webhooks, 0 to 1, whose endpoint always answers 500; Slow that of those whose endpoint takes SlowBy.
	Failing, Slow float64
	SlowBy        time.Duration

	// Rate is the steady rate in sessions a second; 0 measures full speed, and then half of it.
	Rate float64
	// Duration is how long is measured, after Warmup. Every is how often a line of figures is printed meanwhile; 0 means never.
	Duration, Warmup, Every time.Duration
	// Relay is how long the bare relay is measured; 0 leaves it out.
	Relay time.Duration
	// Scheduled is how many sessions are put in first whose deliveries are due in 30 days, over ScheduledWebhooks others; then the server
	// is started anew. With Crash it has been killed.
	Scheduled, ScheduledWebhooks int
	Crash                        bool
	// Idle is for how long the server is looked at while it has nothing to do; 0 leaves it out.
	Idle time.Duration
	// Outage is how many sessions are taken in while no endpoint works; 0 leaves it out.
	Outage int

	// URL is a server that runs already, with Token if it wants one; "" means a child process.
	URL, Token string
	// Executable is hookbolt itself, for the child process. Its commands serve and bench-relay are used.
	Executable string
	// Environ is the environment of the child process; nil means that of this one.
	Environ []string
	// Config returns the text of the child's configuration file, for a database.
	Config func(database string) (string, error)
	// Dir is where the folder with the child's database is made; "" means the system's place for temporary files. Keep leaves it there.
	Dir  string
	Keep bool

	// JSON asks for one JSON document in place of the sections for people.
	JSON bool
	// Command is the command line and Version the build, for the report.
	Command, Version string
}

// Validate returns what is wrong with the options, by the names of their flags.
func (o *Options) Validate() error {
	for _, n := range []struct {
		flag        string
		value       int
		least, most int
	}{
		{"connections", o.Connections, 1, 10_000},
		{"batch", o.Batch, 1, 10_000},
		{"webhooks", o.Webhooks, 1, 10_000},
		{"scheduled", o.Scheduled, 0, 1_000_000_000},
		{"scheduled-webhooks", o.ScheduledWebhooks, 1, 10_000},
		{"outage", o.Outage, 0, 1_000_000_000},
	} {
		if n.value < n.least || n.value > n.most {
			return fmt.Errorf("-%s must be %d to %d (got %d)", n.flag, n.least, n.most, n.value)
		}
	}
	for _, d := range []struct {
		flag  string
		value time.Duration
	}{{"delay", o.Delay}, {"slow-by", o.SlowBy}, {"warmup", o.Warmup}, {"every", o.Every}, {"relay", o.Relay}, {"idle", o.Idle}} {
		if d.value < 0 {
			return fmt.Errorf("-%s must not be negative (got %s)", d.flag, d.value)
		}
	}
	if o.Duration <= 0 {
		return fmt.Errorf("-duration must be positive (got %s)", o.Duration)
	}
	if o.Rate < 0 || math.IsNaN(o.Rate) || math.IsInf(o.Rate, 0) {
		return fmt.Errorf("-rate must be a number of sessions a second, or 0 for full speed (got %g)", o.Rate)
	}
	for _, s := range []struct {
		flag  string
		value float64
	}{{"failing", o.Failing}, {"slow", o.Slow}} {
		if !(s.value >= 0 && s.value <= 1) {
			return fmt.Errorf("-%s must be a share, 0 to 1 (got %g)", s.flag, s.value)
		}
		if s.value > 0 && o.share(s.value) == 0 {
			return fmt.Errorf("-%s %g of -webhooks %d is less than one: raise one of them", s.flag, s.value, o.Webhooks)
		}
	}
	if o.share(o.Failing)+o.share(o.Slow) > o.Webhooks {
		return errors.New("-failing and -slow must not be more than 1 together: a webhook is one or the other")
	}
	if o.Crash && o.Scheduled == 0 {
		return errors.New("-crash goes with -scheduled: it is the end of the server that was filled")
	}
	if u, err := url.Parse(o.URL); o.URL != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("-url must be that of a server, such as http://127.0.0.1:8080 (got %q)", o.URL)
	}
	if o.URL != "" && (o.Scheduled > 0 || o.Dir != "" || o.Keep) {
		return errors.New("-scheduled, -dir and -keep are for a server of bench's own: not with -url")
	}
	return nil
}

// share is how many webhooks a share is.
func (o *Options) share(part float64) int { return int(math.Round(part * float64(o.Webhooks))) }

package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"time"
)

// Options are the settings of a run.
type Options struct {
	// Connections is how many connections the generator uses, each for one request at a time. Batch is how many sessions a request has.
	Connections, Batch int
	// Webhooks is over how many webhooks the sessions are spread. Each is for its own content, so a session leads to one delivery.
	Webhooks int
	// Delay is the delay of the webhooks, in whole seconds.
	Delay time.Duration
	// Transform is a program in jq for the webhooks, which gives an object; "" for none.
	Transform string
	// Failing is the share of webhooks, 0 to 1, whose endpoint always answers 500. Slow is the share of those whose endpoint takes SlowBy.
	Failing, Slow float64
	SlowBy        time.Duration

	// Rate is the steady rate in sessions a second; 0 measures full speed, and then half of it.
	Rate float64
	// Duration is how long each load is measured, after Warmup. Every is how often a line of figures is printed meanwhile; 0 means never.
	Duration, Warmup, Every time.Duration
	// Relay is how long the bare relay is measured; 0 skips it. Then it is measured as long with TunedEnviron in its environment, if there is any: the
	// settings of the runtime that the server has.
	Relay        time.Duration
	TunedEnviron []string
	// Processes is how many processes of the server work with the database, which is in PostgreSQL if there is more than one.
	Processes int
	// Scheduled is how many sessions are posted first whose deliveries are due in 30 days, to ScheduledWebhooks further webhooks. Then the
	// server is restarted, after a kill with Crash; 0 skips it.
	Scheduled, ScheduledWebhooks int
	Crash                        bool
	// Idle is how long the idle server is measured; 0 skips it.
	Idle time.Duration
	// Outage is how many sessions are posted while every endpoint fails; 0 skips it.
	Outage int

	// URL is the address of a running server, Token its admin token if it needs one; "" starts a server as a child process.
	URL, Token string
	// TLS lets the endpoints speak HTTPS, over HTTP1 or HTTP2; "" is for HTTP.
	TLS string
	// RelayURL measures another sender in place of hookbolt: each session is one JSON document that is posted there, and has to arrive at Endpoint, a host
	// and port on which the run listens. RelayHeader is sent with each request. RelayBody is the body, with {{session}} where the document is to stand;
	// "" for the document alone.
	RelayURL, Endpoint string
	RelayHeader        http.Header
	RelayBody          string
	// Executable is the path of hookbolt, for child processes. A run uses its commands serve and bench-relay.
	Executable string
	// Environ is the environment of the child processes; nil means that of this process.
	Environ []string
	// Config returns the text of the child's configuration file, for a database and a file of certificates that endpoints may have; "" for none.
	Config func(database, caFile string) (string, error)
	// Database says where the child's database is if a server has it, and Drop removes it after the run. "" is for a file.
	Database string
	Drop     func(context.Context) error
	// Dir is where the directory of the child's database is created; "" means the system's directory for temporary files. Keep keeps it.
	Dir  string
	Keep bool

	// JSON prints one JSON document instead of text.
	JSON bool
	// Command is the command line and Version the build, for the report.
	Command, Version string
}

// Versions for Options.TLS.
const (
	HTTP1 = "1.1"
	HTTP2 = "2"
)

// Validate returns an error if the options are invalid. It names the flag.
func (o *Options) Validate() error {
	for _, n := range []struct {
		flag        string
		value       int
		least, most int
	}{
		{"connections", o.Connections, 1, 10_000},
		{"processes", o.Processes, 1, 100},
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
			return fmt.Errorf("-%s %g of -webhooks %d is less than one webhook: raise one of them", s.flag, s.value, o.Webhooks)
		}
	}
	if o.share(o.Failing)+o.share(o.Slow) > o.Webhooks {
		return errors.New("-failing and -slow must not add up to more than 1")
	}
	if o.Crash && o.Scheduled == 0 {
		return errors.New("-crash can only be used with -scheduled")
	}
	if o.URL != "" && (o.Processes > 1 || o.Scheduled > 0 || o.Dir != "" || o.Keep) {
		return errors.New("-processes, -scheduled, -dir and -keep cannot be used with -url: they are for the server that bench starts")
	}
	if o.TLS != "" && o.TLS != HTTP1 && o.TLS != HTTP2 {
		return fmt.Errorf("-tls must be %s or %s, the version of HTTP (got %q)", HTTP1, HTTP2, o.TLS)
	}
	if o.TLS != "" && o.URL != "" {
		return errors.New("-tls cannot be used with -url: a running server does not trust the certificate that bench makes")
	}
	return o.validateOtherSender()
}

// share returns how many webhooks a share is.
func (o *Options) share(part float64) int { return int(math.Round(part * float64(o.Webhooks))) }

package engine

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"hookbolt/engine/send"
)

// Config says how the engine delivers. The zero value is not useful: start from DefaultConfig.
type Config struct {
	// Timeout bounds an attempt as a whole: DNS lookup, connection, request and response.
	Timeout time.Duration
	// MaxInFlight is how many attempts may be in flight at once, beyond the first of each lane.
	MaxInFlight int
	// WebhookMaxInFlight is how many attempts of one lane may be in flight at once.
	WebhookMaxInFlight int
	Retry              RetryPolicy
	// Settle is the least span from the receipt of an event to the firing of the trigger that it leads to, unless its session is posted
	// whole: late events come in several requests, and the next one may hold the lead. A shorter delay of the webhook stays in force.
	Settle time.Duration
	// AllowNetworks are the special-purpose addresses that may be connected to.
	AllowNetworks []netip.Prefix
	// CAFile is a file with authorities that are trusted beside the system's; "" for none. TLSDir is the directory of the files that webhooks may
	// name for TLS; "" means that they may name none.
	CAFile, TLSDir string
	// ProxyFromEnvironment sends attempts through the proxy of HTTP_PROXY, HTTPS_PROXY and NO_PROXY. Then the proxy resolves host names,
	// and must guard the network behind it.
	ProxyFromEnvironment bool
	// PauseAfter is how long every attempt of a webhook must have failed before the webhook is paused.
	PauseAfter time.Duration
	// FailingAfter is how long an endpoint must have been failing, or have refused all load, before a system event tells the operator.
	FailingAfter time.Duration
	Retention    Retention
	// ShutdownTimeout is how long Run waits for the attempts in flight after its context has ended.
	ShutdownTimeout time.Duration
	// OperationsURL is where system events are sent; "" for nowhere. OperationsSecret signs them; if it is "", a secret is generated.
	// The URL may be that of a mail server, as CanonicalMailURL accepts it. Then OperationsMail says to whom the mails go.
	OperationsURL    string
	OperationsSecret Secret
	OperationsMail   OperationsMail
	// OperationsTransform and OperationsContentType are the settings transform and content_type of the operations webhook, for what people read; ""
	// for the event as it is, which programs read.
	OperationsTransform   string
	OperationsContentType string
	// Version is sent to endpoints in the User-Agent.
	Version string
	// RunPrograms runs the programs of webhooks. Nil means worker processes. Only tests set another one.
	RunPrograms RunPrograms
	// Transport makes the requests of attempts. Nil means a transport that guards addresses. Only tests set another one.
	Transport http.RoundTripper
	// Resolver resolves host names. Nil means the system's. Only tests set another one.
	Resolver *net.Resolver
}

// DefaultConfig returns the defaults of spec.md, "Configuration".
func DefaultConfig() Config {
	return Config{
		Timeout:            15 * time.Second,
		MaxInFlight:        256,
		WebhookMaxInFlight: 32,
		Retry:              RetryPolicy{Schedule: DefaultRetrySchedule, Jitter: 0.1, RetryAfterMax: 24 * time.Hour},
		Settle:             2 * time.Second,
		PauseAfter:         120 * time.Hour,
		FailingAfter:       time.Hour,
		Retention:          Retention{Sessions: 720 * time.Hour, Deliveries: 168 * time.Hour},
		ShutdownTimeout:    20 * time.Second,
		Version:            "dev",
	}
}

// snapshot is a configuration and the sender for it. It is never changed.
type snapshot struct {
	cfg    Config
	sender *send.Sender
}

// Config returns the current configuration. Webhooks may override some of its values.
func (e *Engine) Config() Config { return *e.config() }

// config is Config without the copy. The result must not be changed.
func (e *Engine) config() *Config { return &e.snapshot.Load().cfg }

// sender returns the sender for the current configuration.
func (e *Engine) sender() *send.Sender { return e.snapshot.Load().sender }

// Configure replaces the configuration while the engine runs. Only one call may run at a time. Attempts in flight end with the old
// configuration, and times that are planned already stay: the next try of a delivery, the end of a pause. ProxyFromEnvironment, Version,
// RunPrograms, Transport and Resolver keep their values, whatever cfg says.
func (e *Engine) Configure(cfg Config) {
	before := e.snapshot.Load()
	cfg.ProxyFromEnvironment, cfg.Version = before.cfg.ProxyFromEnvironment, before.cfg.Version
	cfg.Transport, cfg.Resolver, cfg.RunPrograms = before.cfg.Transport, before.cfg.Resolver, before.cfg.RunPrograms
	sends := before.sender
	if !slices.Equal(cfg.AllowNetworks, before.cfg.AllowNetworks) || cfg.CAFile != before.cfg.CAFile || cfg.TLSDir != before.cfg.TLSDir {
		// A new sender has no open connections. Those of the old one may go to addresses that are refused now, or to peers that are not trusted.
		sends = newSender(cfg, e.log)
	}
	sends.RecheckTLS()
	e.snapshot.Store(&snapshot{cfg, sends})
	if sends != before.sender {
		before.sender.CloseIdleConnections()
	}
	e.lanes.configure(&cfg)
	for _, w := range e.store.Webhooks().All() {
		e.lanes.refresh(w.ID, false)
	}
	e.wakeMaintenance()
}

package engine

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"hookbolt/engine/send"
)

// Config is how the engine delivers. It has no useful zero value: start from DefaultConfig.
type Config struct {
	// Timeout bounds an attempt as a whole: look-up, connection, request and answer.
	Timeout time.Duration
	// MaxInFlight is how many attempts may be under way at once, beyond the first of each lane.
	MaxInFlight int
	// WebhookMaxInFlight is how many of each lane may be.
	WebhookMaxInFlight int
	Retry              RetryPolicy
	// AllowNetworks are the special-purpose addresses that may be connected to all the same.
	AllowNetworks []netip.Prefix
	// ProxyFromEnvironment sends attempts through the proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name. It is the proxy then that
	// resolves names, and has to guard the network behind it.
	ProxyFromEnvironment bool
	// PauseAfter is for how long every attempt of a webhook must have failed until it is paused.
	PauseAfter time.Duration
	Retention  Retention
	// ShutdownTimeout is how long Run waits for the attempts in flight after its context has ended.
	ShutdownTimeout time.Duration
	// OperationsURL is where operational events are sent to; "" for nowhere. OperationsSecret signs them; "" has one made.
	OperationsURL    string
	OperationsSecret Secret
	// Version is told to endpoints in the User-Agent.
	Version string
	// Transport carries the attempts. Nil means a guarded transport; only tests give another one.
	Transport http.RoundTripper
	// Resolver looks names up. Nil means the system's; only tests give another one.
	Resolver *net.Resolver
}

// DefaultConfig is the configuration of spec.md, "Configuration".
func DefaultConfig() Config {
	return Config{
		Timeout:            15 * time.Second,
		MaxInFlight:        256,
		WebhookMaxInFlight: 32,
		Retry:              RetryPolicy{Schedule: DefaultRetrySchedule, Jitter: 0.1, RetryAfterMax: 24 * time.Hour},
		PauseAfter:         120 * time.Hour,
		Retention:          Retention{Sessions: 720 * time.Hour, Deliveries: 168 * time.Hour},
		ShutdownTimeout:    20 * time.Second,
		Version:            "dev",
	}
}

// snapshot is a configuration, and what sends by it. It is not changed.
type snapshot struct {
	cfg    Config
	sender *send.Sender
}

// Config is the present configuration: what holds for webhooks that do not say otherwise.
func (e *Engine) Config() Config { return *e.config() }

// config is Config without the copy, for what every attempt asks. It is not changed.
func (e *Engine) config() *Config { return &e.snapshot.Load().cfg }

func (e *Engine) sender() *send.Sender { return e.snapshot.Load().sender }

// Configure replaces the configuration while the engine runs; one call at a time. Attempts under way end by the one before, and so does
// what is planned: the next try of a delivery, the end of a pause. ProxyFromEnvironment, Version, Transport and Resolver stay as they
// were, whatever cfg says.
func (e *Engine) Configure(cfg Config) {
	before := e.snapshot.Load()
	cfg.ProxyFromEnvironment, cfg.Version = before.cfg.ProxyFromEnvironment, before.cfg.Version
	cfg.Transport, cfg.Resolver = before.cfg.Transport, before.cfg.Resolver
	sends := before.sender
	if !slices.Equal(cfg.AllowNetworks, before.cfg.AllowNetworks) {
		// With connections of its own: those that are there may go to addresses that are refused now.
		sends = newSender(cfg)
	}
	e.snapshot.Store(&snapshot{cfg, sends})
	if sends != before.sender {
		before.sender.CloseIdleConnections()
	}
	e.lanes.setMaxExtra(cfg.MaxInFlight)
	for _, w := range e.store.Webhooks().All() {
		e.lanes.refresh(w.ID, false)
	}
	e.wakeMaintenance()
}

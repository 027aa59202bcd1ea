package engine

import (
	"errors"
	"iter"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"hookbolt/engine/send"
)

// Types of package send that are part of the domain: settings of a webhook, and the outcome of an attempt. Users of package engine need no
// other package for them.
type (
	Secret      = send.Secret
	SigningKey  = send.SigningKey
	PublicKey   = send.PublicKey
	Credential  = send.Credential
	Header      = send.Header
	BasicAuth   = send.BasicAuth
	OAuth2      = send.OAuth2
	Outcome     = send.Outcome
	URLValues   = send.URLValues
	ErrorClass  = send.ErrorClass
	Phases      = send.Phases
	Sent        = send.Sent
	HeaderField = send.HeaderField
	Trouble     = send.Trouble
	Repeat      = send.Repeat
)

// The classes of failed attempts; see package send.
const (
	ErrorStatus         = send.ErrorStatus
	ErrorTimeout        = send.ErrorTimeout
	ErrorDNS            = send.ErrorDNS
	ErrorAddressRefused = send.ErrorAddressRefused
	ErrorRefused        = send.ErrorRefused
	ErrorReset          = send.ErrorReset
	ErrorTLS            = send.ErrorTLS
	ErrorProtocol       = send.ErrorProtocol
	ErrorTooLarge       = send.ErrorTooLarge
	ErrorOAuth          = send.ErrorOAuth
	ErrorTransform      = send.ErrorTransform
	ErrorInternal       = send.ErrorInternal
)

// The reasons for which a request was sent once more; see package send.
const (
	RepeatClosed  = send.RepeatClosed
	RepeatRefused = send.RepeatRefused
	RepeatLost    = send.RepeatLost
	RepeatHTTP1   = send.RepeatHTTP1
)

// ErrorClasses are all classes.
var ErrorClasses = send.ErrorClasses

// The headers of Standard Webhooks 1.0.
const (
	HeaderID        = send.HeaderID
	HeaderTimestamp = send.HeaderTimestamp
	HeaderSignature = send.HeaderSignature
)

// HeaderKind is the header that tells the kind of a delivery.
const HeaderKind = send.HeaderKind

// Verify checks the signature of a webhook as an endpoint does. now is the time to compare the timestamp with.
func Verify(h http.Header, secret Secret, body []byte, now time.Time) error {
	return send.Verify(h, secret, body, now)
}

// ParseNetwork parses a network of allow_networks, such as "10.0.0.0/8"; see send.ParseNetwork.
func ParseNetwork(text string) (netip.Prefix, error) { return send.ParseNetwork(text) }

// CheckTLSFiles checks the files of Config.CAFile and Config.TLSDir; see send.CheckTLSFiles.
func CheckTLSFiles(caFile, dir string) error { return send.CheckTLSFiles(caFile, dir) }

// isHTTPS reports whether a URL of a webhook is spoken to over TLS.
func isHTTPS(url string) bool { return strings.HasPrefix(url, "https:") }

// SameHost reports whether two URLs lead to the same server, so that credentials of the one are for the other, too; see send.SameHost.
func SameHost(a, b string) bool { return send.SameHost(a, b) }

// newSender returns a sender for a configuration.
func newSender(cfg Config, log *slog.Logger) *send.Sender {
	return send.New(send.Options{
		CAFile: cfg.CAFile, TLSDir: cfg.TLSDir, Log: log,
		UserAgent: "hookbolt/" + cfg.Version, AllowNetworks: cfg.AllowNetworks, ProxyFromEnvironment: cfg.ProxyFromEnvironment,
		Transport: cfg.Transport, Resolver: cfg.Resolver,
	})
}

// payloadType is the Content-Type of every payload.
const payloadType = "application/json"

// newRequest makes the request of an attempt that starts at that time. A webhook's settings become part of a request nowhere else. payload is the
// body of the delivery.
func newRequest(w *Webhook, d *Delivery, payload []byte, at time.Time, timeout time.Duration) send.Request {
	r := send.Request{
		URL: w.URL, URLValues: d.URLValues, HasURLValues: w.URLValues != nil, Method: w.Method, Success: w.Success,
		AllowNetworks: w.AllowNetworks, NoHTTP2: !w.mayUseHTTP2(), TLS: w.TLS, Timeout: timeout,
		Headers: w.Headers, BasicAuth: w.BasicAuth, OAuth2: w.OAuth2,
		ID: d.ID.String(), ContentType: d.FrozenType(), Kind: d.Kind.String(), Payload: payload, DueAt: d.NextAttemptAt,
		Secrets: w.signingSecrets(at), Keys: w.signingKeys(at), BodySignature: w.bodySignature(at, d.Attempts),
	}
	if w.OAuth2 != nil {
		r.TokenKey = tokenKey(w.ID)
	}
	return r
}

// tokenKey returns the key under which the OAuth token of a webhook is cached.
func tokenKey(webhookID uint32) string { return strconv.FormatUint(uint64(webhookID), 10) }

// checkAddresses refuses a webhook if the host of one of its URLs is an address that neither the configuration nor the webhook allows.
func (e *Engine) checkAddresses(w *Webhook) error {
	allow := slices.Concat(e.config().AllowNetworks, w.AllowNetworks)
	if err := send.CheckAddress(w.URL, allow); err != nil {
		return addressRefused("url", err)
	}
	if w.OAuth2 == nil {
		return nil
	}
	if err := send.CheckAddress(string(w.OAuth2.TokenURL), allow); err != nil {
		return addressRefused("oauth2.token_url", err)
	}
	return nil
}

// addressRefused returns the InputErrors for a field whose URL was refused.
func addressRefused(field string, err error) error {
	bad := InputError{Field: field, Detail: err.Error()}
	if refused, ok := errors.AsType[*send.AddressError](err); ok {
		bad.Allow = refused.Network()
	}
	return InputErrors{bad}
}

// usedConnections returns the AllowNetworks and the TLS settings of each webhook.
func usedConnections(hooks *WebhookSet) iter.Seq2[[]netip.Prefix, *TLS] {
	return func(yield func([]netip.Prefix, *TLS) bool) {
		for _, w := range hooks.All() {
			if !yield(w.AllowNetworks, w.TLS) {
				return
			}
		}
	}
}

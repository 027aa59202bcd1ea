package send

import "time"

// Outcome is the result of an attempt.
type Outcome struct {
	// StartedAt is when the attempt began, in UTC; webhook-timestamp is its Unix second.
	StartedAt time.Time
	// Duration is the time until the response was read, as far as it is kept, or until the attempt failed.
	Duration time.Duration
	Phases   Phases
	// Address is the address and port that was connected to, or tried last; "" if none was.
	Address string
	// Reused says that the connection was open already.
	Reused bool
	// Repeated is why the request was sent once more, on the connection that Address, Reused and Phases are about; "" if it was not. The
	// endpoint may have got it twice.
	Repeated Repeat
	// Protocol is that of the response, such as "HTTP/1.1" or "HTTP/2.0".
	Protocol string
	// Status is that of the response; 0 if there was none.
	Status int
	// Error is "" for a success: a 2xx, or a status of Request.Success. ErrorDetail explains it to people, and holds no credential.
	Error       ErrorClass
	ErrorDetail string
	// ResponseHeader is the response's header, at most 4 KiB of it, sorted by name. Response is the beginning of its body, at most 1 KiB.
	// Credentials in them are replaced.
	ResponseHeader []HeaderField
	Response       []byte
	// Sent is what the attempt sent beside the payload; zero if it sent nothing.
	Sent Sent

	// RetryAfter is the wait that a 429 or 503 asked for, of the endpoint or of its token endpoint; 0 if none.
	RetryAfter time.Duration
	// TokenRejected says that the response was 401 to an OAuth token that had been cached before the attempt was due. The token may
	// have been revoked since. It is dropped: the next attempt gets a new one.
	TokenRejected bool
	// TokenRepeats are why requests for the OAuth token were sent once more.
	TokenRepeats []Repeat
	// Trouble is the trouble of this machine that kept the attempt from being made, with ErrorInternal; "" for none.
	Trouble Trouble
}

// Delivered reports whether the attempt succeeded: the endpoint answered 2xx, or another status that the request takes for a success.
func (o *Outcome) Delivered() bool { return o.Error == "" }

// ErrorClass says why an attempt failed; "" for a success.
type ErrorClass string

// The classes of failed attempts.
const (
	ErrorStatus         ErrorClass = "status"          // the status of the response is no success
	ErrorTimeout        ErrorClass = "timeout"         // no response in time
	ErrorDNS            ErrorClass = "dns"             // the host name did not resolve
	ErrorAddressRefused ErrorClass = "address_refused" // the guard does not allow the address
	ErrorRefused        ErrorClass = "refused"         // connection refused, or no route to the endpoint
	ErrorReset          ErrorClass = "reset"           // connection closed or reset by the peer
	ErrorTLS            ErrorClass = "tls"             // TLS handshake or certificate
	ErrorProtocol       ErrorClass = "protocol"        // malformed HTTP
	ErrorTooLarge       ErrorClass = "too_large"       // the response header, with interim responses, exceeds its limit
	ErrorOAuth          ErrorClass = "oauth2"          // the token endpoint gave no token
	ErrorTransform      ErrorClass = "transform"       // the programs of the webhook gave nothing that can be sent
	ErrorInternal       ErrorClass = "internal"        // hookbolt could not make the request
)

// ErrorClasses are all classes.
var ErrorClasses = []ErrorClass{ErrorStatus, ErrorTimeout, ErrorDNS, ErrorAddressRefused, ErrorRefused, ErrorReset, ErrorTLS,
	ErrorProtocol, ErrorTooLarge, ErrorOAuth, ErrorTransform, ErrorInternal}

// Phases are the parts of an attempt that took time; 0 for a part that was not needed, as with a connection that was open already.
type Phases struct {
	// Token is the time for getting an OAuth token.
	Token time.Duration
	// DNS, Connect and TLS are the times of the lookup, of the connection (to the address that answered, or was tried last), and of
	// the handshake.
	DNS, Connect, TLS time.Duration
	// FirstByte is the time from the start of the attempt to the first byte of the response.
	FirstByte time.Duration
}

// HeaderField is a line of a header.
type HeaderField struct{ Name, Value string }

// Sent is what differs between attempts in the header of the request.
type Sent struct {
	// Method is the method of the request; "" means POST.
	Method string
	// Signature is the value of webhook-signature, UserAgent that of User-Agent.
	Signature, UserAgent string
	// BodySignature is the header of Request.BodySignature; zero if there is none. A signature is no credential.
	BodySignature HeaderField
	// Credentials are the names of the fields that the endpoint's credentials have set, sorted. The values are not kept.
	Credentials []string
}

// Header returns the header that was sent, with "…" for credentials; nil if nothing was sent. r needs only ID, ContentType and Kind; at is
// when the attempt started.
func (s *Sent) Header(r *Request, at time.Time) []HeaderField {
	if s.Signature == "" {
		return nil
	}
	var h []HeaderField
	if HasBody(s.Method) {
		h = append(h, HeaderField{"Content-Type", r.ContentType})
	}
	h = append(h, HeaderField{"User-Agent", s.UserAgent}, HeaderField{HeaderID, r.ID}, HeaderField{HeaderTimestamp, unixSecond(at)},
		HeaderField{HeaderSignature, s.Signature})
	if s.BodySignature.Name != "" {
		h = append(h, s.BodySignature)
	}
	if r.Kind != "" {
		h = append(h, HeaderField{HeaderKind, r.Kind})
	}
	for _, name := range s.Credentials {
		h = append(h, HeaderField{name, hidden})
	}
	return h
}

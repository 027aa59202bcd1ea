package send

import (
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// maxResponseBytes is how many bytes of a response's body are kept.
	maxResponseBytes = 1024
	// maxResponseHeaderKept is how many bytes of its header are kept, names and values.
	maxResponseHeaderKept = 4096
)

// setResponse records a response to a request, without the credentials in it.
func (o *Outcome) setResponse(r *Request, resp *http.Response, credentials []string) {
	o.Status, o.Protocol = resp.StatusCode, resp.Proto
	o.ResponseHeader = keptHeader(resp.Header, credentials)
	o.Response = keptBody(resp.Body, credentials)
	if r.delivers(resp.StatusCode) {
		return
	}
	o.Error, o.ErrorDetail = ErrorStatus, "the endpoint answered "+statusText(resp.StatusCode)
}

// keptBody reads the beginning of a body. Errors do not matter: the status has decided the outcome, so a body that breaks off or never
// ends changes nothing. It reads at least one byte more than it keeps, because a body that has ended leaves a connection that can be
// used again; and as many more as it takes to find a credential that is cut by the limit.
func keptBody(body io.Reader, credentials []string) []byte {
	more := 1
	if len(credentials) > 0 {
		more = max(more, len(credentials[0])) // the longest comes first
	}
	read, _ := io.ReadAll(io.LimitReader(body, int64(maxResponseBytes+more)))
	kept := redact(read, credentials)
	return kept[:min(len(kept), maxResponseBytes)]
}

// keptHeader returns what is kept of a header. Fields that do not fit are left out.
func keptHeader(h http.Header, credentials []string) []HeaderField {
	var kept []HeaderField
	room := maxResponseHeaderKept
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, value := range h[name] {
			f := HeaderField{name, value}
			if len(credentials) > 0 {
				f = HeaderField{redactName(name, credentials), string(redact([]byte(value), credentials))}
			}
			if len(f.Name)+len(f.Value) > room {
				continue
			}
			room -= len(f.Name) + len(f.Value)
			kept = append(kept, f)
		}
	}
	return kept
}

// parseRetryAfter reads the header Retry-After of RFC 9110, section 10.2.3: seconds, or a date. Some servers send fractions of a second. A date is
// compared with the endpoint's own clock, its header Date, if that is there: the clocks may differ. Anything else is 0.
func parseRetryAfter(h http.Header, now time.Time) time.Duration {
	header := strings.TrimSpace(h.Get("Retry-After"))
	if isDigits := strings.Trim(header, "0123456789") == ""; isDigits && header != "" {
		n, _ := strconv.ParseUint(header, 10, 31) // a number that does not fit becomes the largest that does: the caller limits it
		return time.Duration(n) * time.Second
	}
	if whole, fraction, ok := strings.Cut(header, "."); ok && whole != "" && fraction != "" && strings.Trim(whole+fraction, "0123456789") == "" {
		n, _ := strconv.ParseFloat(header, 64)
		return time.Duration(math.Ceil(min(n, math.MaxInt32)*1000)) * time.Millisecond
	}
	if at, err := http.ParseTime(header); err == nil {
		if sent, err := http.ParseTime(h.Get("Date")); err == nil {
			now = sent
		}
		return max(0, at.Sub(now))
	}
	return 0
}

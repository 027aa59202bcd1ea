package engine_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"hookbolt/engine"
)

func (s *sim) chance(parts ...any) uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, append([]any{s.seed, "|"}, parts...)...)
	return rand.New(rand.NewPCG(h.Sum64(), 7)).Uint64()
}

// mode is how an endpoint fares at a time; below 4 it is well. Now and then it is down for so long that its webhook is paused in the
// end.
func (s *sim) mode(host string, at time.Time) uint64 {
	if outage := s.chance("outage", host, at.Unix()/simOutage); outage%8 == 0 {
		return simDown + outage/8%2
	}
	return s.chance(host, at.Unix()/simSpell) % simDown
}

const (
	simSpell  = 7200       // seconds
	simOutage = 6 * 86_400 // seconds
	simDown   = 11         // the first mode of a long outage

	// What an endpoint with a quota takes in each span, in seconds.
	simQuota, simQuotaSpan = 3, 20
)

// simUsed is how much of its quota an endpoint has taken in a span.
type simUsed struct {
	span int64
	n    int
}

// withinQuota reports whether an endpoint with a quota takes one more request, and else after how many seconds it does.
func (s *sim) withinQuota(host string) (ok bool, wait int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now().Unix()
	if s.quotas == nil {
		s.quotas = make(map[string]simUsed)
	}
	used := s.quotas[host]
	if span := now / simQuotaSpan; used.span != span {
		used = simUsed{span: span}
	}
	if used.n == simQuota {
		return false, int(simQuotaSpan - now%simQuotaSpan)
	}
	used.n++
	s.quotas[host] = used
	return true, 0
}

func (s *sim) answer(p *process, r received, req *http.Request) (*http.Response, error) {
	url := 0
	fmt.Sscanf(req.URL.Path, "/%d", &url)
	target := strings.TrimPrefix(req.URL.RequestURI(), fmt.Sprint("/", url))
	d, n := s.started(p, r, url, target)
	if d == nil {
		return nil, errCrashed
	}
	mode := s.mode(r.host, time.Now())
	one := s.chance(d.simKey, d.test, n) // not of the id, for a seed is to tell the same story again
	// Ends have an order that can be told, wherever it matters: with failures.
	wait, status, retryAfter := time.Duration(1+one%1e6), 200, 0
	switch {
	case mode < 4:
		if s.mode(r.host, time.Now().Add(-simSpell*time.Second)) < 4 {
			wait = 0
		}
	case mode == 4, mode == simDown:
		status = 500
	case mode == 5:
		status, retryAfter = 503, int(one%900)
	case mode == 6:
		wait += time.Duration(one%25000) * time.Millisecond
	case mode == 7, mode > simDown:
		wait = time.Hour
	case mode == 8: // flapping
		if one%2 == 0 {
			status = 502
		}
		wait += time.Duration(one%3000) * time.Millisecond
	case mode == 9:
		var ok bool
		if ok, retryAfter = s.withinQuota(r.host); !ok {
			status = 429
		}
		if one%3 == 0 {
			retryAfter = 0
		}
	default:
		wait, status = wait+time.Duration(one%4000)*time.Millisecond, 404
	}
	switch {
	case status == 200:
	case one/7%40 == 0 && mode < simDown && mode != 9:
		status, retryAfter = 410, 0
	case d.kind == engine.KindTest && one%3 == 0: // the first success may be of another lane
		status, retryAfter = 200, 0
	}
	if s.drained() {
		wait, status, retryAfter = time.Duration(1+one%1e6), 200, 0
	}
	if wait < time.Millisecond && *simSlow > 0 {
		wait += time.Millisecond // so that explainLate sees it
	}
	if wait > 0 {
		select {
		case <-time.After(wait):
		case <-req.Context().Done():
		case <-p.gone:
		}
	}
	if err := req.Context().Err(); err != nil {
		s.ended(p, d, 0, 0, errors.Is(err, context.Canceled))
		return nil, err
	}
	s.ended(p, d, status, retryAfter, false)
	if retryAfter > 0 {
		return answer(status, "Retry-After", fmt.Sprint(retryAfter)), nil
	}
	return answer(status), nil
}

package httpapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"

	"hookbolt/internal/loopback"
)

// access is a set of kinds of token.
type access uint8

const (
	adminToken access = 1 << iota
	ingestToken
	metricsToken
	anybody // no token is asked for
	cookie  // an admin token may come in the cookie of a browser that has signed in
)

// gate decides which requests come in. It has two modes.
//
// With an admin token, every route but the probes and the descriptions asks for a bearer token. A token is never sent by a browser on its
// own, so where the request comes from does not matter. The pages take it from a cookie as well, which a browser does send on its own: not
// from other sites (SameSite=Strict), and what comes from another origin of the same site, such as another port, is refused if it could
// change something.
//
// Without one, hookbolt trusts its machine, as a development database does. But the browser on that machine runs the pages of
// strangers: a page whose name is made to resolve to 127.0.0.1 (DNS rebinding) still sends its own name as Host, which is why the Host
// must be loopback; and a page that posts to http://localhost says in Sec-Fetch-Site or Origin where it comes from.
//
// Pages of other origins that have an ingest token come in by the first mode only, if their origin is one of Config.CORSOrigins: see setCORS.
type gate struct {
	open        bool // no admin token
	tokens      []token
	origins     []string // whose pages may call what ingest tokens open; none if the gate is open
	crossOrigin *http.CrossOriginProtection
}

// token is a configured token. Only its hash is kept: hashes have one length, so that the comparison takes the same time whatever the
// caller sent.
type token struct {
	hash [sha256.Size]byte
	kind access
}

func newGate(cfg Config) gate {
	g := gate{open: len(cfg.AdminTokens) == 0, crossOrigin: http.NewCrossOriginProtection()}
	for _, list := range []struct {
		kind   access
		tokens []string
	}{{adminToken, cfg.AdminTokens}, {ingestToken, cfg.IngestTokens}, {metricsToken, cfg.MetricsTokens}} {
		for _, t := range list.tokens {
			g.tokens = append(g.tokens, token{sha256.Sum256([]byte(t)), list.kind})
		}
	}
	if !g.open {
		g.origins = cfg.CORSOrigins
	}
	return g
}

// check returns a problem for a request that is not allowed. allowed says which tokens the route accepts beside admin tokens.
func (g *gate) check(r *http.Request, allowed access) error {
	if g.open {
		if !loopback.IsHost(r.Host) {
			return &problem{Status: http.StatusForbidden, Detail: "no http.admin_tokens are set, so only requests whose Host is localhost, 127.0.0.1 or " +
				"[::1] are answered: any web page could send others by DNS rebinding. To be reached by another name, set http.admin_tokens"}
		}
		if g.crossOrigin.Check(r) != nil {
			return &problem{Status: http.StatusForbidden, Detail: "no http.admin_tokens are set, so requests that a web page of another origin sends are " +
				"refused. To call from there, set http.admin_tokens and send one as a bearer token"}
		}
		return nil
	}
	if allowed&anybody != 0 {
		return nil
	}
	kinds := g.kinds(r.Header.Get("Authorization"))
	if allowed&cookie != 0 {
		if err := g.sameOrigin(r); err != nil {
			return err
		}
		kinds |= g.cookieKinds(r) & adminToken
	}
	switch {
	case kinds == 0:
		return &problem{Status: http.StatusUnauthorized, Detail: "a known token is needed: Authorization: Bearer TOKEN",
			header: map[string]string{"WWW-Authenticate": `Bearer realm="hookbolt"`}}
	case kinds&(allowed|adminToken) == 0:
		return &problem{Status: http.StatusForbidden, Detail: "this token does not open this: ingest tokens open POST /v1/events, metrics tokens GET /metrics, " +
			"admin tokens everything"}
	case allowed&ingestToken != 0 && kinds&ingestToken == 0 && g.allowsOrigin(r.Header.Get("Origin")):
		return errPublicAdmin
	}
	return nil
}

// sameOrigin refuses what a page of another origin has sent and may change something.
func (g *gate) sameOrigin(r *http.Request) error {
	if g.crossOrigin.Check(r) != nil {
		return &problem{Status: http.StatusForbidden, Detail: "this form was sent by a page of another origin. A reverse proxy in front has to pass the " +
			"Host header on as it came"}
	}
	return nil
}

// kinds returns which kinds of token a request's Authorization is; 0 for an unknown one.
func (g *gate) kinds(authorization string) access {
	scheme, value, _ := strings.Cut(authorization, " ")
	value = strings.TrimLeft(value, " ") // RFC 9110, section 11.4: one or more spaces
	if !strings.EqualFold(scheme, "Bearer") {
		return 0
	}
	return g.tokenKinds(value)
}

// tokenKinds returns which kinds of token a value is; 0 for an empty one, whatever is configured.
func (g *gate) tokenKinds(value string) access {
	if value == "" {
		return 0
	}
	hash := sha256.Sum256([]byte(value))
	var kinds access
	for i := range g.tokens { // all of them, so that time does not tell which one it was
		if subtle.ConstantTimeCompare(hash[:], g.tokens[i].hash[:]) == 1 {
			kinds |= g.tokens[i].kind
		}
	}
	return kinds
}

package httpapi

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"hookbolt/internal/loopback"
)

// access is a set of kinds of token.
type access uint8

const (
	adminToken access = 1 << iota
	readToken         // for everything that changes nothing and reveals no secret
	ingestToken
	metricsToken
	anybody // no token is needed
	cookie  // a browser that has signed in with an admin or read token is also accepted, by its cookie
)

// gate decides which requests are allowed. It has two modes.
//
// With an admin token, every route needs a bearer token, except the probes and the descriptions. A browser never sends a bearer token on
// its own, so the origin of the request does not matter. The pages also accept the cookie of a browser that has signed in (see SignIns),
// which a browser does send on its own. It does not send it from other sites (SameSite=Strict). It does send it from another origin of the
// same site, such as another port; gate refuses such requests if they could change something.
//
// Without an admin token, hookbolt trusts its machine, as a development database does. But a browser on that machine runs pages of
// strangers. A page can make its own name resolve to 127.0.0.1 (DNS rebinding), but its requests still have that name as Host; so the Host
// must be loopback. A page that calls http://localhost reveals its origin in Sec-Fetch-Site or Origin. It cannot read the answer, but a
// request may change something, and even a GET may cost much: gate refuses both. Only links to pages are followed.
//
// Pages of other origins may call with an ingest token in the first mode only, and only if Config.CORSOrigins has their origin: see
// setCORS.
type gate struct {
	open        bool // no admin token is configured
	tokens      []token
	origins     []string // whose pages may use ingest tokens; none if the gate is open
	crossOrigin *http.CrossOriginProtection
}

// token is a configured token. Only its hash is kept: all hashes have the same length, so that the comparison takes the same time whatever
// the caller sent.
type token struct {
	hash [sha256.Size]byte
	kind access
	name string // in logs, in place of the token
}

// pageRoles are the tokens that a browser may sign in with.
const pageRoles = adminToken | readToken

// caller is who sends a request.
type caller struct {
	kinds access // of the token; 0 without a known one
	token string // its name; "" without a known one
}

// noToken is the caller if no token is needed.
var noToken = caller{kinds: adminToken, token: "no token"}

func newGate(cfg Config) gate {
	g := gate{open: len(cfg.AdminTokens) == 0, crossOrigin: http.NewCrossOriginProtection()}
	for _, list := range []struct {
		kind   access
		name   string
		tokens []string
	}{{adminToken, "admin", cfg.AdminTokens}, {readToken, "read", cfg.ReadTokens}, {ingestToken, "ingest", cfg.IngestTokens}, {metricsToken, "metrics", cfg.MetricsTokens}} {
		for i, t := range list.tokens {
			name := cmp.Or(cfg.TokenNames[t], fmt.Sprintf("%s %d", list.name, i+1))
			g.tokens = append(g.tokens, token{sha256.Sum256([]byte(t)), list.kind, name})
		}
	}
	if !g.open {
		g.origins = cfg.CORSOrigins
	}
	return g
}

// pageTokens are the hashes of the tokens that open the pages.
func (g *gate) pageTokens() (hashes [][sha256.Size]byte) {
	for i := range g.tokens {
		if g.tokens[i].kind&pageRoles != 0 {
			hashes = append(hashes, g.tokens[i].hash)
		}
	}
	return hashes
}

// admit returns a problem for a request that is not allowed, and notes who sends one that is.
func (a *API) admit(r *http.Request, rt *route) error {
	g := a.gate()
	var by caller // nobody, where anybody may call: the handler may know better, as that for signing in does
	switch {
	case g.open:
		by = noToken
	case rt.allowedRoles&anybody == 0:
		var err error
		if by, err = a.holder(r, bearerToken(r)); err != nil {
			return err
		}
	}
	if rt.allowedRoles&cookie != 0 && !g.open {
		if err := g.sameOrigin(r); err != nil {
			return err
		}
		if by.kinds == 0 {
			var err error
			if by, _, err = a.signedIn(r); err != nil {
				return err
			}
		}
	}
	if err := g.check(r, rt, by); err != nil {
		return err
	}
	if v := visitOf(r); v != nil {
		v.caller = by
	}
	return nil
}

// check returns a problem for a request of a caller that is not allowed.
func (g *gate) check(r *http.Request, rt *route, by caller) error {
	if g.open {
		if !loopback.IsHost(r.Host) {
			return &problem{Status: http.StatusForbidden, Detail: "no http.admin_tokens are set, so only requests whose Host is localhost, 127.0.0.1 or " +
				"[::1] are answered: any web page could send others by DNS rebinding. To be reached by another name, set http.admin_tokens"}
		}
		if g.crossOrigin.Check(r) != nil || rt.readByForeignPage(r) {
			return &problem{Status: http.StatusForbidden, Detail: "no http.admin_tokens are set, so requests that a web page of another origin sends are " +
				"refused. To call from there, set http.admin_tokens and send one as a bearer token"}
		}
		return nil
	}
	allowed := rt.allowedRoles
	if allowed&anybody != 0 {
		return nil
	}
	switch kinds := by.kinds; {
	case kinds == 0:
		return &problem{Status: http.StatusUnauthorized, Detail: "a known token is needed: Authorization: Bearer TOKEN",
			header: map[string]string{"WWW-Authenticate": `Bearer realm="hookbolt"`}}
	case kinds&(allowed|adminToken) == 0 && kinds&readToken != 0:
		return &problem{Status: http.StatusForbidden, Detail: "this is a read token, which changes nothing and sees no secrets: use one of http.admin_tokens"}
	case kinds&(allowed|adminToken) == 0:
		return &problem{Status: http.StatusForbidden, Detail: "this token does not open this: ingest tokens open POST /v1/events, metrics tokens GET /metrics, " +
			"read tokens what changes nothing, admin tokens everything"}
	case allowed&ingestToken != 0 && kinds&ingestToken == 0 && g.allowsOrigin(r.Header.Get("Origin")):
		return errPublicAdmin
	}
	return nil
}

// readByForeignPage reports whether a page of another origin sends a request that reads something. Every browser of today says so, except
// for a link: that is how people get to a page. A link leads to a page in a window of its own, which the other page cannot read. What
// anybody may read costs little.
func (rt *route) readByForeignPage(r *http.Request) bool {
	if rt.allowedRoles&anybody != 0 {
		return false
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return false
	case "": // no browser, or an old one, which sends Origin if it is to read the answer
		origin := r.Header.Get("Origin")
		u, err := url.Parse(origin)
		return origin != "" && (err != nil || u.Host != r.Host)
	}
	link := r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
	return !(rt.page && link)
}

// sameOrigin refuses a request that a page of another origin has sent and that may change something.
func (g *gate) sameOrigin(r *http.Request) error {
	if g.crossOrigin.Check(r) != nil {
		return &problem{Status: http.StatusForbidden, Detail: "this form was sent by a page of another origin. A reverse proxy in front has to pass the " +
			"Host header on as it came"}
	}
	return nil
}

// bearerToken returns the token in the Authorization header of a request, "" if there is none.
func bearerToken(r *http.Request) string {
	scheme, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimLeft(value, " ") // RFC 9110, section 11.4: one or more spaces
}

// holder returns the caller with a token.
func (g *gate) holder(value string) caller {
	if value == "" {
		return caller{}
	}
	return g.hashHolder(sha256.Sum256([]byte(value)))
}

// hashHolder returns the caller with the token that has a hash.
func (g *gate) hashHolder(hash [sha256.Size]byte) caller {
	var by caller
	for i := range g.tokens { // compare all of them, so that the time does not reveal which one matched
		if subtle.ConstantTimeCompare(hash[:], g.tokens[i].hash[:]) == 1 {
			by.kinds |= g.tokens[i].kind
			by.token = cmp.Or(by.token, g.tokens[i].name)
		}
	}
	return by
}

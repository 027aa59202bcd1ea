package httpapi

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"hookbolt/engine"
)

// A browser that signs in gets a random id as its cookie, and never the token: who reads the cookie can use the pages until the sign-in ends, and
// nothing else. A sign-in ends after signInAge, when the browser signs out, and when its token is removed from the settings. Only hashes are kept.

// signInAge is how long a browser stays signed in: a working day.
const signInAge = 12 * time.Hour

// SignIns keep the browsers that have signed in. Where several processes answer behind one address, all of them have the same ones. Errors are like
// those of an engine.Store.
type SignIns interface {
	// BeginSignIn adds a sign-in. If its token has more than engine.MaxSignIns then, the oldest one ends.
	BeginSignIn(context.Context, engine.SignIn) error
	// SignIns returns those of the sign-ins with these ids that there are and that have not ended.
	SignIns(ctx context.Context, ids [][sha256.Size]byte) ([]engine.SignIn, error)
	// EndSignIns ends the sign-ins with these ids.
	EndSignIns(ctx context.Context, ids [][sha256.Size]byte) error
	// KeepSignIns ends all sign-ins but those with these tokens, given by their hashes.
	KeepSignIns(ctx context.Context, tokens [][sha256.Size]byte) error
}

// signInsHere are sign-ins in the memory of a process that answers alone. A restart ends all of them.
type signInsHere struct {
	mu   sync.Mutex
	kept map[[sha256.Size]byte]engine.SignIn // by id; guarded by mu
}

// BeginSignIn implements SignIns.
func (s *signInsHere) BeginSignIn(_ context.Context, in engine.SignIn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept == nil {
		s.kept = make(map[[sha256.Size]byte]engine.SignIn)
	}
	s.makeRoomLocked(in.Token, time.Now())
	s.kept[in.ID] = in
	return nil
}

// makeRoomLocked removes what has ended and, if the token has too many sign-ins, its oldest.
func (s *signInsHere) makeRoomLocked(token [sha256.Size]byte, now time.Time) {
	var oldest [sha256.Size]byte
	n := 0
	for id, one := range s.kept {
		switch {
		case !now.Before(one.EndAt):
			delete(s.kept, id)
		case one.Token == token:
			if n++; n == 1 || one.EndAt.Before(s.kept[oldest].EndAt) {
				oldest = id
			}
		}
	}
	if n >= engine.MaxSignIns {
		delete(s.kept, oldest)
	}
}

// SignIns implements SignIns.
func (s *signInsHere) SignIns(_ context.Context, ids [][sha256.Size]byte) (found []engine.SignIn, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if one, ok := s.kept[id]; ok && time.Now().Before(one.EndAt) {
			found = append(found, one)
		}
	}
	return found, nil
}

// EndSignIns implements SignIns.
func (s *signInsHere) EndSignIns(_ context.Context, ids [][sha256.Size]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		delete(s.kept, id)
	}
	return nil
}

// KeepSignIns implements SignIns.
func (s *signInsHere) KeepSignIns(_ context.Context, tokens [][sha256.Size]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.kept, func(_ [sha256.Size]byte, one engine.SignIn) bool { return !slices.Contains(tokens, one.Token) })
	return nil
}

// endOldSignIns ends the sign-ins whose token opens no pages any more. A token that opens them again later does not bring them back. While nobody has to
// sign in, it ends none: other processes may have tokens.
func (a *API) endOldSignIns(g *gate) {
	if g.open {
		return
	}
	if err := a.signIns.KeepSignIns(context.Background(), g.pageTokens()); err != nil {
		a.log.Warn("the sign-ins of removed tokens could not be removed; they open nothing, unless their token is set again within 12 hours", "error", err)
	}
}

// signInIDLength is the length of an id: 32 random bytes in base64.
const signInIDLength = 43

const (
	// signInCookie is the name of the cookie with the id of a sign-in.
	signInCookie = "hookbolt_signin"
	// secureSignInCookie is its name under HTTPS. Browsers accept this name only from the host itself, over HTTPS, for all paths: a server
	// on a neighbouring name or port cannot put one of its own in its place.
	secureSignInCookie = "__Host-" + signInCookie
	// oldTokenCookie held the admin token itself in earlier versions. Browsers that still have it are told to forget it.
	oldTokenCookie = "hookbolt_token"
)

// signedIn returns the caller with the token that the browser of a request has signed in with, as the token is configured now, and the ids of its
// sign-ins. There may be several cookies of a name, so all are looked up. Browsers store cookies by host and not by port: another server on this
// host may set one for a longer path, which comes first.
func (a *API) signedIn(r *http.Request) (by caller, ids [][sha256.Size]byte, err error) {
	hashes := a.signInIDs(r)
	if len(hashes) == 0 {
		return caller{}, nil, nil
	}
	found, err := a.signIns.SignIns(r.Context(), hashes)
	if err != nil {
		return caller{}, nil, err
	}
	for _, one := range found {
		ids = append(ids, one.ID)
		if has := a.gate().hashHolder(one.Token); by.kinds == 0 && has.kinds&pageRoles != 0 {
			by = caller{has.kinds & pageRoles, has.token}
		}
	}
	return by, ids, nil
}

// signInIDs are the hashes of the ids in the cookies of a request. Under HTTPS only the name that browsers protect counts. A proxy in front that is not
// trusted may hide that it is HTTPS: then both names do.
func (a *API) signInIDs(r *http.Request) (ids [][sha256.Size]byte) {
	names := []string{secureSignInCookie, signInCookie}
	if a.usesHTTPS(r) {
		names = names[:1]
	}
	for _, name := range names {
		for _, c := range r.CookiesNamed(name) {
			if len(c.Value) == signInIDLength { // else nobody has made it
				ids = append(ids, sha256.Sum256([]byte(c.Value)))
			}
		}
	}
	return ids
}

// beginSignIn signs the browser of a request in, with an admin or read token, and returns its cookie.
func (a *API) beginSignIn(r *http.Request, token string) (*http.Cookie, error) {
	random := make([]byte, 32)
	rand.Read(random) // it does not fail: see crypto/rand
	id := base64.RawURLEncoding.EncodeToString(random)
	err := a.signIns.BeginSignIn(r.Context(), engine.SignIn{ID: sha256.Sum256([]byte(id)), Token: sha256.Sum256([]byte(token)), EndAt: time.Now().UTC().Add(signInAge)})
	if err != nil {
		return nil, err
	}
	c := &http.Cookie{Name: signInCookie, Value: id, Path: "/", MaxAge: int(signInAge / time.Second), HttpOnly: true, SameSite: http.SameSiteStrictMode}
	// The form's own origin tells of HTTPS, too, where the proxy in front is not trusted. A client that invents it affects only its own cookie.
	if a.usesHTTPS(r) || strings.HasPrefix(r.Header.Get("Origin"), "https://") {
		c.Name, c.Secure = secureSignInCookie, true
	}
	return c, nil
}

// endSignIn signs the browser of a request out, and returns who it was, and the cookies that have it forget its own. Ids that nobody has cause no change
// of the store: anybody may send them.
func (a *API) endSignIn(r *http.Request) (caller, []*http.Cookie, error) {
	by, ids, err := a.signedIn(r)
	if err == nil && len(ids) > 0 {
		err = a.signIns.EndSignIns(r.Context(), ids)
	}
	return by, expire(r, secureSignInCookie, signInCookie, oldTokenCookie), err
}

// expire returns cookies that have a browser forget those of its own that have these names.
func expire(r *http.Request, names ...string) (gone []*http.Cookie) {
	for _, name := range names {
		if _, err := r.Cookie(name); err == nil {
			gone = append(gone, &http.Cookie{Name: name, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode,
				Secure: strings.HasPrefix(name, "__Host-")})
		}
	}
	return gone
}

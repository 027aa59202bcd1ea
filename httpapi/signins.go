package httpapi

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"sync"
	"time"
)

// signIns are the browsers that have signed in. A browser gets a random id as its cookie, and never the token: who reads the cookie can use
// the pages until the sign-in ends, and nothing else. A sign-in ends after signInAge, when the browser signs out, and when its token is
// removed from the settings.
//
// Sign-ins are kept in memory, only by the hashes of their ids. A restart ends all of them. Several processes behind one address would need
// them in the store.
type signIns struct {
	mu   sync.Mutex
	kept map[[sha256.Size]byte]signIn // by the hash of the id; guarded by mu
}

// signIn is a browser that has signed in.
type signIn struct {
	token [sha256.Size]byte // the hash of the token
	endAt time.Time
}

const (
	// signInAge is how long a browser stays signed in: a working day.
	signInAge = 12 * time.Hour
	// maxSignIns bounds the sign-ins of each token. Beyond it the oldest one ends. A token of a team has fewer browsers.
	maxSignIns = 100
)

// begin returns the id of a new sign-in.
func (s *signIns) begin(token [sha256.Size]byte) (id string) {
	random := make([]byte, 32)
	rand.Read(random) // it does not fail: see crypto/rand
	id = base64.RawURLEncoding.EncodeToString(random)
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept == nil {
		s.kept = make(map[[sha256.Size]byte]signIn)
	}
	s.makeRoomLocked(token, now)
	s.kept[sha256.Sum256([]byte(id))] = signIn{token, now.Add(signInAge)}
	return id
}

// makeRoomLocked removes what has ended and, if the token has too many sign-ins, its oldest.
func (s *signIns) makeRoomLocked(token [sha256.Size]byte, now time.Time) {
	var oldest [sha256.Size]byte
	n := 0
	for id, one := range s.kept {
		switch {
		case !now.Before(one.endAt):
			delete(s.kept, id)
		case one.token == token:
			if n++; n == 1 || one.endAt.Before(s.kept[oldest].endAt) {
				oldest = id
			}
		}
	}
	if n >= maxSignIns {
		delete(s.kept, oldest)
	}
}

// tokenOf returns the hash of the token that a browser has signed in with. The look-up by a hash takes a time that reveals nothing of an id.
func (s *signIns) tokenOf(id string) (token [sha256.Size]byte, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one, ok := s.kept[sha256.Sum256([]byte(id))]
	return one.token, ok && time.Now().Before(one.endAt)
}

func (s *signIns) end(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.kept, sha256.Sum256([]byte(id)))
}

// endOthers ends the sign-ins whose token opens no pages any more. A token that opens them again later does not bring them back.
func (s *signIns) endOthers(holder func(token [sha256.Size]byte) caller) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, one := range s.kept {
		if holder(one.token).kinds&(adminToken|readToken) == 0 {
			delete(s.kept, id)
		}
	}
}

const (
	// signInCookie is the name of the cookie with the id of a sign-in.
	signInCookie = "hookbolt_signin"
	// secureSignInCookie is its name under HTTPS. Browsers accept this name only from the host itself, over HTTPS, for all paths: a server
	// on a neighbouring name or port cannot put one of its own in its place.
	secureSignInCookie = "__Host-" + signInCookie
	// oldTokenCookie held the admin token itself in earlier versions. Browsers that still have it are told to forget it.
	oldTokenCookie = "hookbolt_token"
)

// signedIn returns the caller with the token that the browser of a request has signed in with, as the token is configured now. There may be
// several cookies of a name, so all are tried. Browsers store cookies by host and not by port: another server on this host may set one for
// a longer path, which comes first.
func (a *API) signedIn(r *http.Request) caller {
	for _, id := range a.signInIDs(r) {
		if token, ok := a.signIns.tokenOf(id); ok {
			by := a.gate().hashHolder(token)
			if by.kinds &= adminToken | readToken; by.kinds != 0 {
				return by
			}
		}
	}
	return caller{}
}

// signInIDs are the ids in the cookies of a request. Under HTTPS only the name that browsers protect counts. A proxy in front that is not
// trusted may hide that it is HTTPS: then both names do.
func (a *API) signInIDs(r *http.Request) (ids []string) {
	names := []string{secureSignInCookie, signInCookie}
	if a.usesHTTPS(r) {
		names = names[:1]
	}
	for _, name := range names {
		for _, c := range r.CookiesNamed(name) {
			ids = append(ids, c.Value)
		}
	}
	return ids
}

// beginSignIn signs the browser of a request in, with an admin or read token, and returns its cookie.
func (a *API) beginSignIn(r *http.Request, token string) *http.Cookie {
	c := &http.Cookie{Name: signInCookie, Value: a.signIns.begin(sha256.Sum256([]byte(token))), Path: "/", MaxAge: int(signInAge / time.Second),
		HttpOnly: true, SameSite: http.SameSiteStrictMode}
	// The form's own origin tells of HTTPS, too, where the proxy in front is not trusted. A client that invents it affects only its own cookie.
	if a.usesHTTPS(r) || strings.HasPrefix(r.Header.Get("Origin"), "https://") {
		c.Name, c.Secure = secureSignInCookie, true
	}
	return c
}

// endSignIn signs the browser of a request out, and returns the cookies that have it forget its own.
func (a *API) endSignIn(r *http.Request) []*http.Cookie {
	for _, id := range a.signInIDs(r) {
		a.signIns.end(id)
	}
	return expire(r, secureSignInCookie, signInCookie, oldTokenCookie)
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

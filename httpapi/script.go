package httpapi

import (
	"crypto/sha256"
	_ "embed"
	"fmt"
	"net/http"
	"strings"

	"github.com/julienschmidt/httprouter"
)

// script is script/hookbolt.js, made small.
//
//go:embed script/hookbolt.min.js
var script []byte

// scriptTag is the entity tag. It changes with the script.
var scriptTag = fmt.Sprintf(`"%.16x"`, sha256.Sum256(script))

// script serves the script for pages. The script is public, so pages of any origin may load it and proxies may cache it. The cache
// time of an hour bounds how long pages use an old version.
func (a *API) script(*http.Request, httprouter.Params) (any, error) {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Type", "text/javascript; charset=utf-8")
		header.Set("Cache-Control", "public, max-age=3600")
		header.Set("ETag", scriptTag)
		header.Set("Access-Control-Allow-Origin", "*")
		if matchesTag(r.Header.Values("If-None-Match"), scriptTag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Write(script) // an error means that the client has disconnected
	}), nil
}

// matchesTag reports whether an If-None-Match names a tag (RFC 9110, section 13.1.2). Weak tags match, too. Ranges and other conditions are
// not supported, as the RFC allows: http.ServeContent would answer them with 206, 412 and 416.
func matchesTag(header []string, tag string) bool {
	for _, list := range header {
		for one := range strings.SplitSeq(list, ",") {
			if one = strings.TrimPrefix(strings.TrimSpace(one), "W/"); one == tag || one == "*" {
				return true
			}
		}
	}
	return false
}

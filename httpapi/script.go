package httpapi

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"fmt"
	"net/http"
	"time"

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
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(script))
	}), nil
}

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

// scriptTag changes with the script, as an entity tag has to.
var scriptTag = fmt.Sprintf(`"%.16x"`, sha256.Sum256(script))

// script answers with the script for pages. There is nothing in it that not everybody may know, so pages of any origin may load it in
// whatever way, and whoever is between them and us may keep it: for an hour, which bounds how long a page goes on with an old one.
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

package ui

import (
	"cmp"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/julienschmidt/httprouter"

	"hookbolt/engine"
)

// flashCookie is the cookie that makes a page show a webhook's secret once. It has the webhook's id, is valid for flashSeconds, and
// only on the path of that page.
const (
	flashCookie  = "hookbolt_secret"
	flashSeconds = 60
)

// secretDone are the messages of the page of a secret.
var secretDone = map[string]string{
	"created": "The webhook is created. This is its secret.",
	"rotated": "The secret is rotated. This is the new one.",
	"keys":    "The key pair is rotated. This is the new public key, and the one before while it still signs.",
}

func secretPath(id uint32) string { return fmt.Sprintf("/webhooks/%d/secret", id) }

// toSecret redirects to the page that shows a webhook's secret once. what is a key of secretDone.
func toSecret(id uint32, what string) *Answer {
	a := redirect("%s?done=%s", secretPath(id), what)
	a.Cookies = []*http.Cookie{newFlash(id, flashSeconds)}
	return a
}

func newFlash(id uint32, seconds int) *http.Cookie {
	return &http.Cookie{Name: flashCookie, Value: strconv.FormatUint(uint64(id), 10), Path: secretPath(id), MaxAge: seconds,
		HttpOnly: true, SameSite: http.SameSiteStrictMode}
}

// secretData is what the page of a secret shows.
type secretData struct {
	*engine.Webhook
	// Key is the secret; "" if it is hidden.
	Key string
	// Announced reports that the browser was redirected here after the secret was made.
	Announced bool
	Snippets  []snippet
	// BodySecret is the secret of the header with the HMAC of the body, if it has one of its own; "" if it is hidden.
	BodySecret   string
	BodySnippets []snippet // nil without the header
	// PublicKeys are those of the key pairs that sign, as PEM too, newest first.
	PublicKeys  []shownKey
	KeySnippets []snippet // nil without a key pair
}

// shownKey is a public key in two forms.
type shownKey struct {
	engine.SigningPublicKey
	PEM string
}

// secretPage shows a webhook's secret once to a browser that was redirected here after the secret was made.
func (p *Pages) secretPage(r *http.Request, ps httprouter.Params) (*Answer, error) {
	w, err := p.webhook(ps)
	if err != nil {
		return nil, err
	}
	said := done(r, secretDone)
	flash, err := r.Cookie(flashCookie)
	if err != nil || flash.Value != strconv.FormatUint(uint64(w.ID), 10) {
		return p.showSecretPage(&w, secretView{announced: said != ""})
	}
	a, err := p.showSecretPage(&w, secretView{show: true, announced: true, done: said})
	if err != nil {
		return nil, err
	}
	a.Cookies = []*http.Cookie{newFlash(w.ID, -1)}
	return a, nil
}

// showSecret shows a webhook's secret on request.
func (p *Pages) showSecret(_ *http.Request, ps httprouter.Params) (*Answer, error) {
	w, err := p.webhook(ps)
	if err != nil {
		return nil, err
	}
	return p.showSecretPage(&w, secretView{show: true})
}

// secretView says how the page of a secret is shown.
type secretView struct {
	show      bool   // the secret itself is on the page
	announced bool   // see secretData
	done      string // what was done before; "" for nothing
}

func (p *Pages) showSecretPage(w *engine.Webhook, v secretView) (*Answer, error) {
	d := secretData{Webhook: w, Announced: v.announced}
	if v.show {
		d.Key = string(w.Secret)
	}
	d.Snippets = snippets(d.Key, w.URL)
	if s := w.Signature; s != nil && s.Header != "" {
		if v.show && s.Secret != "" {
			d.BodySecret = string(s.Secret)
		}
		d.BodySnippets = bodySnippets(s, cmp.Or(d.BodySecret, d.Key))
	}
	for _, key := range w.PublicKeys(time.Now()) {
		pem, err := key.PEM()
		if err != nil {
			return nil, err
		}
		d.PublicKeys = append(d.PublicKeys, shownKey{key, pem})
	}
	if len(d.PublicKeys) > 0 {
		d.KeySnippets = keySnippets(d.PublicKeys[0].PublicKey)
	}
	return p.show(view{Template: "secret", Title: "Secret of " + nameOf(w), Nav: "/webhooks", Done: v.done, Data: d})
}

package engine

import (
	"crypto/x509"
	"errors"
	"time"

	"hookbolt/engine/jsonread"
	"hookbolt/engine/send"
)

// TLS is how a webhook's endpoint is spoken to over TLS; see package send.
type TLS = send.TLS

// tlsShown is what answers have of a webhook's TLS settings: what is PEM only as true, since it is long or secret, and what names files, as it is.
type tlsShown struct {
	CA         bool   `json:"ca,omitzero"`
	Cert       bool   `json:"cert,omitzero"`
	Key        bool   `json:"key,omitzero"`
	CAFile     string `json:"ca_file,omitzero"`
	CertFile   string `json:"cert_file,omitzero"`
	KeyFile    string `json:"key_file,omitzero"`
	ServerName string `json:"server_name,omitzero"`
	MinVersion string `json:"min_version,omitzero"`
}

// showTLS returns what answers have of a webhook's TLS settings; nil if there are none.
func showTLS(w *Webhook) any {
	t := w.TLS
	if t == nil {
		return (*tlsShown)(nil)
	}
	return &tlsShown{t.CA != "", t.Cert != "", t.Key != "", t.CAFile, t.CertFile, t.KeyFile, t.ServerName, t.MinVersion}
}

// tlsOfHost are the members that are meant for one host: who the client is, and what the endpoint is called. The others make the check of another
// host stricter, and stay.
var tlsOfHost = []string{"cert", "cert_file", "key", "key_file", "server_name"}

// tlsInPlace are the members that take the place of each other.
var tlsInPlace = [][2]string{{"ca", "ca_file"}, {"cert", "cert_file"}, {"key", "key_file"}}

// leaveTLS removes the members that are meant for the host before, and returns their paths.
func leaveTLS(w *Webhook) (dropped []string) {
	if w.TLS == nil {
		return nil
	}
	present := tlsMembers(w)
	for _, name := range tlsOfHost {
		if present[name] != nil {
			dropped = append(dropped, "tls."+name)
		}
	}
	if kept := (TLS{CA: w.TLS.CA, CAFile: w.TLS.CAFile, MinVersion: w.TLS.MinVersion}); kept != (TLS{}) {
		w.TLS = &kept
	} else {
		w.TLS = nil
	}
	return dropped
}

func tlsMembers(w *Webhook) members {
	if w.TLS == nil {
		return members{}
	}
	return membersOf(w.TLS)
}

// readTLS reads TLS settings. An empty object is none.
func readTLS(r *jsonread.Reader) *TLS {
	var t TLS
	failed := false
	r.Object(func(key []byte) bool {
		text := map[string]*string{"ca": &t.CA, "cert": &t.Cert, "ca_file": &t.CAFile, "cert_file": &t.CertFile, "key_file": &t.KeyFile,
			"server_name": &t.ServerName, "min_version": &t.MinVersion}[string(key)]
		if string(key) == "key" {
			text = (*string)(&t.Key)
		}
		if text == nil {
			return false
		}
		if *text = r.Text(); *text == "" {
			failed = true
			r.Fail("must not be empty; leave it out, or give null")
		}
		return true
	})
	if failed || r.Failed() {
		return nil
	}
	if bad, ok := errors.AsType[*send.TLSError](send.CheckTLS(&t)); ok {
		r.FailAt(bad.Member, "%s", bad.Detail)
	}
	if t == (TLS{}) {
		return nil
	}
	return &t
}

// sameTLS reports whether two TLS settings are the same.
func sameTLS(a, b *TLS) bool { return a == b || a != nil && b != nil && *a == *b }

// checkTLS refuses TLS settings for a URL without TLS, and files that cannot be used.
func (e *Engine) checkTLS(w, before *Webhook) error {
	switch {
	case w.TLS == nil:
		return nil
	case !isHTTPS(w.URL):
		return InputErrors{{Field: "tls", Detail: "is for https, and the URL is http: change it, or remove tls"}}
	case sameTLS(w.TLS, before.TLS):
		return nil
	}
	err := e.sender().CheckTLS(w.TLS)
	if bad, ok := errors.AsType[*send.TLSError](err); ok {
		return InputErrors{{Field: "tls." + bad.Member, Detail: bad.Detail}}
	}
	if err != nil { // of a file of the configuration, or of one that was usable before
		return InputErrors{{Field: "tls", Detail: err.Error()}}
	}
	return nil
}

// ClientCertificate is the client certificate of a webhook.
type ClientCertificate struct {
	Subject, Issuer string
	ExpiresAt       time.Time
}

// soonExpired is how long before its end a client certificate is warned of.
const soonExpired = 14 * 24 * time.Hour

// Expiring reports whether the certificate has ended or ends soon.
func (c *ClientCertificate) Expiring(now time.Time) bool {
	return now.Add(soonExpired).After(c.ExpiresAt)
}

// ClientCertificate returns the client certificate that attempts for a webhook send now, nil if there is none. The error says why its files
// cannot be used; there may be a certificate that was read before.
func (e *Engine) ClientCertificate(w *Webhook) (*ClientCertificate, error) {
	c, err := e.sender().ClientCertificate(w.TLS)
	return clientCertificate(c), err
}

// firstExpiry returns when the first client certificate of an active webhook ends; zero if none has one.
func (e *Engine) firstExpiry() (first time.Time) {
	for _, w := range e.store.Webhooks().All() {
		if w.TLS == nil || !w.Active {
			continue
		}
		if c, _ := e.ClientCertificate(w); c != nil && (first.IsZero() || c.ExpiresAt.Before(first)) {
			first = c.ExpiresAt
		}
	}
	return first
}

func clientCertificate(c *x509.Certificate) *ClientCertificate {
	if c == nil {
		return nil
	}
	return &ClientCertificate{Subject: c.Subject.String(), Issuer: c.Issuer.String(), ExpiresAt: c.NotAfter.UTC()}
}

package send

import (
	"cmp"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// TLS is how an endpoint is spoken to over TLS, where it differs from the defaults. The peer is verified in any case. Two values that are
// equal are the same settings.
type TLS struct {
	// CA has the certificates that are trusted in place of the system's and those of Options.CAFile, as PEM; "" for none.
	CA string `json:"ca,omitzero"`
	// Cert is the client's certificate, followed by its intermediates, and Key its private key, as PEM; "" for none.
	Cert string     `json:"cert,omitzero"`
	Key  Credential `json:"key,omitzero"`
	// CAFile, CertFile and KeyFile are files with these in their place, below Options.TLSDir. They are read again as they change.
	CAFile   string `json:"ca_file,omitzero"`
	CertFile string `json:"cert_file,omitzero"`
	KeyFile  string `json:"key_file,omitzero"`
	// ServerName is the name that the endpoint is asked for (SNI) and that its certificate must have; "" means the URL's host.
	ServerName string `json:"server_name,omitzero"`
	// MinVersion is "1.2", "1.3", or "" for the default of crypto/tls, which is 1.2.
	MinVersion string `json:"min_version,omitzero"`
}

// String and LogValue are as those of BasicAuth.
func (t TLS) String() string { return hidden }

// LogValue is what a log shows.
func (t TLS) LogValue() slog.Value { return slog.StringValue(t.String()) }

// minVersions are the versions that a setting may ask for.
var minVersions = map[string]uint16{"": 0, "1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

// TLSError is what is wrong with a member of TLS.
type TLSError struct {
	// Member is the member, such as "cert_file"; "" for TLS as a whole.
	Member string
	Detail string
}

func (e *TLSError) Error() string {
	if e.Member == "" {
		return "tls " + e.Detail
	}
	return "tls." + e.Member + " " + e.Detail
}

// CheckTLS returns what is wrong with t as far as it can be known without the files that it names. The error is a TLSError.
func CheckTLS(t *TLS) error {
	for _, pair := range []struct{ member, text, file string }{{"ca", t.CA, t.CAFile}, {"cert", t.Cert, t.CertFile}, {"key", string(t.Key), t.KeyFile}} {
		switch {
		case pair.text != "" && pair.file != "":
			return &TLSError{pair.member + "_file", "and tls." + pair.member + " are set: give one of the two"}
		case len(pair.text) > MaxPEMBytes:
			return &TLSError{pair.member, fmt.Sprintf("must have at most %d bytes (got %d)", MaxPEMBytes, len(pair.text))}
		case pair.file != "" && !localName(pair.file):
			return &TLSError{pair.member + "_file", `must be the name of a file within delivery.tls_dir, such as "client.pem", without .. and not absolute`}
		}
	}
	hasCert, hasKey := t.Cert != "" || t.CertFile != "", t.Key != "" || t.KeyFile != ""
	switch _, known := minVersions[t.MinVersion]; {
	case !known:
		return &TLSError{"min_version", `must be "1.2" or "1.3"`}
	case t.ServerName != "" && !isServerName(t.ServerName):
		return &TLSError{"server_name", "must be a host name or an address, such as hooks.example.com, without scheme, port and path"}
	case hasCert && !hasKey:
		return &TLSError{"key", "is required with tls.cert: the private key of the certificate; or tls.key_file"}
	case hasKey && !hasCert:
		return &TLSError{"cert", "is required with tls.key: the client's certificate; or tls.cert_file"}
	}
	return checkTexts(t)
}

// checkTexts checks the PEM texts of t.
func checkTexts(t *TLS) error {
	given := material{names: [3]string{"ca", "cert", "key"}, ca: t.CA, cert: t.Cert, key: string(t.Key)}
	if hasKey(t.CA) {
		return &TLSError{"ca", "has a private key in it, which nobody needs to trust an authority: give the certificate alone"}
	}
	if hasKey(t.Cert) {
		if _, err := parseCertificates(t.Cert); err == nil {
			return &TLSError{"cert", "has the private key in it, too: give that as tls.key"}
		}
	}
	if t.Key != "" && t.Cert == "" { // the other is a file
		_, err := parseKey(string(t.Key))
		return wrapTLS("key", err)
	}
	if t.Key == "" && t.Cert != "" {
		_, err := parseCertificates(t.Cert)
		return wrapTLS("cert", err)
	}
	id, err := given.parse()
	if err != nil {
		return err
	}
	return id.checkExpiry(given.names, time.Now())
}

func wrapTLS(member string, err error) error {
	if err == nil {
		return nil
	}
	return &TLSError{member, err.Error()}
}

// localName reports whether a name of a file stays within the directory that it is looked up in.
func localName(name string) bool {
	return len(name) <= 255 && filepath.IsLocal(name) && !strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' })
}

// isServerName reports whether a text is a host in the form in which it is sent.
func isServerName(name string) bool {
	if _, err := netip.ParseAddr(name); err == nil {
		return !strings.Contains(name, "%")
	}
	canonical, err := CanonicalURL("https://" + name + "/")
	return err == nil && canonical == "https://"+name+"/" && !strings.ContainsAny(name, ":[]/?#@%")
}

// material is the PEM text of certificates and a key, wherever it comes from. names are the members that it comes from, for errors.
type material struct {
	names         [3]string // of ca, cert and key
	ca, cert, key string
}

// identity is what is made of material.
type identity struct {
	authorities []*x509.Certificate
	certificate *tls.Certificate // of the client; nil for none
}

// parse reads the certificates and the key, and checks that they fit.
func (m *material) parse() (identity, error) {
	var id identity
	var err error
	if m.ca != "" {
		if id.authorities, err = parseCertificates(m.ca); err != nil {
			return id, &TLSError{m.names[0], err.Error()}
		}
	}
	if m.cert == "" {
		return id, nil
	}
	list, err := parseCertificates(m.cert)
	if err != nil {
		return id, &TLSError{m.names[1], err.Error()}
	}
	key, err := parseKey(m.key)
	if err != nil {
		return id, &TLSError{m.names[2], err.Error()}
	}
	if err := m.checkPair(list, key); err != nil {
		return id, err
	}
	id.certificate = &tls.Certificate{PrivateKey: key, Leaf: list[0]}
	for _, c := range list {
		id.certificate.Certificate = append(id.certificate.Certificate, c.Raw)
	}
	return id, nil
}

// checkPair checks a client's certificates against its key.
func (m *material) checkPair(list []*x509.Certificate, key crypto.Signer) error {
	if !fits(key, list[0]) {
		for i, c := range list[1:] {
			if fits(key, c) {
				return &TLSError{m.names[1], fmt.Sprintf("has the client's certificate as number %d: it must come first, its intermediates after it", i+2)}
			}
		}
		return &TLSError{m.names[2], "is not the private key of the certificate " + subjectOf(list[0])}
	}
	return nil
}

// checkExpiry refuses what has expired. It is for settings that are new: later, the peer decides.
func (id *identity) checkExpiry(names [3]string, now time.Time) error {
	if last := allExpired(id.authorities, now); !last.IsZero() {
		return &TLSError{names[0], "has expired certificates only: the last one ended at " + minute(last)}
	}
	if id.certificate != nil && !now.Before(id.certificate.Leaf.NotAfter) {
		return &TLSError{names[1], "expired at " + minute(id.certificate.Leaf.NotAfter) + ": renew it"}
	}
	return nil
}

// minute writes a time for people.
func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// subjectOf names whom a certificate is for. It may be of a peer: what it says is bounded and made printable.
func subjectOf(c *x509.Certificate) string { return named(c.Subject.String()) }

func named(distinguished string) string { return `"` + shortText(distinguished) + `"` }

// shortText is printableStart for a text with spaces.
func shortText(text string) string {
	const length = 64
	words := strings.Split(text, " ")
	for i, word := range words {
		words[i] = strings.ReplaceAll(printableStart(word, length), `"`, "?")
	}
	if text = strings.Join(words, " "); len(text) > length {
		return strings.ToValidUTF8(text[:length], "") + "…"
	}
	return text
}

// fingerprint writes the SHA-256 of a certificate as openssl x509 -fingerprint does, without the colons.
func fingerprint(c *x509.Certificate) string { return fmt.Sprintf("%X", sha256.Sum256(c.Raw)) }

// maxTLSFile is how many bytes a file of certificates may have: the public authorities take a quarter of that.
const maxTLSFile = 1 << 20

// filesCheckInterval is how often the files of a TLS setting are read again, when there is an attempt. They are compared by what they hold:
// times and sizes stay as they are when a file is copied or restored.
const filesCheckInterval = 5 * time.Second

// tlsClient is what TLS settings have led to: the configuration of a client, and how connections that are made with it are told apart.
type tlsClient struct {
	key        string // in poolKey; "" for the defaults
	identity   identity
	names      [3]string      // of the members that the identity comes from
	roots      *x509.CertPool // nil means the system's
	ownCA      bool           // the roots are the endpoint's own
	serverName string
	minVersion uint16
}

// config returns the client's configuration.
func (c *tlsClient) config() *tls.Config {
	return &tls.Config{RootCAs: c.roots, ServerName: c.serverName, MinVersion: c.minVersion, GetClientCertificate: c.clientCertificate}
}

// clientCertificate is a client's GetClientCertificate. The certificate is sent whatever authorities the peer names: many name none, or the
// wrong ones, and its refusal tells more than an empty answer.
func (c *tlsClient) clientCertificate(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
	traceOf(info.Context()).note(func(x *exchange) { x.wantsCertificate = true })
	return cmp.Or(c.identity.certificate, &tls.Certificate{}), nil
}

// tlsSettings turns TLS settings into credentials. It reads their files again as they change: a new content is a new key, so that no connection
// is used again that was made with the old one.
type tlsSettings struct {
	dir    string // of the files that settings name; "" for none
	caFile string // authorities for all, beside the system's; "" for none
	log    *slog.Logger

	// replaced is called with the key of credentials that new files have taken the place of.
	replaced func(key string)

	mu    sync.Mutex
	byTLS map[TLS]*tlsEntry // guarded by mu
}

// tlsEntry is the newest credentials of some TLS settings.
type tlsEntry struct {
	mu        sync.Mutex // held while files are read; guards what follows
	current   *tlsClient
	trouble   string    // why the files cannot be used as they are now; "" if they are used
	checkedAt time.Time // by the monotonic clock; zero before the first time, and to have the files read
}

func newTLSSettings(o *Options, replaced func(key string)) *tlsSettings {
	return &tlsSettings{dir: o.TLSDir, caFile: o.CAFile, log: cmp.Or(o.Log, slog.New(slog.DiscardHandler)), replaced: replaced, byTLS: make(map[TLS]*tlsEntry)}
}

// entry returns the entry of some settings.
func (s *tlsSettings) entry(t TLS) *tlsEntry {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.byTLS[t]
	if e == nil {
		e = &tlsEntry{}
		s.byTLS[t] = e
	}
	return e
}

// of returns the credentials of some settings. If their files cannot be used as they are now, it returns the last ones, and trouble says why.
// Without any the error is a TLSError.
func (s *tlsSettings) of(t TLS) (c *tlsClient, trouble string, err error) {
	e := s.entry(t)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.current != nil && (!s.readsFiles(&t) || !e.checkedAt.IsZero() && time.Since(e.checkedAt) < filesCheckInterval) {
		return e.current, e.trouble, nil
	}
	next, err := s.load(&t)
	e.checkedAt = time.Now()
	if err != nil {
		if e.current == nil {
			return nil, "", err
		}
		if news := err.Error() + "; the previous one was used"; news != e.trouble {
			e.trouble = news
			s.log.Error("a file for TLS has changed and cannot be used; what it held before stays in use", "error", err)
		}
		return e.current, e.trouble, nil
	}
	e.trouble = ""
	if e.current != nil && e.current.key == next.key {
		return e.current, "", nil
	}
	if e.current != nil {
		s.replaced(e.current.key)
		s.log.Info("the files for TLS have changed; new connections use what they hold now", "ca_file", cmp.Or(t.CAFile, s.caFile), "cert_file", t.CertFile)
	}
	e.current = next
	return next, "", nil
}

// readsFiles reports whether the credentials come from files, which may change.
func (s *tlsSettings) readsFiles(t *TLS) bool {
	return t.CAFile != "" || t.CertFile != "" || t.KeyFile != "" || s.caFile != "" && t.CA == ""
}

// recheck has all files read again by the next attempts.
func (s *tlsSettings) recheck() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.byTLS {
		e.mu.Lock()
		e.checkedAt = time.Time{}
		e.mu.Unlock()
	}
}

// keep forgets all settings but those that are in use, and the defaults. It returns the keys of those that are left.
func (s *tlsSettings) keep(inUse map[TLS]bool) (keys map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys = map[string]bool{"": true}
	for t, e := range s.byTLS {
		if t != (TLS{}) && !inUse[t] {
			delete(s.byTLS, t)
			continue
		}
		e.mu.Lock()
		if e.current != nil {
			keys[e.current.key] = true
		}
		e.mu.Unlock()
	}
	return keys
}

// load reads the files of some settings and makes credentials of them.
func (s *tlsSettings) load(t *TLS) (*tlsClient, error) {
	m := material{names: [3]string{"ca", "cert", "key"}, ca: t.CA, cert: t.Cert, key: string(t.Key)}
	for i, f := range []struct {
		name string
		text *string
	}{{t.CAFile, &m.ca}, {t.CertFile, &m.cert}, {t.KeyFile, &m.key}} {
		if f.name == "" {
			continue
		}
		m.names[i] += "_file"
		var err error
		if *f.text, err = s.read(f.name); err != nil {
			return nil, &TLSError{m.names[i], err.Error()}
		}
	}
	id, err := m.parse()
	if err != nil {
		return nil, err
	}
	c := &tlsClient{names: m.names, identity: id, serverName: t.ServerName, minVersion: minVersions[t.MinVersion], ownCA: m.ca != ""}
	shared := ""
	switch {
	case m.ca != "":
		c.roots = x509.NewCertPool()
		for _, authority := range id.authorities {
			c.roots.AddCert(authority)
		}
	case s.caFile != "":
		if shared, err = readTLSFile(s.caFile); err != nil {
			return nil, fmt.Errorf("delivery.ca_file: %w", err)
		}
		if c.roots, err = s.withSystem(shared); err != nil {
			return nil, fmt.Errorf("delivery.ca_file: %s %w", s.caFile, err)
		}
	}
	if *t != (TLS{}) || shared != "" {
		c.key = fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Join([]string{m.ca, m.cert, m.key, t.ServerName, t.MinVersion, shared}, "\x00"))))
	}
	return c, nil
}

// withSystem returns the system's authorities and those of a PEM text.
func (s *tlsSettings) withSystem(text string) (*x509.CertPool, error) {
	list, err := parseCertificates(text)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("cannot be added to the certificates of this machine: %w", err)
	}
	for _, c := range list {
		pool.AddCert(c)
	}
	return pool, nil
}

// errNoTLSDir is the error of a file that is named where no directory for such files is.
var errNoTLSDir = errors.New("needs delivery.tls_dir in the configuration, the directory of such files; or give the PEM text itself")

// read reads a file within the directory. No link leads out of it.
func (s *tlsSettings) read(name string) (string, error) {
	if s.dir == "" {
		return "", errNoTLSDir
	}
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return "", fmt.Errorf("cannot be read: delivery.tls_dir: %w", plain(err))
	}
	defer root.Close()
	info, err := root.Stat(name)
	if err == nil && !info.Mode().IsRegular() {
		return "", fmt.Errorf("(%s) is no regular file", printableStart(name, 80))
	}
	var f *os.File
	if err == nil {
		f, err = root.Open(name)
	}
	if err != nil {
		return "", fmt.Errorf("(%s) cannot be read: %w", printableStart(name, 80), plain(err))
	}
	defer f.Close()
	text, err := readLimited(f)
	if err != nil {
		return "", fmt.Errorf("(%s) %w", printableStart(name, 80), err)
	}
	return text, nil
}

// plain returns what is wrong without the path that it is about.
func plain(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

func readLimited(f io.Reader) (string, error) {
	text, err := io.ReadAll(io.LimitReader(f, maxTLSFile+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("cannot be read: %w", plain(err))
	case len(text) > maxTLSFile:
		return "", fmt.Errorf("has more than %d bytes", maxTLSFile)
	case len(text) == 0:
		return "", errors.New("is empty")
	}
	return string(text), nil
}

// readTLSFile reads a file that the operator has named.
func readTLSFile(path string) (string, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is no regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := readLimited(f)
	if err != nil {
		return "", fmt.Errorf("%s %w", path, err)
	}
	return text, nil
}

// CheckTLSFiles returns what is wrong with Options.CAFile and Options.TLSDir. The error begins with the name of the setting.
func CheckTLSFiles(caFile, dir string) error {
	if caFile != "" {
		text, err := readTLSFile(caFile)
		if err != nil {
			return fmt.Errorf("delivery.ca_file: %w", err)
		}
		if _, err := parseCertificates(text); err != nil {
			return fmt.Errorf("delivery.ca_file: %s %w", caFile, err)
		}
	}
	if dir != "" {
		if info, err := os.Stat(dir); err != nil {
			return fmt.Errorf("delivery.tls_dir: %w", err)
		} else if !info.IsDir() {
			return fmt.Errorf("delivery.tls_dir: %s is no directory", dir)
		}
	}
	return nil
}

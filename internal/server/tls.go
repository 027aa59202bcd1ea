package server

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
)

// certificateLook is how often files are looked at for a new certificate: whoever renews it need not tell us.
const certificateLook = time.Minute

// certificate is the server's, read from its files, and again when they have changed. Its methods may be called at once.
type certificate struct {
	log *slog.Logger

	mu                sync.Mutex
	certFile, keyFile string
	pair              *tls.Certificate
	stamp             string    // of the files that pair was read from, or could not be
	lookedAt          time.Time // by the monotonic clock
}

// readCertificate reads a certificate and its key from files. Its errors begin with the names of the settings for them.
func readCertificate(certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	c := &certificate{log: log}
	return c, c.use(certFile, keyFile)
}

// use reads the certificate from two files, which take the place of those before. If they cannot be read all stays as it was.
func (c *certificate) use(certFile, keyFile string) error {
	stamp := stampOf(certFile, keyFile)
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return fmt.Errorf("http.tls_cert_file, http.tls_key_file: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.certFile, c.keyFile, c.pair, c.stamp, c.lookedAt = certFile, keyFile, &pair, stamp, time.Now()
	return nil
}

// stampOf changes when one of the files does.
func stampOf(paths ...string) string {
	var stamp strings.Builder
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			stamp.WriteString("none;")
			continue
		}
		stamp.WriteString(fmt.Sprint(info.ModTime().UnixNano(), " ", info.Size(), ";"))
	}
	return stamp.String()
}

// get is a tls.Config's GetCertificate. Where new files cannot be used, as while only one of the two has been replaced, the certificate
// before goes on.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.lookedAt) < certificateLook {
		return c.pair, nil
	}
	c.lookedAt = time.Now()
	stamp := stampOf(c.certFile, c.keyFile)
	if stamp == c.stamp {
		return c.pair, nil
	}
	c.stamp = stamp
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		c.log.Error("the new TLS certificate cannot be used; the one before stays", "error", err)
		return c.pair, nil
	}
	c.pair = &pair
	c.log.Info("a new TLS certificate is used", "until", pair.Leaf.NotAfter)
	return c.pair, nil
}

func (c *certificate) config() *tls.Config {
	return &tls.Config{GetCertificate: c.get, MinVersion: tls.VersionTLS12}
}

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

// certificateCheckInterval is how often the files are checked for a new certificate, so that a renewal needs no reload.
const certificateCheckInterval = time.Minute

// certificate is the server's certificate. It is reloaded when its files have changed. Its methods may be called concurrently.
type certificate struct {
	log *slog.Logger

	mu                sync.Mutex
	certFile, keyFile string
	pair              *tls.Certificate
	stamp             string    // stampOf the files at the last attempt to read them
	checkedAt         time.Time // by the monotonic clock
}

// readCertificate reads a certificate and its key from files. Its errors begin with the names of the settings for them.
func readCertificate(certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	c := &certificate{log: log}
	return c, c.use(certFile, keyFile)
}

// use reads the certificate from two files, and uses these files from then on. On an error nothing changes.
func (c *certificate) use(certFile, keyFile string) error {
	stamp := stampOf(certFile, keyFile)
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return fmt.Errorf("http.tls_cert_file, http.tls_key_file: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.certFile, c.keyFile, c.pair, c.stamp, c.checkedAt = certFile, keyFile, &pair, stamp, time.Now()
	return nil
}

// stampOf returns a text that changes when one of the files changes.
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

// get is the GetCertificate of a tls.Config. If new files cannot be used, for example because only one of the two has been replaced yet,
// the previous certificate stays in use.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.checkedAt) < certificateCheckInterval {
		return c.pair, nil
	}
	c.checkedAt = time.Now()
	stamp := stampOf(c.certFile, c.keyFile)
	if stamp == c.stamp {
		return c.pair, nil
	}
	c.stamp = stamp
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		c.log.Error("the new TLS certificate cannot be used; the previous one stays in use", "error", err)
		return c.pair, nil
	}
	c.pair = &pair
	c.log.Info("a new TLS certificate is used", "until", pair.Leaf.NotAfter)
	return c.pair, nil
}

func (c *certificate) config() *tls.Config {
	return &tls.Config{GetCertificate: c.get, MinVersion: tls.VersionTLS12}
}

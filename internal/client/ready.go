package client

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// readyTimeout bounds Ready: a little more than /readyz itself waits for the database.
const readyTimeout = 8 * time.Second

// Certificates says which certificates of a server are accepted.
type Certificates bool

// The certificates that Ready accepts.
const (
	TrustedCertificates Certificates = false
	AnyCertificate      Certificates = true
)

// Ready returns nil if the server at base is ready, else the reason why not. It sends no secret.
func Ready(ctx context.Context, base *url.URL, accept Certificates) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	address := base.JoinPath("readyz").String()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: accept == AnyCertificate}, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("%s: no answer within %v", address, readyTimeout)
		}
		return err // it names the URL
	}
	defer resp.Body.Close()
	var answer struct{ Status, Detail any } // of a problem, status is a number
	json.NewDecoder(io.LimitReader(bodyOf(resp), 4096)).Decode(&answer)
	if resp.StatusCode == http.StatusOK && answer.Status == "ready" {
		return nil
	}
	detail, ok := answer.Detail.(string)
	if !ok {
		detail = "not an answer of hookbolt"
	}
	return fmt.Errorf("%s: %d: %q", address, resp.StatusCode, detail)
}

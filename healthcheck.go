package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"hookbolt/httpapi"
)

// healthcheckTimeout is how long a health check takes at most: a little more than /readyz itself waits for the database.
const healthcheckTimeout = 8 * time.Second

// healthcheck is the command that asks a server whether it is ready: for Docker, whose image has nothing else to ask with, and scripts.
func healthcheck(ctx context.Context, args []string, stdout, _ io.Writer) error {
	fs := flag.NewFlagSet("healthcheck", flag.ContinueOnError)
	path, _ := settingsFlags(fs)
	address := fs.String("url", "", "ask the server at `URL`, such as https://hooks.example.com, and not the one that the settings tell of")
	if err := parseFlags(fs, args, stdout, "Asks the server on this machine, which is found by the same settings, whether it is ready: /readyz.\n"+
		"Prints a line, and exits with 0 if it is and 1 if it is not, within 8 seconds."); err != nil {
		return err
	}
	base := *address
	if base == "" {
		settings := &loader{path: *path, environ: os.Environ()}
		cfg, _, err := settings.load()
		if err != nil {
			return err
		}
		base = cfg.HTTP.localURL()
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return usageError{fmt.Errorf("healthcheck: -url must begin with http:// or https:// and name a host (got %q)", base)}
	}
	ctx, cancel := context.WithTimeout(ctx, healthcheckTimeout)
	defer cancel()
	// The certificate of a server on this machine is made out to the name that others call it by. Nothing secret is sent to it.
	own := *address == "" || httpapi.IsLoopbackHost(u.Host)
	if err := askReady(ctx, u.JoinPath("readyz").String(), own); err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	_, err = fmt.Fprintln(stdout, "ready")
	return err
}

// localURL is where a server with these settings is reached from its own machine.
func (c *HTTPConfig) localURL() string {
	scheme := "http"
	if c.TLSCertFile != "" {
		scheme = "https"
	}
	host, port, _ := net.SplitHostPort(c.Listen) // Validate has seen it
	switch host {
	case "", "0.0.0.0": // all addresses of the machine
		host = "127.0.0.1"
	case "::": // the same
		host = "::1"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// askReady returns nil if a server says that it is ready, else what is in the way. anyCertificate lets it have any.
func askReady(ctx context.Context, url string, anyCertificate bool) error {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: anyCertificate}, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("%s: no answer within %v", url, healthcheckTimeout)
		}
		return err // it names the URL
	}
	defer resp.Body.Close()
	var answer struct{ Status, Detail any } // of a problem, status is a number
	json.NewDecoder(io.LimitReader(resp.Body, 4096)).Decode(&answer)
	if resp.StatusCode == http.StatusOK && answer.Status == "ready" {
		return nil
	}
	detail, ok := answer.Detail.(string)
	if !ok {
		detail = "not an answer of hookbolt"
	}
	return fmt.Errorf("%s: %d: %q", url, resp.StatusCode, detail)
}

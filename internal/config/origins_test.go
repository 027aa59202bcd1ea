package config

import (
	"strings"
	"testing"
)

func TestOrigins(t *testing.T) {
	for _, good := range [][]string{nil, {"*"}, {"https://quiz.example.com"}, {"http://localhost:3000", "https://xn--bcher-kva.example", "http://127.0.0.1", "https://[::1]:8443"}} {
		if err := checkOrigins(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	const first = "https://quiz.example.com"
	for bad, want := range map[string]string{
		"":                              "must begin with https:// or http:// and a host",
		"quiz.example.com":              "must begin with https:// or http:// and a host",
		"//quiz.example.com":            "must begin with https:// or http:// and a host",
		"ftp://quiz.example.com":        "must begin with https:// or http:// and a host",
		"https://":                      "must begin with https:// or http:// and a host",
		"https://:8443":                 "must begin with https:// or http:// and a host",
		"https://a:b":                   "must begin with https:// or http:// and a host",
		"https://a.example/":            "must end after the host and its port: no user, no path, not even a slash",
		"https://a.example/quiz":        "must end after the host and its port: no user, no path, not even a slash",
		"https://a.example?":            "must end after the host and its port: no user, no path, not even a slash",
		"https://a.example#top":         "must end after the host and its port: no user, no path, not even a slash",
		"https://me@a.example":          "must end after the host and its port: no user, no path, not even a slash",
		"https://A.example":             "must be in lower case",
		"HTTPS://a.example":             "must be in lower case",
		"https://a.example:443":         "must leave out the port, as browsers do with the scheme's own",
		"http://a.example:80":           "must leave out the port, as browsers do with the scheme's own",
		"https://a.example:":            "must leave out the port, as browsers do with the scheme's own",
		"https://bücher.example":        `has characters that no browser sends: an international name is written as browsers do, "xn--…"`,
		"https://a.example https://b.c": `has characters that no browser sends: an international name is written as browsers do, "xn--…"`,
		"https://*.example.com":         `has a "*", but only whole origins are compared: list each one`,
		"*":                             "stands for all origins, so it must stand alone",
		"null":                          `is what pages without an origin send, so it would be all of them: only "*" lets them in`,
		first:                           "is there twice",
	} {
		err := checkOrigins([]string{first, bad})
		if err == nil || !strings.Contains(err.Error(), "number 2, ") || !strings.HasSuffix(err.Error(), ", "+want+")") {
			t.Errorf("%q: got %v, want %s", bad, err, want)
		}
	}
}

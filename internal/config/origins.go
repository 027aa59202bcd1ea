package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// anyOrigin stands for all origins.
const anyOrigin = "*"

// checkOrigins returns an error unless each item is an origin as browsers write it, such as https://quiz.example.com, or "*" is the only
// item. The error says which item is wrong, and why.
func checkOrigins(origins []string) error {
	for i, origin := range origins {
		wrong := func(detail string) error {
			return fmt.Errorf(`must be origins such as "https://quiz.example.com" or "http://localhost:3000" (number %d, %.100q, %s)`, i+1, origin, detail)
		}
		if origin == anyOrigin {
			if len(origins) > 1 {
				return wrong("stands for all origins, so it must stand alone")
			}
			return nil
		}
		if detail := originTrouble(origin); detail != "" {
			return wrong(detail)
		}
		if slices.Contains(origins[:i], origin) {
			return wrong("is there twice")
		}
	}
	return nil
}

// originTrouble says why no browser would send this origin; "" if browsers may send it.
func originTrouble(origin string) string {
	u, err := url.Parse(origin)
	switch {
	case origin == "null":
		return `is what pages without an origin send, so it would be all of them: only "*" lets them in`
	case strings.ContainsFunc(origin, func(r rune) bool { return r <= ' ' || r > '~' }):
		return `has characters that no browser sends: an international name is written as browsers do, "xn--…"`
	case origin != strings.ToLower(origin):
		return "must be in lower case"
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return "must begin with https:// or http:// and a host"
	case strings.Contains(u.Host, anyOrigin):
		return `has a "*", but only whole origins are compared: list each one`
	case u.Scheme == "https" && u.Port() == "443" || u.Scheme == "http" && u.Port() == "80" || strings.HasSuffix(u.Host, ":"):
		return "must leave out the port, as browsers do with the scheme's own"
	case origin != u.Scheme+"://"+u.Host:
		return "must end after the host and its port: no user, no path, not even a slash"
	}
	return ""
}

package send

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"hookbolt/engine/jsonread"

	"golang.org/x/net/idna"
)

// MaxURLBytes is how long a URL may be.
const MaxURLBytes = 2048

// CheckURL returns what is wrong with an endpoint's URL. Names are not looked up.
func CheckURL(raw string) error {
	if len(raw) > MaxURLBytes {
		return fmt.Errorf("must have at most %d bytes (got %d)", MaxURLBytes, len(raw))
	}
	u, err := url.Parse(raw)
	if err != nil || raw == "" {
		return fmt.Errorf("must be an http or https URL, such as https://example.com/hook")
	}
	host, err := asciiHost(u.Hostname())
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("must be an http or https URL, such as https://example.com/hook (got scheme %q)", jsonread.Excerpt(u.Scheme))
	case err != nil:
		return fmt.Errorf("must name a host that can be looked up (got %q: %s)", jsonread.Excerpt(u.Hostname()), jsonread.Excerpt(err.Error()))
	case host == "":
		return fmt.Errorf("must name a host, as in https://example.com/hook")
	case endsInNumber(host) && !isAddress(host):
		return fmt.Errorf("must write an IPv4 address as four decimal numbers, as in http://192.0.2.1/ (got host %q)", jsonread.Excerpt(host))
	case !portFits(u.Port()):
		return fmt.Errorf("port must be 1 to 65535 (got %s)", jsonread.Excerpt(u.Port()))
	case u.User != nil:
		return fmt.Errorf("must not hold a user name or password")
	case u.Fragment != "":
		return fmt.Errorf("must not have a fragment: it would never be sent")
	}
	return nil
}

// portFits reports whether a URL's port can be connected to; "" means the scheme's default.
func portFits(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && n > 0
}

// asciiHost returns a URL's host as net/http dials it, but in lower case and without the dot of the root. The error says why no
// resolver would find it. An ASCII host does not go through IDNA, which refuses the underscores of names in local networks.
func asciiHost(host string) (string, error) {
	if strings.ContainsFunc(host, func(r rune) bool { return r >= utf8.RuneSelf }) {
		var err error
		if host, err = idna.Lookup.ToASCII(host); err != nil {
			return "", errors.New(strings.TrimPrefix(err.Error(), "idna: "))
		}
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	valid := "abcdefghijklmnopqrstuvwxyz0123456789-_."
	if isAddress(host) {
		valid += ":%" // IPv6 and its zone
	}
	if rest := strings.Trim(host, valid); rest != "" {
		return "", fmt.Errorf("disallowed character %q", rest[0])
	}
	return host, nil
}

// endsInNumber reports whether a host is meant as an IPv4 address, as the URL standard defines it: its last label is a number. Some
// resolvers read 127.1, 0177.0.0.1, 2130706433 and 0x7f.1 as the address 127.0.0.1; others look a name up.
func endsInNumber(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	if hex, ok := strings.CutPrefix(last, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return last != "" && strings.Trim(last, "0123456789") == ""
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// urlHost returns the host of a URL that CheckURL has passed.
func urlHost(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	host, err := asciiHost(u.Hostname())
	if err != nil {
		return ""
	}
	return host
}

// literalAddress returns the address of a URL's host that needs no lookup: an IP address, or localhost.
func literalAddress(raw string) (netip.Addr, bool) {
	host := urlHost(raw)
	if host == "localhost" || strings.HasSuffix(host, ".localhost") { // RFC 6761, section 6.3
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), true
	}
	addr, err := netip.ParseAddr(host)
	return addr, err == nil
}

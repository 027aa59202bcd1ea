package send

import (
	"cmp"
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

// CanonicalURL returns an endpoint's URL in the form in which it is stored, shown, checked and sent, or what is wrong with it. Names are
// not looked up. The scheme and the host are in lower case, a name in other letters is in Punycode, an IP address is in its usual form, and
// what RFC 3986 does not allow in a path or a query is percent-encoded. What is encoded already stays as it is.
func CanonicalURL(raw string) (string, error) {
	if len(raw) > MaxURLBytes {
		return "", fmt.Errorf("must have at most %d bytes (got %d)", MaxURLBytes, len(raw))
	}
	if err := checkRawURL(raw); err != nil {
		return "", err
	}
	u, err := url.Parse(raw)
	if err != nil {
		return "", errors.New("must be an http or https URL, such as https://example.com/hook") // err quotes parts of the URL
	}
	if err := checkURL(u); err != nil {
		return "", err
	}
	canonical := canonicalURL(u, raw)
	if len(canonical) > MaxURLBytes {
		return "", fmt.Errorf("must have at most %d bytes once its characters are encoded (got %d)", MaxURLBytes, len(canonical))
	}
	return urlNameEncoded.ReplaceAllString(canonical, "{$1}"), nil // a name is shown as it is written; see URLNames
}

// checkURL returns what is wrong with the parts of a URL but for its path and query.
func checkURL(u *url.URL) error {
	host, _, err := asciiHost(u.Hostname())
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
	}
	return nil
}

// unreserved are the characters that stand for themselves anywhere in a URL (RFC 3986, section 2.3).
const unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"

// canonicalURL returns the canonical form of a URL that checkURL has passed. It is idempotent. It does not use url.URL.EscapedPath, which
// decodes the whole path where one character has to be encoded: %2F would become a slash.
func canonicalURL(u *url.URL, raw string) string {
	raw, _, _ = strings.Cut(raw, "#")
	rest, query, hasQuery := strings.Cut(raw, "?")
	_, rest, _ = strings.Cut(rest, "//")
	path := ""
	if at := strings.IndexByte(rest, '/'); at >= 0 {
		path = rest[at:]
	}
	const pchar = unreserved + "!$&'()*+,;=:@" + "%" // RFC 3986, section 3.3
	canonical := u.Scheme + "://" + canonicalHost(u) + encodeAllBut(path, pchar+"/")
	if hasQuery {
		canonical += "?" + encodeAllBut(query, pchar+"/?")
	}
	return canonical
}

// canonicalHost returns the host of a URL that checkURL has passed, with its port if there is one. A name keeps the dot of the root, which
// keeps resolvers from looking in other domains.
func canonicalHost(u *url.URL) string {
	host, rooted, _ := asciiHost(u.Hostname())
	if addr, err := netip.ParseAddr(host); err == nil {
		host = addr.String()
		if addr.Is6() {
			host = "[" + strings.Replace(host, "%", "%25", 1) + "]"
		}
	} else if rooted {
		host += "."
	}
	if port, err := strconv.ParseUint(u.Port(), 10, 16); u.Port() != "" && err == nil {
		host += ":" + strconv.FormatUint(port, 10)
	}
	return host
}

// encodeAllBut percent-encodes the bytes of a text that are not among those.
func encodeAllBut(text, those string) string {
	if strings.Trim(text, those) == "" {
		return text
	}
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; strings.IndexByte(those, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// wireURL returns the URL to send to, of one that was stored: an older hookbolt stored URLs as they were given.
func wireURL(stored string) (*url.URL, error) {
	u, err := url.Parse(stored)
	if err == nil {
		err = checkURL(u)
	}
	if err == nil {
		if canonical := canonicalURL(u, stored); canonical != stored {
			u, err = url.Parse(canonical)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: the URL cannot be parsed", errNotMade) // err quotes parts of the URL
	}
	return u, nil
}

// SameHost reports whether two URLs that CanonicalURL has passed lead to the same server: the same scheme, host and port. A change from
// http to https on their usual ports leads to the same server as well.
func SameHost(a, b string) bool {
	from, errA := url.Parse(a)
	to, errB := url.Parse(b)
	if errA != nil || errB != nil {
		return false
	}
	hostA, portA := server(from)
	hostB, portB := server(to)
	upgrade := from.Scheme == "http" && portA == "80" && to.Scheme == "https" && portB == "443"
	return hostA == hostB && (from.Scheme == to.Scheme && portA == portB || upgrade)
}

// server returns the canonical host of a URL without its port, and the port that is connected to.
func server(u *url.URL) (host, port string) {
	host = canonicalHost(&url.URL{Host: strings.TrimSuffix(u.Host, ":"+u.Port())})
	return host, cmp.Or(strings.TrimLeft(u.Port(), "0"), map[string]string{"http": "80", "https": "443"}[u.Scheme])
}

// portFits reports whether a URL's port can be connected to; "" means the scheme's default.
func portFits(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && n > 0
}

// asciiHost returns a URL's host as net/http dials it, but in lower case and without the dot of the root; rooted reports whether it had one.
// The error says why no resolver would find it. An ASCII host does not go through IDNA, which refuses the underscores of names in local
// networks.
func asciiHost(host string) (ascii string, rooted bool, err error) {
	if !utf8.ValidString(host) {
		return "", false, errors.New("not UTF-8") // IDNA would take it for another name
	}
	if strings.ContainsFunc(host, func(r rune) bool { return r >= utf8.RuneSelf }) {
		if host, err = idna.Lookup.ToASCII(host); err != nil {
			return "", false, errors.New(strings.TrimPrefix(err.Error(), "idna: "))
		}
	}
	host, rooted = strings.CutSuffix(strings.ToLower(host), ".")
	valid := "abcdefghijklmnopqrstuvwxyz0123456789-_."
	if isAddress(host) {
		valid += ":%" // IPv6 and its zone
	}
	if rest := strings.Trim(host, valid); rest != "" {
		return "", false, fmt.Errorf("disallowed character %q", rest[0])
	}
	return host, rooted, nil
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

// urlHost returns the host of a URL that CanonicalURL has passed.
func urlHost(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	host, _, err := asciiHost(u.Hostname())
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

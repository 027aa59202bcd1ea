package send

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"hookbolt/engine/jsonread"
)

// The longest label and the longest name that DNS has, in bytes (RFC 1035, section 2.3.4; the name without the dot of the root).
const (
	maxLabelBytes = 63
	maxNameBytes  = 253
)

// checkRawURL returns what is wrong with the text of a URL. It comes before url.Parse, whose one error for many mistakes helps nobody. Its
// errors quote nothing of the path, the query or a user name: they may hold a credential.
func checkRawURL(raw string) error {
	if raw == "" {
		return errors.New(`must be an http or https URL, such as https://example.com/hook (got "")`)
	}
	if err := checkCharacters(raw); err != nil {
		return err
	}
	if err := checkScheme(raw); err != nil {
		return err
	}
	_, rest, _ := strings.Cut(raw, "://")
	authority, after := rest, ""
	if at := strings.IndexAny(rest, "/?#"); at >= 0 {
		authority, after = rest[:at], rest[at:]
	}
	if err := checkAuthority(authority); err != nil {
		return err
	}
	return checkTarget(after)
}

// checkCharacters refuses what cannot be seen, because people cannot find it: it comes along when a URL is copied. A space within the path
// is seen, and is encoded.
func checkCharacters(raw string) error {
	if err := CheckEnds(raw); err != nil {
		return err
	}
	target := len(raw) // where the path or the query begins
	if host := strings.Index(raw, "://") + len("://"); host >= len("://") {
		if at := strings.IndexAny(raw[host:], "/?#"); at >= 0 {
			target = host + at
		}
	}
	for i, r := range raw {
		switch name := invisible(r); {
		case name == "":
		case i < target:
			return fmt.Errorf("must not hold %s: remove it", name)
		default:
			return fmt.Errorf("must not hold %s: remove it, or write %s if it is meant", name, url.PathEscape(string(r)))
		}
	}
	return nil
}

// CheckEnds refuses a text that begins or ends with a space or with what cannot be seen. The error does not repeat the text.
func CheckEnds(text string) error {
	if strings.HasPrefix(text, " ") || strings.HasSuffix(text, " ") {
		return errors.New("must not begin or end with a space: remove it")
	}
	first, _ := utf8.DecodeRuneInString(text)
	last, _ := utf8.DecodeLastRuneInString(text)
	if name := cmp.Or(invisible(first), invisible(last)); name != "" {
		return fmt.Errorf("must not begin or end with %s: remove it", name)
	}
	return nil
}

// invisible returns the name of a character that cannot be seen or told from a space, "" for any other and for the space itself.
func invisible(r rune) string {
	switch r {
	case ' ', utf8.RuneError: // bytes that are no text are not this check's
		return ""
	case '\n', '\r':
		return "a line break"
	case '\t':
		return "a tab"
	case 0xa0, 0x202f:
		return fmt.Sprintf("a no-break space (%U)", r)
	case 0x200b:
		return "a zero-width space (U+200B)"
	case 0xfeff:
		return "a byte order mark (U+FEFF)"
	}
	switch {
	case unicode.IsControl(r):
		return fmt.Sprintf("a control character (%U)", r)
	case unicode.Is(unicode.Cf, r):
		return fmt.Sprintf("an invisible character (%U)", r)
	case unicode.IsSpace(r) || unicode.Is(unicode.Z, r):
		return fmt.Sprintf("an unusual space (%U)", r)
	}
	return ""
}

// checkScheme refuses a URL that does not begin with http:// or https://, once.
func checkScheme(raw string) error {
	const example = "as in https://example.com/hook"
	before, rest, hasColon := strings.Cut(raw, ":")
	switch scheme := strings.ToLower(before); {
	case strings.HasPrefix(raw, "//"):
		return errors.New("must be an http or https URL: write https: in front of the //, " + example)
	case hasColon && (scheme == "http" || scheme == "https") && !strings.HasPrefix(rest, "//"):
		return fmt.Errorf("must have // after %s:, %s", scheme, example)
	case hasColon && (scheme == "http" || scheme == "https"):
		if again := strings.ToLower(rest); strings.HasPrefix(again, "//http:/") || strings.HasPrefix(again, "//https:/") {
			return errors.New("must have its scheme once, " + example)
		}
		return nil
	case hasColon && isScheme(scheme, rest):
		return fmt.Errorf("must be an http or https URL, such as https://example.com/hook (got scheme %q)", jsonread.Excerpt(scheme))
	}
	return errors.New("must be an http or https URL: write https:// in front, " + example)
}

// isScheme tells a scheme from a host, in front of a port, and from a user name, in front of a password.
func isScheme(before, after string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyz"
	if before == "" || strings.Trim(before, letters+"0123456789+-") != "" || !strings.Contains(letters, before[:1]) || strings.Contains(after, "@") {
		return false
	}
	port, _, _ := strings.Cut(after, "/")
	return port == "" || strings.Trim(port, "0123456789") != ""
}

// checkAuthority returns what is wrong with what stands between the scheme and the path.
func checkAuthority(authority string) error {
	switch {
	case strings.Contains(authority, `\`):
		return errors.New(`must not have a \ before its path: write / where it is meant`)
	case strings.Contains(authority, "@"):
		return errors.New("must not hold a user name or password: credentials are set apart from the URL")
	}
	host, port, hasPort := strings.Cut(authority, ":")
	if strings.ContainsAny(authority, "[]") || strings.Contains(port, ":") {
		var err error
		if port, hasPort, err = cutAddress(authority); err != nil {
			return err
		}
	} else if err := checkHost(host); err != nil {
		return err
	}
	switch {
	case !hasPort || port == "":
		return nil
	case strings.Trim(port, "0123456789") != "":
		return errors.New("port must be a number, 1 to 65535, as in https://example.com:8443/hook")
	case !portFits(port):
		return fmt.Errorf("port must be 1 to 65535 (got %s)", jsonread.Excerpt(port))
	}
	return nil
}

// cutAddress returns the port behind an IPv6 address in brackets, or what is wrong with the address.
func cutAddress(authority string) (port string, hasPort bool, err error) {
	inner, after, closed := strings.Cut(strings.TrimPrefix(authority, "["), "]")
	if strings.Contains(inner, "%") {
		return "", false, errors.New("must not have a zone in its IPv6 address: it means something on one machine only. Write the address without the % and what follows it, or a name")
	}
	port, hasPort = strings.CutPrefix(after, ":")
	addr, notAddr := netip.ParseAddr(inner)
	if authority[0] != '[' || !closed || notAddr != nil || !addr.Is6() || after != "" && !hasPort || strings.ContainsAny(port, "[]:") {
		return "", false, errors.New("must have an IPv6 address, and nothing else, in brackets, as in http://[2001:db8::1]:8080/")
	}
	return port, hasPort, nil
}

// checkHost returns what is wrong with the form of a host that is not in brackets. What is wrong with its letters, checkURL says.
func checkHost(host string) error {
	if strings.Contains(host, " ") {
		return errors.New("must not hold a space in its host: remove it")
	}
	if strings.Contains(host, "%") {
		u, err := url.Parse("http://" + host) // it accepts other letters in escapes
		if err != nil {
			return errors.New("must write its host as it is, without escapes such as %41")
		}
		host = u.Host
	}
	ascii, _, err := asciiHost(host)
	if err != nil || ascii == "" || isAddress(ascii) {
		return nil
	}
	if len(ascii) > maxNameBytes {
		return fmt.Errorf("must name a host with at most %d bytes (got %d)", maxNameBytes, len(ascii))
	}
	for label := range strings.SplitSeq(ascii, ".") {
		switch {
		case label == "":
			return errors.New("must name a host without empty parts: remove the dot that is too many")
		case len(label) > maxLabelBytes:
			return fmt.Errorf("must name a host of which each part between dots has at most %d bytes (got %d)", maxLabelBytes, len(label))
		}
	}
	return nil
}

// checkTarget returns what is wrong with a URL's path, query and fragment.
func checkTarget(target string) error {
	path, _, _ := strings.Cut(target, "?")
	switch _, err := url.PathUnescape(target); {
	case strings.Contains(target, "#"):
		return errors.New("must not have a fragment: it would never be sent. Remove the # and what follows it, or write %23 if a # is meant")
	case strings.Contains(path, `\`):
		return errors.New(`must not have a \ in its path, which some readers take for a /; write %5C if it is meant`)
	case err != nil:
		return errors.New("must write % as %25 where it begins no escape such as %20")
	}
	return nil
}

package send

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// A URL may have names in its path and query, such as {id}, in whose place each message has a value of its own. Its host has none: a visitor must
// not choose where a message is sent.

// urlName matches a name with its braces.
var urlName = regexp.MustCompile(`\{([A-Za-z0-9_]+)\}`)

// urlNameEncoded matches a name as canonicalURL writes it.
var urlNameEncoded = regexp.MustCompile(`%7B([A-Za-z0-9_]+)%7D`)

// URLNames returns the names in the path and the query of a URL that CanonicalURL has passed, without their braces, each once.
func URLNames(raw string) (names []string) {
	for _, m := range urlName.FindAllStringSubmatch(raw, -1) {
		if !slices.Contains(names, m[1]) {
			names = append(names, m[1])
		}
	}
	return names
}

// FillURL puts values in the place of the names in a URL, percent-encoded. The error quotes no value.
func FillURL(raw string, values map[string]string) (string, error) {
	path, query, hasQuery := strings.Cut(raw, "?")
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		filled, err := fill(segment, values)
		switch {
		case err != nil:
			return "", err
		case filled == segment:
		case filled == "":
			return "", fmt.Errorf("%s is empty, so the URL would name another resource; filter such sessions out", segment)
		case filled == "." || filled == "..": // servers and proxies resolve it
			return "", fmt.Errorf("%s is %q, which is no name of a resource in a path", segment, filled)
		}
		segments[i] = filled
	}
	raw = strings.Join(segments, "/")
	if hasQuery {
		filled, err := fill(query, values)
		if err != nil {
			return "", err
		}
		raw += "?" + filled
	}
	if len(raw) > MaxURLBytes {
		return "", fmt.Errorf("the URL has %d bytes with its values; at most %d are allowed", len(raw), MaxURLBytes)
	}
	return raw, nil
}

// fill puts values into a part of a URL.
func fill(part string, values map[string]string) (filled string, err error) {
	filled = urlName.ReplaceAllStringFunc(part, func(match string) string {
		name := strings.Trim(match, "{}")
		value, ok := values[name]
		if !ok && err == nil {
			err = fmt.Errorf("there is no value for {%s}, which is in the URL", name)
		}
		return encodeAllBut(value, unreserved)
	})
	return filled, err
}

// URLValues are values for the names in a URL, as a query string in the order of the names; "" for none. Unlike a map they can be compared.
type URLValues string

// NewURLValues returns the values of a map.
func NewURLValues(values map[string]string) URLValues {
	list := make(url.Values, len(values))
	for name, value := range values {
		list.Set(name, value)
	}
	return URLValues(list.Encode())
}

// Map returns the values by name; nil if there are none.
func (v URLValues) Map() map[string]string {
	list, err := url.ParseQuery(string(v))
	if err != nil || len(list) == 0 { // it is always one that NewURLValues has made
		return nil
	}
	values := make(map[string]string, len(list))
	for name := range list {
		values[name] = list.Get(name)
	}
	return values
}

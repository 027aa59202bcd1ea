package send

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"html"
	"iter"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// minRedacted is the shortest text that is replaced: shorter ones are no secret, and occur everywhere.
	minRedacted = 4
	// minAnywhere is the shortest text that is replaced also within a word: shorter ones may be words.
	minAnywhere = 12
	redacted    = "[redacted]"
)

// credentials returns all texts of an attempt that must not be kept, longest first: an endpoint may answer with what it was sent.
// authorization is as in setCredentials.
func (r *Request) credentials(authorization string) []string {
	if r.BasicAuth != nil {
		authorization = r.BasicAuth.authorization()
	}
	list := []string{authorization}
	for name, header := range r.Headers {
		if !header.isSecret(name) {
			continue
		}
		list = append(list, string(header.Value))
		if name == "Cookie" {
			list = append(list, cookieValues(string(header.Value))...)
		}
	}
	for _, value := range list {
		scheme, rest, ok := strings.Cut(value, " ") // of "Bearer …"
		if ok {
			list = append(list, rest)
		}
		if plain, err := base64.StdEncoding.DecodeString(rest); err == nil && strings.EqualFold(scheme, "Basic") {
			username, password, _ := strings.Cut(string(plain), ":")
			list = append(list, username, password)
		}
	}
	for _, value := range list {
		list = append(list, spellings(value)...)
	}
	list = slices.DeleteFunc(list, func(s string) bool { return len(s) < minRedacted })
	slices.SortFunc(list, func(a, b string) int { return cmp.Or(len(b)-len(a), cmp.Compare(a, b)) })
	return slices.Compact(list)
}

// cookieValues returns the values of the header Cookie, which an endpoint may repeat one by one.
func cookieValues(header string) (values []string) {
	for cookie := range strings.SplitSeq(header, ";") {
		_, value, _ := strings.Cut(cookie, "=")
		values = append(values, strings.TrimSpace(value))
	}
	return values
}

// spellings returns other forms in which an endpoint may write what it was sent: in JSON, with slashes escaped or not, in a URL, in HTML.
func spellings(value string) []string {
	var inJSON bytes.Buffer
	enc := json.NewEncoder(&inJSON)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(value) // a string can always be encoded
	plain := strings.Trim(strings.TrimSuffix(inJSON.String(), "\n"), `"`)
	ascii := strings.Trim(strconv.QuoteToASCII(value), `"`)
	escaped, _ := json.Marshal(value)
	list := []string{plain, ascii, strings.Trim(string(escaped), `"`), url.QueryEscape(value), url.PathEscape(value), html.EscapeString(value)}
	for _, s := range list[:3] {
		list = append(list, strings.ReplaceAll(s, "/", `\/`))
	}
	return list
}

// redactName replaces the name of a header field that holds a credential. Case does not count: net/http has changed it.
func redactName(name string, credentials []string) string {
	lower := []byte(strings.ToLower(name))
	for _, s := range credentials {
		for range occurrences(lower, strings.ToLower(s)) {
			return redacted
		}
	}
	return name
}

// occurrences are the places in a text where a credential stands. A long one counts anywhere; a short one, which may be a word, only where
// it is not a part of another word: "test" does not occur in "latest".
func occurrences(text []byte, credential string) iter.Seq[int] {
	return func(yield func(int) bool) {
		for from := 0; ; from++ {
			at := bytes.Index(text[from:], []byte(credential))
			if at < 0 {
				return
			}
			from += at
			if (len(credential) >= minAnywhere || beginsWord(text, from) && endsWord(text, from+len(credential))) && !yield(from) {
				return
			}
		}
	}
}

// escape matches the escapes at the end of which a word begins, although they end with a letter or a digit: those of URLs and of JSON.
var escape = regexp.MustCompile(`(%[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2}|\\[abfnrtv0])$`)

// beginsWord reports whether what stands at a place in a text is no continuation of a word.
func beginsWord(text []byte, at int) bool {
	before, _ := utf8.DecodeLastRune(text[:at])
	first, _ := utf8.DecodeRune(text[at:])
	return !isWord(before) || !isWord(first) || escape.Match(text[max(0, at-6):at]) // the longest is \u0022
}

// endsWord reports whether what ends at a place in a text does not go on as a word.
func endsWord(text []byte, at int) bool {
	last, _ := utf8.DecodeLastRune(text[:at])
	after, _ := utf8.DecodeRune(text[at:])
	return !isWord(last) || !isWord(after)
}

// isWord reports whether a character is part of words. Others, also "_" and "-", stand between them.
func isWord(r rune) bool {
	return r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r))
}

// redact replaces credentials in a text. Credentials that overlap are replaced together. The beginning of one at the end of the text is
// replaced, too: the text may have been cut there.
func redact(text []byte, credentials []string) []byte {
	var ends []int // ends[i] is the end of the longest credential that begins at i; 0 if none does
	cover := func(from, to int) {
		if ends == nil {
			ends = make([]int, len(text))
		}
		ends[from] = max(ends[from], to)
	}
	for _, s := range credentials {
		for at := range occurrences(text, s) {
			cover(at, at+len(s))
		}
		for n := min(len(s)-1, len(text)); n >= minRedacted; n-- {
			at := len(text) - n
			if bytes.HasSuffix(text, []byte(s[:n])) && (len(s) >= minAnywhere || beginsWord(text, at)) {
				cover(at, len(text))
				break
			}
		}
	}
	if ends == nil {
		return text
	}
	return withoutCovered(text, ends)
}

// withoutCovered replaces each run of bytes that a credential covers; ends is as in redact.
func withoutCovered(text []byte, ends []int) []byte {
	var clean []byte
	covered := -1 // all bytes before it are covered
	for i, c := range text {
		if ends[i] > 0 {
			if i > covered {
				clean = append(clean, redacted...)
			}
			covered = max(covered, ends[i])
		}
		if i >= covered {
			clean = append(clean, c)
		}
	}
	return clean
}

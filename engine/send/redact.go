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
	// minAnywhere is the shortest text that is replaced also within a word, minMixed the shortest of those that are no words: letters and
	// digits, or punctuation.
	minAnywhere = 12
	minMixed    = 8
	redacted    = "[redacted]"
)

// credentials returns all texts of an attempt that must not be kept, longest first: an endpoint may answer with what it was sent.
// authorization is as in setCredentials.
func (r *Request) credentials(authorization string) []string {
	if r.BasicAuth != nil {
		authorization = r.BasicAuth.authorization()
	}
	list := r.Mail.credentials()
	if authorization != "" {
		list = append(list, authorization)
	}
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
	if r.BasicAuth != nil {
		list = append(list, string(r.BasicAuth.Password), string(r.BasicAuth.Username))
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
		for range occurrences(lower, strings.ToLower(s), nil) {
			return redacted
		}
	}
	return name
}

// occurrences are the places in a text where a credential stands. One that may be a word counts only where it is not a part of another
// word: "test" does not occur in "latest". covered are the bytes that belong to credentials which were found before; nil means none.
func occurrences(text []byte, credential string, covered []bool) iter.Seq[int] {
	anywhere := !mayBeWord(credential)
	return func(yield func(int) bool) {
		for from := 0; ; from++ {
			at := bytes.Index(text[from:], []byte(credential))
			if at < 0 {
				return
			}
			from += at
			to := from + len(credential)
			begins := anywhere || beginsWord(text, from) || covered != nil && covered[from-1]
			ends := anywhere || endsWord(text, to) || covered != nil && covered[to]
			if begins && ends && !yield(from) {
				return
			}
		}
	}
}

// mayBeWord reports whether a credential is so short, or so plain, that it may be a part of a word by chance.
func mayBeWord(credential string) bool {
	if len(credential) < minMixed {
		return true
	}
	isPlain := strings.Trim(credential, "0123456789") == "" || !strings.ContainsFunc(credential, func(r rune) bool { return !unicode.IsLetter(r) })
	return len(credential) < minAnywhere && isPlain
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

// redact replaces credentials in a text, which come longest first. Credentials that overlap are replaced together. The beginning of one at
// the end of the text is replaced, too: the text may have been cut there.
func redact(text []byte, credentials []string) []byte {
	if len(credentials) == 0 {
		return text
	}
	var covered []bool // covered[i] says that byte i belongs to a credential; nil while none does
	cover := func(from, to int) {
		if covered == nil {
			covered = make([]bool, len(text))
		}
		for i := from; i < to; i++ {
			covered[i] = true
		}
	}
	for _, s := range credentials {
		done := 0 // so far, for this credential, which may overlap itself many times
		for at := range occurrences(text, s, covered) {
			cover(max(at, done), at+len(s))
			done = at + len(s)
		}
		for n := min(len(s)-1, len(text)); n >= minRedacted; n-- {
			at := len(text) - n
			if bytes.HasSuffix(text, []byte(s[:n])) && (!mayBeWord(s) || beginsWord(text, at) || covered != nil && covered[at-1]) {
				cover(at, len(text))
				break
			}
		}
	}
	if covered == nil {
		return text
	}
	var clean []byte
	for i, c := range text {
		switch {
		case !covered[i]:
			clean = append(clean, c)
		case i == 0 || !covered[i-1]:
			clean = append(clean, redacted...)
		}
	}
	return clean
}

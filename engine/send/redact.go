package send

import (
	"bytes"
	"cmp"
	"encoding/json"
	"html"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	// minRedacted is the shortest text that is replaced: shorter ones are no secret, and occur everywhere.
	minRedacted = 4
	redacted    = "[redacted]"
)

// credentials returns all texts of an attempt that must not be kept, longest first: an endpoint may answer with what it was sent.
// authorization is as in setCredentials.
func (r *Request) credentials(authorization string) []string {
	if r.BasicAuth != nil {
		authorization = r.BasicAuth.authorization()
	}
	if authorization == "" && len(r.Headers) == 0 {
		return nil
	}
	list := []string{authorization}
	for _, value := range r.Headers {
		list = append(list, string(value))
	}
	for _, value := range list {
		if _, credentials, ok := strings.Cut(value, " "); ok { // of "Bearer …"
			list = append(list, credentials)
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
	for _, s := range credentials {
		if strings.Contains(strings.ToLower(name), strings.ToLower(s)) {
			return redacted
		}
	}
	return name
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
		for from := 0; ; from++ {
			at := bytes.Index(text[from:], []byte(s))
			if at < 0 {
				break
			}
			from += at
			cover(from, from+len(s))
		}
		for n := min(len(s)-1, len(text)); n >= minRedacted; n-- {
			if bytes.HasSuffix(text, []byte(s[:n])) {
				cover(len(text)-n, len(text))
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

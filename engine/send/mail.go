package send

import (
	"bytes"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"hookbolt/engine/jsonread"
)

// Mail is what a Request to a mail server sends, in the place of an HTTP request.
type Mail struct {
	// From is the sender, To are the recipients, as ParseMailbox accepts them.
	From string
	To   []string
	// Username and Password are those of an account at the server; "" for a server that asks for none.
	Username string
	Password Credential
	// Subject and Text may hold anything. Each line of Text is a paragraph.
	Subject, Text string
	// Date is when the message was written: the same for all attempts.
	Date time.Time
}

// mailPorts are the ports of RFC 8314, by the scheme of a URL: with "smtp" TLS begins after STARTTLS, with "smtps" at once.
var mailPorts = map[string]string{"smtp": "587", "smtps": "465"}

// IsMailURL reports whether a URL that CanonicalURL or CanonicalMailURL has passed is that of a mail server.
func IsMailURL(canonical string) bool {
	scheme, _, _ := strings.Cut(canonical, ":")
	return mailPorts[scheme] != ""
}

// CanonicalMailURL is CanonicalURL for a mail server: smtps://host:port, or smtp://host:port for one that offers STARTTLS. The result has a
// port, and no slash after it.
func CanonicalMailURL(raw string) (string, error) {
	const example = "such as smtps://mail.example.com or smtp://mail.example.com:587"
	if err := checkCharacters(raw); err != nil {
		return "", err
	}
	scheme, authority, ok := strings.Cut(raw, "://")
	scheme, authority = strings.ToLower(scheme), strings.TrimSuffix(authority, "/")
	switch {
	case !ok || mailPorts[scheme] == "":
		return "", errors.New("must be an smtp or smtps URL, " + example)
	case strings.Contains(authority, "@"):
		return "", errors.New("must not hold a user name or password: they have settings of their own")
	case strings.ContainsAny(authority, "/?#"):
		return "", errors.New("must end after the host and its port, " + example)
	case authority == "" || authority[0] == ':':
		return "", errors.New("must name a host, " + example)
	}
	canonical, err := CanonicalURL("https://" + authority)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(canonical)
	if err != nil {
		return "", err // cannot be: it is canonical
	}
	port := u.Port()
	switch {
	case port == "":
		return scheme + "://" + u.Host + ":" + mailPorts[scheme], nil
	case scheme == "smtp" && port == mailPorts["smtps"]:
		return "", errors.New("must be smtps:// with port 465, on which TLS begins at once")
	case scheme == "smtps" && (port == mailPorts["smtp"] || port == "25"):
		return "", fmt.Errorf("must be smtp:// with port %s, on which TLS begins after STARTTLS", port)
	}
	return scheme + "://" + u.Host, nil
}

// ParseMailbox reads an address, with a name or without: "alerts@example.com" or "hookbolt <alerts@example.com>". The address of the result
// is ASCII, so that each mail server takes it.
func ParseMailbox(text string) (mail.Address, error) {
	const maxAddressBytes = 254 // RFC 5321, section 4.5.3.1.3
	box, err := mail.ParseAddress(text)
	if err != nil || strings.ContainsFunc(text, unicode.IsControl) {
		return mail.Address{}, fmt.Errorf("must be an address, such as alerts@example.com or hookbolt <alerts@example.com> (got %q)", jsonread.Excerpt(text))
	}
	at := strings.LastIndexByte(box.Address, '@')
	local := box.Address[:at]
	domain, rooted, err := asciiHost(box.Address[at+1:])
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/=?^_`{|}~." // of a dot-atom: RFC 5322, section 3.2.3
	switch {
	case strings.Trim(local, allowed) != "":
		return mail.Address{}, fmt.Errorf("must have plain ASCII letters before its @ (got %q)", jsonread.Excerpt(text))
	case err != nil || rooted || domain == "" || isAddress(domain):
		return mail.Address{}, fmt.Errorf("must name a domain after its @ (got %q)", jsonread.Excerpt(text))
	}
	box.Address = local + "@" + domain
	if len(box.Address) > maxAddressBytes {
		return mail.Address{}, fmt.Errorf("must have at most %d bytes (got %d)", maxAddressBytes, len(box.Address))
	}
	return *box, nil
}

// envelope is a Mail whose addresses are parsed.
type envelope struct {
	from mail.Address
	to   []mail.Address
}

func (m *Mail) envelope() (e envelope, err error) {
	if e.from, err = ParseMailbox(m.From); err != nil {
		return e, fmt.Errorf("%w: the sender %w", errNotMade, err)
	}
	for _, text := range m.To {
		to, err := ParseMailbox(text)
		if err != nil {
			return e, fmt.Errorf("%w: a recipient %w", errNotMade, err)
		}
		e.to = append(e.to, to)
	}
	if len(e.to) == 0 {
		return e, fmt.Errorf("%w: there is no recipient", errNotMade)
	}
	return e, nil
}

// domain is that of the sender: the name by which hookbolt introduces itself. Many servers refuse "localhost" and the short name of a container,
// and the sender's domain is one that its server knows.
func (e *envelope) domain() string {
	return e.from.Address[strings.LastIndexByte(e.from.Address, '@')+1:]
}

// message writes the message of RFC 5322. It is ASCII in lines of at most 998 bytes, so that each server takes it (RFC 5321 without 8BITMIME
// and SMTPUTF8). It is the same for all attempts of a message, with the same Message-ID: who gets it twice may see it once.
func (m *Mail) message(e *envelope, id string) ([]byte, error) {
	var to []string
	for _, box := range e.to {
		to = append(to, box.String())
	}
	var b bytes.Buffer
	for _, field := range [][2]string{
		{"Date", m.Date.UTC().Format(time.RFC1123Z)},
		{"From", e.from.String()},
		{"To", strings.Join(to, ",\r\n ")},
		{"Message-ID", "<" + id + "@" + e.domain() + ">"},
		{"Subject", encodedSubject(m.Subject)},
		{"MIME-Version", "1.0"},
		{"Content-Type", "text/plain; charset=utf-8"},
		{"Content-Transfer-Encoding", "quoted-printable"},
		{"Auto-Submitted", "auto-generated"}, // RFC 3834: keeps absence notices from answering
	} {
		b.WriteString(field[0] + ": " + field[1] + "\r\n")
	}
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	if _, err := w.Write([]byte(strings.ReplaceAll(strings.ReplaceAll(m.Text, "\r", ""), "\n", "\r\n"))); err != nil {
		return nil, err
	}
	err := w.Close()
	return b.Bytes(), err
}

// encodedSubject writes a text of any length and with any characters as the value of a header field.
func encodedSubject(text string) string {
	const longest = 150 // characters; what is beyond is shown nowhere
	text = OneLine(text, longest)
	text = strings.ReplaceAll(text, "=?", "= ?") // it would be read as an encoded word
	return strings.ReplaceAll(mime.QEncoding.Encode("utf-8", text), "?= =?", "?=\r\n =?")
}

// OneLine returns the beginning of a text in one line: control characters, line breaks of all kinds and invisible characters, which can turn
// the direction of what follows, become spaces.
func OneLine(text string, longest int) string {
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "\ufffd"), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || slices.ContainsFunc([]*unicode.RangeTable{unicode.Zl, unicode.Zp, unicode.Cf}, func(t *unicode.RangeTable) bool { return unicode.Is(t, r) })
	}), " ")
	if utf8.RuneCountInString(text) > longest {
		text = string([]rune(text)[:longest]) + "…"
	}
	return text
}

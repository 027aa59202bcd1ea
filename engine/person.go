package engine

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Person is what a person can tell of himself. Exactly one field is set.
type Person struct {
	// Visitor is a poltio_user_id. It counts wherever it occurs: in any event of a session, and as the user_id of a lead.
	Visitor *int64
	// Email is the e-mail address of a lead, as FoldEmail returns it.
	Email string
	// Phone is the phone number of a lead, as FoldPhone returns it.
	Phone string
}

// FoldEmail returns what is compared of an e-mail address: its text in lower case, without white space and invisible characters at its ends.
// Some servers tell addresses apart by their case, but people do not: a person who asks to be forgotten writes his address as he likes.
func FoldEmail(s string) string {
	return strings.ToLower(strings.TrimFunc(s, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsGraphic(r) }))
}

// FoldPhone returns what is compared of a phone number: its digits, without 00 at the beginning, which stands for a plus. A plus is not
// compared, because many people leave it out. A "(0)" is left out where the country is named before it. "" means that there is no digit.
// Numbers are not completed: without the country's code a number is another one than with it.
func FoldPhone(s string) string {
	digits := phoneDigits(s)
	if before, after, found := strings.Cut(s, "(0)"); found {
		if country := phoneDigits(before); strings.Contains(before, "+") || strings.HasPrefix(country, "00") {
			digits = country + phoneDigits(after)
		}
	}
	for strings.HasPrefix(digits, "00") {
		digits = digits[2:]
	}
	return digits
}

// phoneDigits returns the digits of a text, as ASCII. Phones and keyboards write Arabic, Persian and wide digits, too.
func phoneDigits(s string) string {
	var b strings.Builder
	for _, r := range s {
		for _, zero := range [...]rune{'0', '\u0660', '\u06f0', '\uff10'} {
			if r >= zero && r <= zero+9 {
				b.WriteByte(byte('0' + r - zero))
			}
		}
	}
	return b.String()
}

// InEvents reports whether a person occurs in stored events: a JSON array of events as they were received. An error means that they cannot
// be read.
func (p *Person) InEvents(list []byte) (bool, error) {
	if found, sure := p.inText(list); sure {
		return found, nil
	}
	events, err := DecodeEvents(list, time.Time{})
	if err != nil {
		return false, err
	}
	for i := range events {
		if p.isVisitor(events[i].Identity.PoltioUserID) || events[i].Lead != nil && p.inLead(events[i].Lead) {
			return true, nil
		}
	}
	return false, nil
}

// InDelivery reports whether a person occurs in the body of a delivery, in its URL, or in what is told of why there is no body. body is nil then.
// An error means that the body cannot be read.
func (p *Person) InDelivery(d *Delivery, body []byte) (bool, error) {
	if d.BuildError != "" && p.inAnyText(d.BuildError) {
		return true, nil
	}
	for _, value := range d.URLValues.Map() {
		if p.inAnyText(value) {
			return true, nil
		}
	}
	if body == nil {
		return false, nil
	}
	if d.Shaped {
		return p.inShaped(d.FrozenType(), body), nil
	}
	return p.InPayload(body)
}

// InPayload reports whether a person occurs in a payload. An error means that it cannot be read.
func (p *Person) InPayload(body []byte) (bool, error) {
	if found, sure := p.inText(body); sure {
		return found, nil
	}
	var shown struct {
		PoltioUserID *int64 `json:"poltio_user_id"`
		Leads        []Lead `json:"leads"`
	}
	if err := json.Unmarshal(body, &shown); err != nil {
		return false, err
	}
	if p.isVisitor(shown.PoltioUserID) {
		return true, nil
	}
	for i := range shown.Leads {
		if p.inLead(&shown.Leads[i]) {
			return true, nil
		}
	}
	return false, nil
}

func (p *Person) isVisitor(id *int64) bool { return p.Visitor != nil && id != nil && *id == *p.Visitor }

func (p *Person) inLead(l *Lead) bool {
	switch {
	case p.Visitor != nil:
		return p.isVisitor(l.UserID)
	case p.Email != "":
		return l.Email != nil && FoldEmail(*l.Email) == p.Email
	}
	return l.Phone != nil && FoldPhone(*l.Phone) == p.Phone
}

// field returns the end of the names of the fields that a person is found by: a name with its quotation marks. "poltio_user_id" ends as
// "user_id" does.
func (p *Person) field() []byte {
	switch {
	case p.Visitor != nil:
		return fieldUserID
	case p.Email != "":
		return fieldEmail
	}
	return fieldPhone
}

var (
	fieldUserID  = []byte(`user_id"`)
	fieldEmail   = []byte(`"email"`)
	fieldPhone   = []byte(`"phone"`)
	anyEscape    = []byte(`\`)
	letterEscape = []byte(`\u`)
)

// inText looks for a person in the text of JSON without parsing it, since millions of events may be searched. sure is false if that cannot
// tell: a text with escapes may hide a quotation mark, and \u may write any letter of a name or a value. Where nothing is escaped, a name is a
// name of a field if a colon follows it, and only leads and events have these fields.
func (p *Person) inText(text []byte) (found, sure bool) {
	field := p.field()
	if !bytes.Contains(text, field) {
		return false, !bytes.Contains(text, letterEscape)
	}
	if bytes.Contains(text, anyEscape) {
		return false, false
	}
	for {
		at := bytes.Index(text, field)
		if at < 0 {
			return false, true
		}
		text = text[at+len(field):]
		rest := bytes.TrimLeft(text, " \t\r\n")
		if len(rest) == 0 || rest[0] != ':' {
			continue
		}
		switch found, sure := p.isValue(bytes.TrimLeft(rest[1:], " \t\r\n")); {
		case !sure:
			return false, false
		case found:
			return true, true
		}
	}
}

// isValue reports whether the value at the beginning of a text without escapes is the person's.
func (p *Person) isValue(text []byte) (is, sure bool) {
	if bytes.HasPrefix(text, []byte("null")) {
		return false, true
	}
	var value []byte
	quoted := len(text) > 0 && text[0] == '"'
	if quoted {
		end := bytes.IndexByte(text[1:], '"')
		if end < 0 {
			return false, false
		}
		value = text[1 : 1+end]
	} else {
		rest := bytes.TrimLeft(text, "-0123456789")
		if len(rest) > 0 && bytes.IndexByte([]byte(".eE"), rest[0]) >= 0 {
			return false, false // a whole number in another form, such as 1e3
		}
		value = text[:len(text)-len(rest)]
	}
	switch {
	case p.Visitor != nil:
		id, err := strconv.ParseInt(string(value), 10, 64)
		return id == *p.Visitor, err == nil
	case !quoted:
		return false, false
	case p.Email != "":
		return FoldEmail(string(value)) == p.Email, true
	}
	return FoldPhone(string(value)) == p.Phone, true
}

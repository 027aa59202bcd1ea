package engine

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"hookbolt/engine/transform"
)

// A body that a webhook's program has made has fields of the program's choice. So a person is looked for in all of its texts and numbers. A
// number that happens to be the visitor's counts as his: to forget too much harms nobody as much as to keep what had to be forgotten.

// inShaped reports whether a person occurs in a body that a program has made.
func (p *Person) inShaped(contentType string, body []byte) bool {
	switch transform.EncodingOf(contentType) {
	case transform.EncodingForm:
		values, err := url.ParseQuery(string(body))
		if err != nil {
			return p.inAnyText(string(body))
		}
		for _, list := range values {
			if slices.ContainsFunc(list, p.inAnyText) {
				return true
			}
		}
		return false
	case transform.EncodingJSON:
		decoder := json.NewDecoder(bytes.NewReader(body))
		decoder.UseNumber()
		for {
			token, err := decoder.Token()
			if err != nil {
				return false
			}
			switch v := token.(type) {
			case string:
				if p.inAnyText(v) {
					return true
				}
			case json.Number:
				if p.inAnyText(v.String()) {
					return true
				}
			}
		}
	}
	return p.inAnyText(string(body))
}

// phoneLike matches what may be a phone number within a text.
var phoneLike = regexp.MustCompile(`\+?[\p{Nd}(][\p{Nd} ()./\x{a0}-]{4,}`)

// inAnyText reports whether a person occurs in a text: as the whole of it, as a word of it, or as a hash of his address.
func (p *Person) inAnyText(text string) bool {
	switch {
	case p.Visitor != nil:
		return strings.TrimSpace(text) == strconv.FormatInt(*p.Visitor, 10)
	case p.Email != "":
		return containsAddress(strings.ToLower(text), p.Email) || isHashOf(text, p.Email)
	}
	if isHashOf(text, p.Phone) || isHashOf(text, "+"+p.Phone) {
		return true
	}
	for _, number := range phoneLike.FindAllString(text, -1) {
		if FoldPhone(number) == p.Phone {
			return true
		}
	}
	return false
}

// containsAddress reports whether a text contains an e-mail address, not as a part of a longer one.
func containsAddress(text, address string) bool {
	ofAddress := func(r rune) bool {
		return unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("!#$%&'*+/=?^_`{|}~-", r)
	}
	for at := 0; ; {
		found := strings.Index(text[at:], address)
		if found < 0 {
			return false
		}
		before, after := text[:at+found], text[at+found+len(address):]
		if strings.TrimRightFunc(before, ofAddress) == before && strings.TrimLeftFunc(after, ofAddress) == after && !strings.HasSuffix(before, ".") {
			return true
		}
		at += found + 1
	}
}

// isHashOf reports whether a text is the hash of a value in a form in which receivers want it.
func isHashOf(text, value string) bool {
	sum256, sum1, sum5 := sha256.Sum256([]byte(value)), sha1.Sum([]byte(value)), md5.Sum([]byte(value))
	for _, sum := range [][]byte{sum256[:], sum1[:], sum5[:]} {
		if len(text) == 2*len(sum) && strings.EqualFold(text, hex.EncodeToString(sum)) {
			return true
		}
	}
	return false
}

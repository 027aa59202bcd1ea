package transform

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The reasons why a value is no body.
var (
	errTooLarge = fmt.Errorf("the result has more than %d MiB", MaxResultBytes>>20)
	errTooDeep  = fmt.Errorf("the result has more than %d arrays or objects within each other", MaxDepth)
)

// encode writes the output of a transform as a body.
func encode(v any, encoding Encoding) ([]byte, error) {
	switch encoding {
	case EncodingForm:
		return encodeForm(v)
	case EncodingText:
		s, ok := v.(string)
		if !ok {
			return nil, fmt.Errorf("the content type wants a string, but the result is %s: end the program with | tostring, or set content_type to "+
				"application/json", kind(v))
		}
		s = strings.ToValidUTF8(s, "\uFFFD")
		if len(s) > MaxResultBytes {
			return nil, errTooLarge
		}
		return []byte(s), nil
	}
	return appendJSON(nil, v, 0)
}

// appendJSON writes a value as jq does: keys in order, NaN as null, an infinity as the largest number. Only what must be escaped is.
// It is the package's own because gojq's writes all of a value before anything can be said about its size or depth.
func appendJSON(b []byte, v any, depth int) ([]byte, error) {
	if len(b) > MaxResultBytes {
		return nil, errTooLarge
	}
	switch v := v.(type) {
	case []any:
		if depth == MaxDepth {
			return nil, errTooDeep
		}
		return appendArray(b, v, depth+1)
	case map[string]any:
		if depth == MaxDepth {
			return nil, errTooDeep
		}
		return appendObject(b, v, depth+1)
	case string:
		if b = appendString(b, v); len(b) > MaxResultBytes {
			return nil, errTooLarge
		}
		return b, nil
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, v), nil
	}
	if b = append(b, number(v)...); len(b) > MaxResultBytes {
		return nil, errTooLarge
	}
	return b, nil
}

func appendArray(b []byte, array []any, depth int) (_ []byte, err error) {
	b = append(b, '[')
	for i, v := range array {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendJSON(b, v, depth); err != nil {
			return nil, err
		}
	}
	return within(append(b, ']'))
}

func appendObject(b []byte, object map[string]any, depth int) (_ []byte, err error) {
	if len(object) > MaxResultBytes/4 { // "":0, is the least
		return nil, errTooLarge
	}
	b = append(b, '{')
	for i, key := range slices.Sorted(maps.Keys(object)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, key), ':')
		if b, err = appendJSON(b, object[key], depth); err != nil {
			return nil, err
		}
	}
	return within(append(b, '}'))
}

// within checks that a result is not too large at its end.
func within(b []byte) ([]byte, error) {
	if len(b) > MaxResultBytes {
		return nil, errTooLarge
	}
	return b, nil
}

const hexDigits = "0123456789abcdef"

// appendString writes a string, cut off where it would be too large anyway.
func appendString(b []byte, s string) []byte {
	if len(s) > MaxResultBytes {
		s = s[:MaxResultBytes]
	}
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			b = utf8.AppendRune(b, r) // U+FFFD for what is no UTF-8
			i += size
			continue
		}
		i++
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			if c < ' ' {
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xF])
			} else {
				b = append(b, c)
			}
		}
	}
	return append(b, '"')
}

// number writes a number. One that was in the payload stays as it was written there.
func number(v any) string {
	switch v := v.(type) {
	case json.Number:
		return v.String()
	case int:
		return strconv.Itoa(v)
	case *big.Int:
		if v.BitLen() > MaxResultBytes*4 { // more digits than fit, and they take long to write
			return strings.Repeat("9", MaxResultBytes+1)
		}
		return v.String()
	case float64:
		return float(v)
	}
	return "null"
}

// float writes a number as encoding/json does. JSON has neither NaN nor infinities.
func float(f float64) string {
	if math.IsNaN(f) {
		return "null"
	}
	f = min(max(f, -math.MaxFloat64), math.MaxFloat64)
	b, err := json.Marshal(f)
	if err != nil {
		return "null"
	}
	return string(b)
}

// scalar returns the text of a string, number or boolean, and whether the value is one.
func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case nil, []any, map[string]any:
		return "", false
	case string:
		return strings.ToValidUTF8(v, "\uFFFD"), true
	case bool:
		return strconv.FormatBool(v), true
	}
	return number(v), true
}

// encodeForm writes an object as application/x-www-form-urlencoded, its names in order.
func encodeForm(v any) ([]byte, error) {
	object, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("application/x-www-form-urlencoded wants an object, but the result is %s", kind(v))
	}
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(object)) {
		values, isList := object[name].([]any)
		if !isList {
			values = []any{object[name]}
		}
		for _, value := range values {
			if value == nil {
				continue
			}
			text, ok := scalar(value)
			if !ok {
				return nil, fmt.Errorf("application/x-www-form-urlencoded wants strings, numbers or booleans, or a list of them, but %q has %s: try tojson, or join",
					shorten(name, maxNameBytes), kind(value))
			}
			if len(b)+len(name)+len(text) > MaxResultBytes {
				return nil, errTooLarge
			}
			if len(b) > 0 {
				b = append(b, '&')
			}
			b = append(b, url.QueryEscape(strings.ToValidUTF8(name, "\uFFFD"))...)
			b = append(b, '=')
			b = append(b, url.QueryEscape(text)...)
		}
	}
	return within(b)
}

// urlName is what the name of a URL value may be: what can stand in braces in a URL.
var urlName = regexp.MustCompile(`^[A-Za-z0-9_]+$`)

// urlValues reads the output of url_values.
func urlValues(v any) (map[string]string, error) {
	if v == nothing {
		return nil, errors.New(`it has no output, but must give an object, such as {id: .session_id}`)
	}
	object, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("it must give an object, such as {id: .session_id}, but gave %s", kind(v))
	}
	if len(object) > MaxURLValues {
		return nil, fmt.Errorf("it gives %d values, but at most %d are allowed", len(object), MaxURLValues)
	}
	values, size := make(map[string]string, len(object)), 0
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if !urlName.MatchString(name) {
			return nil, fmt.Errorf("%q is no name for a URL value: use letters, digits and _", shorten(name, maxNameBytes))
		}
		text, ok := scalar(object[name])
		if !ok {
			return nil, fmt.Errorf("%q must be a string, a number or a boolean, but is %s", shorten(name, maxNameBytes), kind(object[name]))
		}
		if size += len(name) + len(text); size > MaxURLValueBytes {
			return nil, fmt.Errorf("the URL values have more than %d KiB together", MaxURLValueBytes>>10)
		}
		values[name] = text
	}
	return values, nil
}

// kind says what a value is, without any of its content.
func kind(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case string:
		return "a string"
	case []any:
		return "an array"
	case map[string]any:
		return "an object"
	}
	return "a number"
}

// shorten cuts a text for a message.
func shorten(s string, bytes int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= bytes {
		return s
	}
	for !utf8.RuneStart(s[bytes]) {
		bytes--
	}
	return s[:bytes] + "…"
}

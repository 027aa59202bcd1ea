package engine

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What follows reads the lenient forms of values a second time, in another way than jsonread does, so that encoding/json can read the rest.

// plainEvent returns the JSON of an event that was accepted with each value in its plain form: integers as such, texts as texts, times in UTC.
func plainEvent(event []byte) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(event))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	plain, err := plainValue("", value)
	if err != nil {
		return nil, err
	}
	return json.Marshal(plain)
}

var integerKeys = []string{"poltio_user_id", "question_id", "answer_id", "user_id", "result_id", "right_answer", "time_spent"}

var textKeys = []string{"publisher_uuid", "custom_id", "question", "answer", "parent", "addon", "phone", "email", "name", "comment", "created_at", "lead.content_type",
	"result_title", "result_image", "result_desc", "calculator_result"}

func plainValue(key string, value any) (any, error) {
	switch v := value.(type) {
	case []any:
		for i := range v {
			plain, err := plainValue("", v[i])
			if err != nil {
				return nil, err
			}
			v[i] = plain
		}
	case map[string]any:
		for name := range v {
			of := name
			if name == "content_id" && key == "lead" { // the session's is a UUID
				of = "user_id"
			}
			if name == "content_type" && key == "lead" { // the session's is one of a few words
				of = "lead.content_type"
			}
			plain, err := plainValue(of, v[name])
			if err != nil {
				return nil, err
			}
			v[name] = plain
		}
	case json.Number:
		if slices.Contains(textKeys, key) {
			return string(v), nil
		}
		if key == "tc_checked" {
			return map[json.Number]any{"1": true, "0": false}[v], nil
		}
		if slices.Contains(integerKeys, key) {
			return plainInteger(string(v), key == "time_spent")
		}
	case string:
		if number := new(json.Number); key == "time_spent" && json.Unmarshal([]byte(v), number) == nil && strings.TrimSpace(v) == v && v[0] != '"' {
			return plainInteger(v, true)
		}
		if key == "tc_checked" {
			return map[string]any{"true": true, "1": true, "on": true, "false": false, "0": false, "off": false}[v], nil
		}
		if slices.Contains(integerKeys, key) {
			n, err := strconv.ParseInt(v, 10, 64)
			if canonical := strconv.FormatInt(n, 10); err != nil || v != canonical && v != "-"+canonical {
				return nil, fmt.Errorf("%s is no integer: %q", key, v)
			}
			return n, nil
		}
		if key == "time" {
			return plainTime(v)
		}
	}
	return value, nil
}

// plainInteger returns the exact value of a number. An exponent that would take too much memory is cut: of what is accepted, the value is zero
// then, or rounds to it.
func plainInteger(number string, round bool) (*big.Int, error) {
	mantissa, exponent, ok := strings.Cut(strings.ToLower(number), "e")
	if shift, err := strconv.Atoi(exponent); ok && (err != nil || shift < -5000 || shift > 5000) {
		if strings.Trim(mantissa, "-0.") != "" && !(round && exponent[0] == '-') {
			return nil, fmt.Errorf("no integer: %s", number)
		}
		return new(big.Int), nil
	}
	exact, ok := new(big.Rat).SetString(number)
	if !ok || !round && !exact.IsInt() {
		return nil, fmt.Errorf("no integer: %s", number)
	}
	if round {
		exact.Add(exact, big.NewRat(int64(exact.Sign()), 2))
	}
	return new(big.Int).Quo(exact.Num(), exact.Denom()), nil
}

var timeForm = regexp.MustCompile(`^(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:)(\d\d)(?:\.(\d+))?(?:[Zz]|([+-]\d\d:[0-5]\d))$`)

func plainTime(text string) (time.Time, error) {
	parts := timeForm.FindStringSubmatch(text)
	if parts == nil || len(parts[5]) > 0 && parts[5][1:] > "23:59" {
		return time.Time{}, fmt.Errorf("no time: %q", text)
	}
	leap := time.Duration(0)
	if parts[3] == "60" {
		parts[3], leap = "59", time.Second
	}
	nanos := (parts[4] + strings.Repeat("0", 9))[:9]
	at, err := time.Parse(time.RFC3339, parts[1]+"T"+parts[2]+parts[3]+"."+nanos+cmp.Or(parts[5], "Z"))
	return at.Add(leap).UTC(), err
}

// anyTime is a time that encoding/json reads as plainTime does.
type anyTime struct{ time.Time }

func (t *anyTime) UnmarshalJSON(value []byte) error {
	var text *string
	err := json.Unmarshal(value, &text)
	if err == nil && text != nil {
		if t.Time, err = plainTime(*text); err == nil && t.IsZero() {
			t.Time = t.Add(1)
		}
	}
	return err
}

package engine

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestFoldEmail(t *testing.T) {
	for given, want := range map[string]string{
		"jane@example.com": "jane@example.com", " Jane@Example.COM\t\n": "jane@example.com", "\u00a0JANE+tag@example.com\u200b": "jane+tag@example.com",
		"\ufeffjane@example.com": "jane@example.com", "İpek@örnek.example": "ipek@örnek.example", "ÇAĞLA@EXAMPLE.COM": "çağla@example.com",
		"jane @example.com": "jane @example.com", "": "", " \u200b ": "", "no address": "no address",
	} {
		if got := FoldEmail(given); got != want {
			t.Errorf("%q: got %q, want %q", given, got, want)
		}
	}
}

func TestFoldPhone(t *testing.T) {
	for given, want := range map[string]string{
		"+90 532 123 45 67": "905321234567", "0090-532-123-4567": "905321234567", "905321234567": "905321234567", "(+90) 532.123.45.67": "905321234567",
		"0532 123 45 67": "05321234567", "+44 (0)20 7946 0958": "442079460958", "0044 (0) 20 7946 0958": "442079460958", "0044 (0)20 7946 0958": "442079460958",
		"(0)20 7946 0958": "02079460958", "+٩٠ ٥٣٢ ١٢٣ ٤٥ ٦٧": "905321234567", "۰۰۹۰۵۳۲۱۲۳۴۵۶۷": "905321234567", "＋９０５３２": "90532",
		"": "", "none": "", "00": "", "+": "", "000": "0",
	} {
		if got := FoldPhone(given); got != want {
			t.Errorf("%q: got %q, want %q", given, got, want)
		}
	}
}

// people are those of the tests below, as they ask.
func people() map[string]Person {
	return map[string]Person{"email": {Email: FoldEmail(" JANE@example.com")}, "phone": {Phone: FoldPhone("0090 532 1234567")}, "visitor": {Visitor: new(int64(4711))}}
}

// A person is found wherever he occurs, whatever the JSON of the event looks like, and nowhere else.
func TestPersonInEvents(t *testing.T) {
	for body, want := range map[string]string{
		`"type":"lead","lead":{"email":"jane@example.com"}`:                                                           "email",
		`"type":"lead","lead":{"email":"  Jane@Example.Com "}`:                                                        "email",
		`"type":"lead","lead":{"name":"\"x\"","email" : "jane@example.com"}`:                                          "email",
		`"type":"lead","lead":{"\u0065mail":"j\u0061ne\u0040example.com"}`:                                            "email",
		`"type":"lead","lead":{"comment":"\/","email":"JANE@EXAMPLE.COM"}`:                                            "email",
		`"type":"lead","lead":{"name":"Çağla","email":"jane@example.com"}`:                                            "email",
		`"type":"lead","lead":{"email":"jane@example.com.tr"}`:                                                        "",
		`"type":"lead","lead":{"email":"xjane@example.com"}`:                                                          "",
		`"type":"lead","lead":{"name":"jane@example.com","email":null}`:                                               "",
		`"type":"lead","lead":{"comment":"\"email\":\"jane@example.com\"","name":"x"}`:                                "",
		`"type":"vote","question_id":1,"question":"email","answer_id":4711,"answer":"jane@example.com"`:               "",
		`"type":"lead","lead":{"phone":"+90 (532) 123-45-67"}`:                                                        "phone",
		`"type":"lead","lead":{"phone":"905321234567"}`:                                                               "phone",
		`"type":"lead","lead":{"phone":"\u002b905321234567"}`:                                                         "phone",
		`"type":"lead","lead":{"phone":"05321234567"}`:                                                                "",
		`"type":"lead","lead":{"email":"905321234567","name":"phone"}`:                                                "",
		`"type":"start","poltio_user_id":4711`:                                                                        "visitor",
		`"type":"start","poltio_user_id" :` + "\n\t" + ` 4711`:                                                        "visitor",
		`"type":"start","poltio\u005fuser_id":4711`:                                                                   "visitor",
		`"type":"lead","lead":{"user_id":4711}`:                                                                       "visitor",
		`"type":"lead","lead":{"user_id":4711,"name":"\n"}`:                                                           "visitor",
		`"type":"start","poltio_user_id":"4711"`:                                                                      "visitor",
		`"type":"start","poltio_user_id":4.711e3`:                                                                     "visitor",
		`"type":"start","poltio_user_id":4711e1`:                                                                      "",
		`"type":"start","poltio_user_id":4711.0`:                                                                      "visitor",
		`"type":"start","poltio_user_id":47110`:                                                                       "",
		`"type":"start","poltio_user_id":-4711`:                                                                       "",
		`"type":"start","poltio_user_id":null,"publisher_uuid":"4711"`:                                                "",
		`"type":"lead","lead":{"user_id":null,"content_id":4711}`:                                                     "",
		`"type":"start","custom_id":"user_id","publisher_uuid":"4711"`:                                                "",
		`"type":"vote","question_id":4711,"answer_id":4711,"answer":"poltio_user_id","question":"\"user_id\":4711,"`:  "",
		`"type":"lead","lead":{"email":"jane@example.com","phone":"0090 532 123 45 67","user_id":4711,"comment":"x"}`: "email phone visitor",
	} {
		list := fmt.Appendf(nil, `[{"type":"start","session_id":"22ffdf18-1035-4e56-baa2-8327e3af5242"},{"session_id":"22ffdf18-1035-4e56-baa2-8327e3af5242",%s}]`, body)
		if _, err := DecodeEvents(list, time.Time{}); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		for name, p := range people() {
			got, err := p.InEvents(list)
			if err != nil || got != strings.Contains(want, name) {
				t.Errorf("%s by %s: %t, %v", body, name, got, err)
			}
		}
	}
	for _, p := range people() {
		if _, err := p.InEvents([]byte(`[{"\u0020":1`)); err == nil {
			t.Error("what cannot be read is no error")
		}
	}
}

func TestPersonInPayload(t *testing.T) {
	for body, want := range map[string]string{
		`{"poltio_user_id":4711,"leads":[]}`:                               "visitor",
		`{"poltio_user_id":null,"leads":[{"user_id":1},{"user_id":4711}]}`: "visitor",
		`{"poltio_user_id":1,"answers":[{"question":"poltio_user_id\":4711,"}],"leads":[{"user_id":1,"email":"\u000bJane@example.com"}]}`: "email",
		`{"poltio_user_id":1,"leads":[{"user_id":1,"email":null,"phone":"+905321234567"}]}`:                                               "phone",
		`{"poltio_user_id":1}`: "",
	} {
		for name, p := range people() {
			got, err := p.InPayload([]byte(body))
			if err != nil || got != strings.Contains(want, name) {
				t.Errorf("%s by %s: %t, %v", body, name, got, err)
			}
		}
	}
	for _, p := range people() {
		if _, err := p.InPayload([]byte(`{"\u0061`)); err == nil {
			t.Error("what cannot be read is no error")
		}
	}
}

// FuzzPerson: the search in the text of events and payloads finds whom a parser finds, whatever is written around him.
func FuzzPerson(f *testing.F) {
	f.Add("Jane@example.com", "+90 532", int64(7), "x", []byte(`[{"type":"start","session_id":"22ffdf18-1035-4e56-baa2-8327e3af5242","poltio_user_id":7}]`))
	f.Add(`","email":"x`, "\u2028", int64(-1), `"user_id":7,`, []byte(`{"poltio_user_id":5,"leads":[{"email":"a"}]}`))
	f.Fuzz(func(t *testing.T, email, phone string, visitor int64, text string, raw []byte) {
		persons := []Person{{Visitor: &visitor}}
		if email = FoldEmail(email); email != "" {
			persons = append(persons, Person{Email: email})
		}
		if phone = FoldPhone(phone); phone != "" {
			persons = append(persons, Person{Phone: phone})
		}
		for _, p := range persons {
			if events, err := DecodeEvents(raw, time.Time{}); err == nil && !twice(raw) {
				want := false
				for _, ev := range events {
					want = want || p.isVisitor(ev.Identity.PoltioUserID) || ev.Lead != nil && p.inLead(ev.Lead)
				}
				if got, err := p.InEvents(raw); err != nil || got != want {
					t.Fatalf("%+v in %s: %t, %v, want %t", p, raw, got, err, want)
				}
			}
		}
		if !utf8.ValidString(email+phone+text) || email == "" || phone == "" {
			return
		}
		s := Session{Identity: Identity{CustomID: &text}, Questions: []Question{{Title: &text, Answers: []Answer{{Answer: &text}}}}}
		payload, err := Render(s, &Webhook{SendAnswers: true, SendLeads: true}, KindComplete, time.Unix(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		s.Leads = []Lead{{UserID: &visitor, Email: &email, Phone: &phone, Name: &text}}
		lead, err := Render(s, &Webhook{SendAnswers: true, SendLeads: true}, KindComplete, time.Unix(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range persons {
			if found, err := p.InPayload(lead); err != nil || !found {
				t.Fatalf("%+v is not found in %s: %v", p, lead, err)
			}
			if found, err := p.InPayload(payload); err != nil || found {
				t.Fatalf("%+v is found in %s: %v", p, payload, err)
			}
		}
	})
}

// twice reports whether a name may stand twice in an object: a parser takes the last value, and the search finds each.
func twice(raw []byte) bool {
	for _, name := range []string{`user_id"`, `"email"`, `"phone"`} {
		if strings.Count(string(raw), name) > 1 {
			return true
		}
	}
	var any json.RawMessage
	return json.Unmarshal(raw, &any) != nil
}

// Ids beyond 2^53 may be strings, as in events.
func TestParseErasureOfText(t *testing.T) {
	for body, want := range map[string]int64{`{"poltio_user_id":"9007199254740993"}`: 9007199254740993, `{"poltio_user_id":-7}`: -7} {
		if got, err := ParseErasure([]byte(body)); err != nil || got.Visitor == nil || *got.Visitor != want {
			t.Errorf("%s: %+v, %v", body, got, err)
		}
	}
	if _, err := ParseErasure([]byte(`{"poltio_user_id":"7a"}`)); err == nil {
		t.Error("7a was taken")
	}
}

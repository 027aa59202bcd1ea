package transform

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// hostilePayload is a session whose visitor tries what may break a receiver, and whose numbers are large.
const hostilePayload = `{"poltio_user_id":9007199254740993,"session_id":"22ffdf18-1035-4e56-baa2-8327e3af5242","session_start_date":"2024-01-23T11:59:33.000000Z",
"session_end_date":null,"publisher_uuid":"<!channel>","custom_id":"=1+1","event_time":1568624875,"content_type":"poll","content_id":"6caaa000-2bd8-4b28-8b9b-bfe1fca94f39",
"complete_session":false,"answers":[{"question_id":18446744073709551615,"question":null,"answers":[{"answer_id":1,"answer":"\u2028<script>&\"'\\ @everyone"},{"answer_id":2}]}],
"result":null,"leads":[{"email":"=cmd|' /C calc'!A0@example.com","name":"*_~<@U1>","phone":null,"tc_checked":true}]}`

// bare is a session of which hardly anything is known.
const bare = `{"session_id":"22ffdf18-1035-4e56-baa2-8327e3af5242","session_start_date":"2024-01-23T11:59:33.000000Z","session_end_date":null,"complete_session":false,
"content_type":"poll","content_id":"6caaa000-2bd8-4b28-8b9b-bfe1fca94f39","answers":[],"result":null,"leads":[]}`

// Programs as people have them give what they gave.
func TestRecipes(t *testing.T) {
	sample, err := os.ReadFile(samplePayload)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("testdata/recipes/*.jq")
	if err != nil || len(files) < 6 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".jq")
		t.Run(name, func(t *testing.T) {
			program, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			for _, payload := range []string{string(sample), bare, hostilePayload} {
				job := Job{Programs: Programs{Transform: string(program)}, Payload: []byte(payload)}
				if name == "form" {
					job.Encoding = EncodingForm
				}
				r, err := Eval(job)
				switch {
				case err != nil:
					t.Fatal(err)
				case r.Filtered:
					got.WriteString("filtered")
				case name == "form":
					got.Write(r.Body)
				default:
					if err := json.Indent(&got, r.Body, "", "  "); err != nil {
						t.Fatal(err)
					}
				}
				got.WriteString("\n\n")
			}
			golden := strings.TrimSuffix(file, ".jq") + ".golden"
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil || got.String() != string(want) {
				t.Errorf("got %s\nwant %s, %v", got.String(), want, err)
			}
		})
	}
}

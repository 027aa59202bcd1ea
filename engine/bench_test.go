package engine

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/uuid"
)

// benchSession is a session as most are: a start, three votes and a result, about 1 KB in one request.
const benchSession = `{"type":"start","session_id":"5b0c4d8e-7d0f-4c0b-9a53-6f1f2f6f0d11","time":"2025-03-14T09:26:53.12Z","content_id":"e1a5c6f2-0f5e-4f0a-8a4e-3f0f7b1d9c01","content_type":"quiz","poltio_user_id":88120457}
{"type":"vote","session_id":"5b0c4d8e-7d0f-4c0b-9a53-6f1f2f6f0d11","time":"2025-03-14T09:26:58.52Z","question_id":40101,"question":"Where do you run most?","answer_id":401011,"answer":"On roads"}
{"type":"vote","session_id":"5b0c4d8e-7d0f-4c0b-9a53-6f1f2f6f0d11","time":"2025-03-14T09:27:04.17Z","question_id":40102,"question":"How far do you go?","answer_id":401023,"answer":"10 to 21 km"}
{"type":"vote","session_id":"5b0c4d8e-7d0f-4c0b-9a53-6f1f2f6f0d11","time":"2025-03-14T09:27:12.02Z","question_id":40103,"question":"What matters most?","answer_id":401032,"answer":"Cushioning"}
{"type":"result_view","session_id":"5b0c4d8e-7d0f-4c0b-9a53-6f1f2f6f0d11","time":"2025-03-14T09:27:17.43Z","result":{"result_id":4099,"result_title":"Glider 4 Road","result_image":"content/gcp/1741944413.0412.jpg","result_desc":"A soft daily trainer."}}
`

var benchNow = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func benchEvents(b *testing.B) []Event {
	events, err := ParseEvents([]byte(benchSession), benchNow)
	if err != nil {
		b.Fatal(err)
	}
	return events
}

func BenchmarkParseEvents(b *testing.B) {
	for _, bb := range []struct {
		name string
		body []byte
	}{
		{"sessions=1", []byte(benchSession)},
		{"sessions=500", bytes.Repeat([]byte(benchSession), 500)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.SetBytes(int64(len(bb.body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseEvents(bb.body, benchNow); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkFold(b *testing.B) {
	events := benchEvents(b)
	b.ReportAllocs()
	for b.Loop() {
		Fold(events, time.Time{})
	}
}

func BenchmarkRender(b *testing.B) {
	session := Fold(benchEvents(b), time.Time{})
	hook := &Webhook{SendAnswers: true, SendLeads: true}
	payload, err := Render(session, hook, KindComplete, benchNow)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Render(session, hook, KindComplete, benchNow); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAdmit decides about a new session that finishes, beside many webhooks of other contents.
func BenchmarkAdmit(b *testing.B) {
	events := benchEvents(b)
	hooks := []*Webhook{{ID: 1, Active: true}}
	for i := range 1000 {
		hooks = append(hooks, &Webhook{ID: uint32(i + 2), Active: true, ContentID: new(uuid.New())})
	}
	set := NewWebhookSet(hooks, nil)
	b.ReportAllocs()
	a := NewAppend(events, benchNow)
	for b.Loop() {
		if d, err := a.Admit(0, SessionHead{}, nil, set, MaxTriggers); err != nil || len(d.Triggers) != 1 {
			b.Fatal(d, err)
		}
	}
}

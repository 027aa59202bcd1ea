package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// payload is the body that an endpoint gets: the fields of the seed document's section "Example webhook payload", in its order. Every field
// is always there, and is null if it has no value; only answers and leads are left out if the webhook switches them off. Text is written as
// it was received, on one line, without a final newline. RFC 8259 does not require &, < and > to be escaped.
type payload struct {
	PoltioUserID     *int64      `json:"poltio_user_id"`
	SessionID        uuid.UUID   `json:"session_id"`
	SessionStartDate string      `json:"session_start_date"`
	SessionEndDate   *string     `json:"session_end_date"`
	PublisherUUID    *string     `json:"publisher_uuid"`
	CustomID         *string     `json:"custom_id"`
	EventTime        *int64      `json:"event_time,omitempty"` // only DescribeSession leaves it out
	ContentType      ContentType `json:"content_type"`
	ContentID        uuid.UUID   `json:"content_id"`
	CompleteSession  bool        `json:"complete_session"`
	Answers          *[]Question `json:"answers,omitempty"`
	Result           *Result     `json:"result"`
	Leads            *[]Lead     `json:"leads,omitempty"`
}

// FormatTime writes a time as the seed document does: in UTC, with six decimals.
func FormatTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

// DescribeSession returns all that is known of a session, in the shape of the payload but without event_time, because nothing is sent.
func DescribeSession(s Session) ([]byte, error) {
	return encode(newPayload(s, &Webhook{SendAnswers: true, SendLeads: true}, !s.FinishedAt.IsZero()))
}

// newPayload returns the payload of a session for a webhook, without event_time.
func newPayload(s Session, w *Webhook, complete bool) *payload {
	p := &payload{
		PoltioUserID:     s.Identity.PoltioUserID,
		SessionID:        s.ID,
		SessionStartDate: FormatTime(s.StartedAt),
		PublisherUUID:    s.Identity.PublisherUUID,
		CustomID:         s.Identity.CustomID,
		ContentType:      s.Identity.ContentType,
		ContentID:        s.Identity.ContentID,
		CompleteSession:  complete,
	}
	if complete {
		ended := s.EndedAt
		if ended.Before(s.StartedAt) { // a wrong clock, or a start that never came
			ended = s.StartedAt
		}
		p.SessionEndDate = new(FormatTime(ended))
		if s.Result != nil {
			r := *s.Result
			if r.TimeSpent == nil || *r.TimeSpent < 0 {
				r.TimeSpent = new(ended.Sub(s.StartedAt).Milliseconds())
			}
			p.Result = &r
		}
	}
	if w.SendAnswers {
		p.Answers = new(append([]Question{}, s.Questions...)) // never nil, so that no answers are written as []
	}
	if w.SendLeads {
		leads := make([]Lead, len(s.Leads))
		for i, l := range s.Leads {
			if l.UserID == nil {
				l.UserID = s.Identity.PoltioUserID
			}
			if l.ContentType == nil {
				l.ContentType = new(string(s.Identity.ContentType))
			}
			leads[i] = l
		}
		p.Leads = &leads
	}
	return p
}

// encode writes the body of a delivery.
func encode(body any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(body); err != nil {
		return nil, fmt.Errorf("build payload: %w", err)
	}
	return plainSeparators(bytes.TrimSuffix(b.Bytes(), []byte("\n"))), nil
}

// plainSeparators replaces the escapes of U+2028 and U+2029 by the characters. encoding/json always escapes them, for JavaScript before
// 2019, but text must be sent as it was received.
func plainSeparators(b []byte) []byte {
	if !bytes.Contains(b, []byte(`\u202`)) {
		return b
	}
	plain := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] != '\\':
			plain = append(plain, b[i])
		case bytes.HasPrefix(b[i:], []byte(`\u2028`)):
			plain = append(plain, "\u2028"...)
			i += 5
		case bytes.HasPrefix(b[i:], []byte(`\u2029`)):
			plain = append(plain, "\u2029"...)
			i += 5
		default: // skip any other escape whole: its second byte may be a backslash
			plain = append(plain, b[i], b[i+1])
			i++
		}
	}
	return plain
}

// samplePayload returns the payload of a test delivery: an invented session with a value in every field that the webhook asks for. If it is not
// complete, it is one without a result, an answer or a lead.
func samplePayload(w *Webhook, complete bool, now time.Time) ([]byte, error) {
	started := now.Add(-26 * time.Second)
	content := uuid.MustParse("6caaa000-2bd8-4b28-8b9b-bfe1fca94f39")
	if w.ContentID != nil {
		content = *w.ContentID
	}
	user := int64(1234)
	id := uuid.MustParse("22ffdf18-1035-4e56-baa2-8327e3af5242")
	if !complete {
		return Render(Session{ID: id, Identity: Identity{ContentID: content, ContentType: "quiz", PoltioUserID: &user}, StartedAt: started}, w, KindIncomplete, now)
	}
	return Render(Session{
		ID: id,
		Identity: Identity{
			ContentID: content, ContentType: "quiz", PoltioUserID: &user,
			PublisherUUID: new("sample-publisher"), CustomID: new("sample-custom-id"),
		},
		StartedAt: started, FinishedAt: now, EndedAt: now,
		Questions: []Question{{ID: 1, Title: new("Sample question"), Answers: []Answer{
			{ID: 11, Answer: new("Sample answer"), Parent: new("https://example.com/page-with-the-quiz")},
		}}},
		Result: &Result{
			ID: 21, Title: new("Sample result"), Image: new("content/sample.png"),
			Desc: new("This is a test delivery of hookbolt."), RightAnswer: new(int64(1)), CalculatorResult: new("0"),
		},
		Leads: []Lead{{
			Phone: new("+1231231234"), Email: new("test@example.com"), Name: new("Test"), Comment: new("Sent by a test delivery"),
			CreatedAt: new(FormatTime(now)), TCChecked: new(true), ContentID: new(int64(12345)),
		}},
	}, w, KindComplete, now)
}

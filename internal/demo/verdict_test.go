package demo

import (
	"errors"
	"strings"
	"testing"
	"time"

	"hookbolt/internal/receiver"
)

func TestDemoVerdict(t *testing.T) {
	h := &hook{Name: "h", SendIncomplete: true, IncompleteDelay: 6}
	began := time.Now()
	at := func(seconds float64) time.Time { return began.Add(time.Duration(seconds * float64(time.Second))) }
	// A session that starts at 0 and finishes, with the finish acknowledged at some time.
	finished := func(finish, accepted float64) *session {
		return &session{name: "s", id: "id", events: []*event{
			{starts: true, at: at(0), acceptedAt: at(0)}, {finishes: true, at: at(finish), acceptedAt: at(accepted)},
		}}
	}
	// withLead puts a lead on the cover screen before the start.
	withLead := func(s *session, lead float64) *session {
		s.events = append([]*event{{at: at(lead), acceptedAt: at(lead)}}, s.events...)
		return s
	}
	open := &session{name: "s", id: "id", events: []*event{{at: at(0), acceptedAt: at(0)}}}
	complete := []byte(`{"session_id": "id", "complete_session": true}`)
	incomplete := []byte(`{"session_id": "id", "complete_session": false}`)
	good := func(id string, body []byte) receiver.Receipt {
		return receiver.Receipt{ID: id, Body: body, Status: 200}
	}
	for _, tc := range []struct {
		name    string
		session *session
		got     []receiver.Receipt
		want    string
	}{
		{"finished early", finished(3, 3), []receiver.Receipt{good("1", complete)}, ""},
		{"finished late", finished(9, 9), []receiver.Receipt{good("1", incomplete), good("2", complete)}, ""},
		{"not finished", open, []receiver.Receipt{good("1", incomplete)}, ""},
		{"finished at the instant", finished(6, 5.9), []receiver.Receipt{good("1", complete)}, ""},
		{"finish acknowledged too late", finished(6, 6.1), []receiver.Receipt{good("1", complete)}, ""},
		{"finish acknowledged too late, and sent", finished(6, 6.1), []receiver.Receipt{good("1", incomplete), good("2", complete)}, ""},
		{"finished early after the start, later after a lead", withLead(finished(3, 3), -4), []receiver.Receipt{good("1", complete)}, ""},
		{"a retry", finished(3, 3), []receiver.Receipt{{ID: "1", Body: complete, Status: 500}, good("1", complete)}, ""},

		{"nothing", finished(9, 9), nil, `s complete for "h" did not arrive; s incomplete for "h" did not arrive`},
		{"never delivered", finished(3, 3), []receiver.Receipt{{ID: "1", Body: complete, Status: 500}}, `s complete for "h" did not arrive`},
		{"sent although finished", finished(3, 3), []receiver.Receipt{good("1", incomplete), good("2", complete)}, `s incomplete for "h" was not expected`},
		{"sent although finished at the instant", finished(6, 5.9), []receiver.Receipt{good("1", incomplete), good("2", complete)}, `s incomplete for "h" was not expected`},
		{"twice", finished(3, 3), []receiver.Receipt{good("1", complete), good("1", complete)}, `s complete for "h" was delivered twice`},
		{"two ids", finished(3, 3), []receiver.Receipt{{ID: "1", Body: complete, Status: 500}, good("2", complete)}, `s complete for "h" was not the same in each attempt`},
		{"other bytes", finished(3, 3), []receiver.Receipt{{ID: "1", Body: append(complete, ' '), Status: 500}, good("1", complete)}, `s complete for "h" was not the same in each attempt`},
		{"wrong signature", finished(3, 3), []receiver.Receipt{{ID: "1", Body: complete, Status: 200, Verdict: errors.New("no")}}, `s complete for "h" had a wrong signature`},
		{"something else", open, []receiver.Receipt{good("1", incomplete), good("2", []byte("hello"))}, `unknown incomplete for "h" was not expected`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := &demonstration{sessions: []*session{tc.session}, hooks: []*hook{h}, arrived: make(map[arrival]*tally)}
			for _, got := range tc.got {
				d.record(h, got)
			}
			if got := strings.Join(d.verdict(), "; "); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

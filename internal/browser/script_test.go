package browser

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"hookbolt/engine"
)

const (
	ingestToken = "everybody-may-see-this-one"
	quizID      = "6caaa000-2bd8-4b28-8b9b-bfe1fca94f39"
)

// widget is a page of another origin that has loaded /hookbolt.js, with hookbolt behind a gateway and a webhook that gets its sessions.
type widget struct {
	*page
	server   *server
	gateway  *gateway
	endpoint *endpoint
	secret   string
	site     string // the page's origin
}

// newWidget starts hookbolt with further settings, the gateway and the page's server, and opens the page. The visitor is 4711.
func newWidget(t *testing.T, settings ...string) *widget {
	t.Helper()
	w := &widget{endpoint: newEndpoint(t)}
	site := httptest.NewServer(w)
	t.Cleanup(site.Close)
	w.site = site.URL
	w.server = startServer(t, append(settings, withTokens, `http.ingest_tokens = ["`+ingestToken+`"]`, `http.cors_origins = ["`+w.site+`"]`)...)
	w.gateway = newGateway(t, w.server)
	var made struct{ Secret string }
	w.server.read(&made, "POST", "/v1/webhooks", `{"url":"`+w.endpoint.url+`","delay":0}`)
	w.secret = made.Secret
	w.page = newPage(t, &server{t: t, url: w.site}, look{})
	w.allow(w.gateway.url)
	w.open("/")
	return w
}

// ServeHTTP serves the page at every path. Its policy allows only script files of the two servers, and only requests to this machine.
func (w *widget) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/quiz.js" {
		rw.Header().Set("Content-Type", "text/javascript")
		io.WriteString(rw, `window.begin = (more) => hookbolt({ token: "`+ingestToken+`", content_id: "`+quizID+`", content_type: "quiz", poltio_user_id: 4711, ...more });`)
		return
	}
	rw.Header().Set("Content-Type", "text/html; charset=utf-8")
	rw.Header().Set("Content-Security-Policy", fmt.Sprintf("default-src 'none'; script-src 'self' %[1]s; connect-src http://127.0.0.1:*; img-src data:; frame-src 'self'", w.gateway.url))
	fmt.Fprintf(rw, `<!doctype html><html lang="en"><head><title>Quiz</title><link rel="icon" href="data:,"></head><body><h1>Quiz</h1>
<script src="%s/hookbolt.js"></script><script src="/quiz.js"></script></body></html>`, w.gateway.url)
}

// session is a session as hookbolt has stored it.
type session struct {
	Events []struct {
		Event struct {
			Type       string
			ID         string
			QuestionID sentID `json:"question_id"`
			AnswerID   sentID `json:"answer_id"`
		}
	}
}

// sentID is an id as a page has sent it: a number, or its digits as a string, which JavaScript makes of a BigInt. It is 0 for anything else, which an
// event may have where it has no such field.
type sentID int64

func (n *sentID) UnmarshalJSON(value []byte) error {
	*n = 0
	if id, ok := engine.ReadInteger(value); ok {
		*n = sentID(id)
	}
	return nil
}

// types returns the types of the events in the order of their arrival, with the ids of votes and undos.
func (s *session) types() string {
	var list []string
	for _, e := range s.Events {
		text := e.Event.Type
		if e.Event.QuestionID != 0 {
			text += fmt.Sprintf(" %d/%d", e.Event.QuestionID, e.Event.AnswerID)
		}
		list = append(list, text)
	}
	return strings.Join(list, ", ")
}

func (w *widget) session(id string) (s session) {
	w.t.Helper()
	w.server.read(&s, "GET", "/v1/sessions/"+id, "")
	return s
}

// payload is the payload that a webhook has received.
type payload struct {
	UserID    int64   `json:"poltio_user_id"`
	SessionID string  `json:"session_id"`
	Complete  bool    `json:"complete_session"`
	CustomID  *string `json:"custom_id"`
	Answers   []struct {
		ID      int64 `json:"question_id"`
		Answers []struct {
			ID     int64 `json:"answer_id"`
			Answer string
		}
	}
	Result *struct {
		ID    int64  `json:"result_id"`
		Title string `json:"result_title"`
	}
	Leads []struct{ Email string }
}

// webhook waits for the session's webhook, checks its signature, and returns its payload.
func (w *widget) webhook() (p payload) {
	w.t.Helper()
	got := w.endpoint.await(1)[0]
	if err := got.verify(w.secret); err != nil {
		w.t.Error(err)
	}
	if err := json.Unmarshal(got.body, &p); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// TestPageSendsSession plays a session in a page of another origin. Its webhook gets all of it, and the browser sends only one preflight
// request.
func TestPageSendsSession(t *testing.T) {
	t.Parallel()
	w := newWidget(t)
	id := eval[string](w.page, `(window.s = begin({ custom_id: "summer" }), s.start(), s.session_id)`)
	if !eval[bool](w.page, `s.flush()`) {
		t.Error("the start is not stored")
	}
	if !eval[bool](w.page, `(
		s.vote(1, 11, { question: "Salt & pepper?", answer: "Only salt" }),
		s.vote(1, 12, { answer: "Both" }),
		s.undo(1, 11),
		s.vote(2, null, { answers: [{ answer_id: 21, answer: "Ünï" }, { answer_id: 22, answer: "😀" }] }),
		s.lead({ email: "ada@example.com", tc_checked: true }),
		s.result({ result_id: 3, result_title: "A purist" }),
		s.flush())`) {
		t.Error("something is not stored")
	}
	got := w.webhook()
	want := `{"poltio_user_id":4711,"session_id":"` + id + `","complete_session":true,"custom_id":"summer","Answers":[{"question_id":1,"Answers":[{"answer_id":12,"Answer":"Both"}]},` +
		`{"question_id":2,"Answers":[{"answer_id":21,"Answer":"Ünï"},{"answer_id":22,"Answer":"😀"}]}],"Result":{"result_id":3,"result_title":"A purist"},"Leads":[{"Email":"ada@example.com"}]}`
	if text := compact(got); text != want {
		t.Errorf("the webhook has\n%s, want\n%s", text, want)
	}
	if posts, preflights := w.gateway.count("POST", "/v1/events"), w.gateway.count("OPTIONS", "/v1/events"); posts != 2 || preflights != 1 {
		t.Errorf("%d requests with events after %d preflights, want 2 after 1", posts, preflights)
	}
	if left := eval[int](w.page, `localStorage.length`); left != 0 {
		t.Errorf("%d entries are left in the storage", left)
	}
}

// TestAnotherAddress uses a page that sets hookbolt's address, as a page with a copy of the script does.
func TestAnotherAddress(t *testing.T) {
	t.Parallel()
	w := newWidget(t)
	other := newGateway(t, w.server)
	w.allow(other.url)
	if !eval[bool](w.page, `(window.s = begin({ url: "`+other.url+`/" }), s.start(), s.flush())`) {
		t.Error("the start is not stored")
	}
	if here, there := w.gateway.count("POST", "/v1/events"), other.count("POST", "/v1/events"); here != 0 || there != 1 {
		t.Errorf("%d requests to where the script is from and %d to the address, want one to the address", here, there)
	}
}

// TestExamplePage checks that the page in docs/browser.md works as it is, apart from the address, and passes axe-core.
func TestExamplePage(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/browser.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n```html\n")
	example, _, closed := strings.Cut(rest, "\n```\n")
	if !found || !closed {
		t.Fatal("docs/browser.md has no page")
	}
	var hook string
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, strings.ReplaceAll(example, "https://hooks.example.com/", hook+"/"))
	}))
	defer site.Close()
	s := startServer(t, withTokens, `http.ingest_tokens = ["put-another-one-here-for-pages"]`, `http.cors_origins = ["`+site.URL+`"]`)
	hook = s.url
	w := &widget{server: s, endpoint: newEndpoint(t)}
	var made struct{ Secret string }
	s.read(&made, "POST", "/v1/webhooks", `{"url":"`+w.endpoint.url+`","delay":0}`)
	w.secret = made.Secret
	w.page = newPage(t, &server{t: t, url: site.URL}, look{})
	w.allow(hook)
	w.open("/")
	w.click(button("Only salt"))
	w.click(button("Both"))
	w.fill(field("E-mail"), "ada@example.com")
	w.click(button("Show my result"))
	got := w.webhook()
	if len(got.Answers) != 1 || len(got.Answers[0].Answers) != 1 || got.Answers[0].Answers[0].Answer != "Both" || got.Result == nil || len(got.Leads) != 1 {
		t.Errorf("the webhook has %s", compact(got))
	}
	axe(t, w.page)
}

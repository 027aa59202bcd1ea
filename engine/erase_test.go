package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
	"hookbolt/internal/teststore"
	"hookbolt/storage/bolt"
)

// erase erases a visitor, 7 being that of event.
func (w *world) erase(visitor int64) engine.Erased {
	w.t.Helper()
	erased, err := w.Erase(context.Background(), engine.Erasure{Visitor: &visitor})
	if err != nil {
		w.t.Error(err)
	}
	return erased
}

// nothingTaken holds that no claim has been left behind.
func (w *world) nothingTaken() {
	w.t.Helper()
	o, err := w.Overview(w.t.Context())
	if err != nil || o.InFlight != 0 || o.Scheduled+o.Due+o.Held != 0 {
		w.t.Errorf("%+v, want nothing in flight and nothing waiting: %v", o, err)
	}
}

// Wherever a delivery is on its way to the endpoint, it is not sent once its erasure has been answered; and the lane goes on.
func TestEraseOnTheWay(t *testing.T) {
	for _, at := range []string{"waiting for its time", "claimed", "freezing"} {
		t.Run(at, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.webhook(`{"url":"https://a.example/","delay":60}`)
				var once sync.Once
				erase := func() {
					once.Do(func() {
						if got := w.erase(7); got != (engine.Erased{Sessions: 1, Events: 2, Deliveries: 1}) {
							t.Errorf("erased %+v", got)
						}
					})
				}
				h := &hooked{}
				switch at {
				case "claimed":
					h.afterClaim = func(results []engine.ClaimResult) {
						if len(results[0].Claimed) > 0 {
							erase()
						}
					}
				case "freezing":
					h.beforeFreeze = func(engine.Freeze) { erase() }
				}
				w.restartHooked(h)
				w.session()
				if at == "waiting for its time" {
					time.Sleep(time.Second)
					erase()
				}
				time.Sleep(time.Hour)
				erase() // has happened
				if n := len(w.net.all()); n != 0 {
					t.Errorf("%d requests, want none", n)
				}
				w.nothingTaken()
				w.session()
				time.Sleep(time.Hour)
				if n := len(w.net.all()); n != 1 {
					t.Errorf("%d requests of the next session, want 1", n)
				}
			})
		})
	}
}

// What waits for a place at a slow endpoint is frozen already. The attempt that is under way ends as it ends, and nobody hears of it.
func TestEraseUnderWay(t *testing.T) {
	for _, status := range []int{200, 500} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.webhook(`{"url":"https://slow.example/","delay":0,"max_in_flight":1}`)
			w.net.answer = func(received, *http.Request) (*http.Response, error) {
				time.Sleep(10 * time.Second)
				return answer(status), nil
			}
			var log bytes.Buffer // written by the engine's goroutines, read when they are at rest
			w.log = slog.New(slog.NewTextHandler(&log, nil))
			w.restart()
			w.sessions(3)
			time.Sleep(time.Second)
			if got := w.erase(7); got != (engine.Erased{Sessions: 3, Events: 6, Deliveries: 3}) {
				t.Errorf("erased %+v", got)
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			if n := len(w.net.all()); n != 1 {
				t.Errorf("%d requests, want the one that was under way", n)
			}
			if log.Len() > 0 {
				t.Errorf("logged: %s", log.String())
			}
			w.nothingTaken()
			w.session()
			time.Sleep(time.Minute)
			if n := len(w.net.all()); n < 2 {
				t.Error("the lane does not go on")
			}
		})
	}
}

// Damaged records do not stop an erasure. Each is counted and named once, and a session of which only they are left is not unknown.
func TestEraseTellsOfDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.sessions(1)
		w.restartHooked(&hooked{damaged: []error{errors.New("deliveries 1: damaged"), errors.New("deliveries 2: damaged")}})
		if got := w.erase(7); got.Sessions != 1 || got.Damaged != 2 {
			t.Errorf("%+v, want 1 session and 2 damaged records", got)
		}
		if got, err := w.Erase(t.Context(), engine.Erasure{SessionID: uuid.New()}); err != nil || got != (engine.Erased{Damaged: 2}) {
			t.Errorf("%+v, %v, want 2 damaged records", got, err)
		}
	})
}

func TestEraseOfWhatIsNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.session()
		id := uuid.New()
		if _, err := w.Erase(t.Context(), engine.Erasure{SessionID: id}); !errors.Is(err, engine.ErrNotFound) {
			t.Errorf("an unknown session: %v, want ErrNotFound", err)
		}
		if got := w.erase(0); got != (engine.Erased{}) {
			t.Errorf("an unknown visitor: %+v", got)
		}
		if got := w.erase(7); got.Sessions != 1 {
			t.Errorf("the visitor: %+v", got)
		}
	})
}

// After an erasure and a compaction the file holds none of what was erased, in whatever state it was. Before, it does.
func TestErasedIsNotInTheCompactedFile(t *testing.T) {
	teststore.BoltOnly(t, "it reads the file")
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *engine.Config) { c.Retry.Schedule = nil })
		w.net.answer = func(r received, _ *http.Request) (*http.Response, error) { // which endpoints do: it is kept with the attempt
			status := map[string]int{"failing.example": 500}[r.host]
			resp := answer(max(status, 200), "X-Echo", "header-"+string(regexp.MustCompile(`custom-\w+`).Find(r.body)))
			resp.Body = io.NopCloser(bytes.NewReader(r.body))
			return resp, nil
		}
		w.webhook(`{"url":"https://good.example/","delay":0}`)
		w.webhook(`{"url":"https://failing.example/","delay":0}`)
		w.webhook(`{"url":"https://held.example/","delay":0,"paused":true}`)
		w.webhook(`{"url":"https://later.example/","delay":3600}`)
		visit := func(visitor int, mark string) uuid.UUID {
			id := uuid.New()
			own := fmt.Sprintf(`"poltio_user_id":%d,"custom_id":"custom-%s","publisher_uuid":"publisher-%[2]s"`, visitor, mark)
			for _, ev := range []string{
				`"type":"start",` + own + `,"id":"key-` + mark + `"`,
				`"type":"vote","question_id":1,"question":"question-` + mark + `","answer_id":2,"answer":"answer-` + mark + `"`,
				`"type":"lead","lead":{"email":"email-` + mark + `@example.com"}`,
				`"type":"result_view","result":{"result_id":1,"result_title":"title-` + mark + `"}`,
			} {
				w.ingest(fmt.Sprintf(`{%s,"session_id":%q,"content_id":%q,"content_type":"quiz"}`, ev, id, contentID))
			}
			return id
		}
		marks := map[string]uuid.UUID{"alpha": visit(41, "alpha"), "beta": visit(41, "beta"), "gamma": visit(42, "gamma")}
		other := visit(43, "omega")
		time.Sleep(time.Minute)
		synctest.Wait()
		before := readFile(t, w.db.Path())
		if got := w.erase(41); got != (engine.Erased{Sessions: 2, Events: 8, Deliveries: 8, Attempts: 4}) {
			t.Errorf("erased %+v", got)
		}
		if _, err := w.Erase(t.Context(), engine.Erasure{SessionID: marks["gamma"]}); err != nil {
			t.Error(err)
		}
		w.stop()

		out := filepath.Join(t.TempDir(), "out.db")
		if _, _, err := bolt.Compact(w.db.Path(), out); err != nil {
			t.Fatal(err)
		}
		after := readFile(t, out)
		traces := func(mark string, id uuid.UUID) []string {
			list := []string{id.String(), string(id[:]), "header-custom-" + mark}
			for _, kind := range []string{"custom", "publisher", "key", "question", "answer", "email", "title"} {
				list = append(list, kind+"-"+mark)
			}
			return list
		}
		for mark, id := range marks {
			for _, trace := range traces(mark, id) {
				if !bytes.Contains(before, []byte(trace)) {
					t.Errorf("%q was not in the file before: the test sees nothing", trace)
				}
				if bytes.Contains(after, []byte(trace)) {
					t.Errorf("%q is in the compacted file", trace)
				}
			}
		}
		for _, trace := range traces("omega", other) {
			if !bytes.Contains(after, []byte(trace)) {
				t.Errorf("%q of somebody else is gone", trace)
			}
		}
	})
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

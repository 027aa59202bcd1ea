package engine_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// nobody reports whether nothing is stored of the sessions of event, and nothing is sent.
func (w *world) nobody() {
	w.t.Helper()
	time.Sleep(time.Hour)
	if got := w.erase(7); got != (engine.Erased{}) {
		w.t.Errorf("left are %+v", got)
	}
	if n := len(w.net.all()); n != 0 {
		w.t.Errorf("%d requests", n)
	}
}

// A caller that goes away does not stop an erasure: nobody would know how much is left.
func TestEraseGoesOnWithoutCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.webhook(`{"url":"https://a.example/","delay":60}`)
		w.sessions(350)
		ctx, leave := context.WithCancel(t.Context())
		w.restartHooked(&hooked{afterErase: func(step *engine.ErasedStep) {
			if step.Erased.Sessions > 0 {
				leave()
				time.Sleep(time.Second)
			}
		}})
		if _, err := w.Erase(ctx, engine.Erasure{Visitor: new(int64(7))}); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		time.Sleep(10 * time.Second)
		if got := w.list(engine.DeliveryQuery{}); len(got) != 0 {
			t.Errorf("%d deliveries are left", len(got))
		}
		w.nobody()
	})
}

// An erasure that the end of the process interrupts goes on after the next start. Its caller is told, and the log names nobody.
func TestEraseGoesOnAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.webhook(`{"url":"https://a.example/","delay":86400}`)
		w.sessions(350)
		for i := range 3 {
			id := uuid.New()
			w.ingest(event("start", id) + fmt.Sprintf(`{"type":"lead","session_id":%q,"lead":{"email":"Jane%d@example.com"}}`, id, i))
		}
		steps := make(chan bool, 1000)
		h := &hooked{afterErase: func(step *engine.ErasedStep) {
			if step.Erased.Sessions > 0 {
				select {
				case steps <- true:
				default:
				}
				time.Sleep(time.Second) // until the process ends
			}
		}}
		w.restartHooked(h)
		stop := w.stop
		go func() { <-steps; stop() }()
		if got, err := w.Erase(t.Context(), engine.Erasure{Visitor: new(int64(7))}); !errors.Is(err, engine.ErrErasureStopped) {
			t.Errorf("%+v, %v; want ErrErasureStopped", got, err)
		}
		synctest.Wait()
		var log bytes.Buffer // written by the engine's goroutines, read when they are at rest
		w.log = slog.New(slog.NewTextHandler(&log, nil))
		h.afterErase = nil
		w.restart()
		time.Sleep(time.Minute)
		synctest.Wait()
		if text := log.String(); strings.Count(text, "an interrupted erasure is complete") != 1 || !strings.Contains(text, "sessions=353 ") || strings.Contains(text, "7\n") {
			t.Errorf("logged: %s", text)
		}
		if got := w.list(engine.DeliveryQuery{}); len(got) != 0 {
			t.Errorf("%d deliveries are left", len(got))
		}
		w.restart() // it was completed once
		time.Sleep(time.Minute)
		synctest.Wait()
		if text := log.String(); strings.Count(text, "an interrupted erasure is complete") != 1 {
			t.Errorf("logged: %s", text)
		}
	})
}

// While the store takes no changes, or the process has lost its lanes, an erasure waits.
func TestEraseWaitsForTheStore(t *testing.T) {
	for _, refusal := range []error{engine.ErrFull, engine.ErrTransient, engine.ErrLost} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.sessions(150)
			calls := 0
			w.restartHooked(&hooked{beforeErase: func() error {
				if calls++; calls > 1 && calls < 10 {
					return refusal
				}
				return nil
			}})
			if got := w.erase(7); got.Sessions != 150 {
				t.Errorf("erased %+v", got)
			}
		})
	}
}

// Who asks to be forgotten gives an address, a number or an id, and is erased with all of his sessions, wherever he occurs in them.
func TestErasePerson(t *testing.T) {
	for name, what := range map[string]engine.Erasure{
		"email":   {Email: engine.FoldEmail("JANE@example.com ")},
		"phone":   {Phone: engine.FoldPhone("0090 532 123 45 67")},
		"visitor": {Visitor: new(int64(4711))},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.webhook(`{"url":"https://a.example/","delay":0,"send_leads":false}`)
				w.webhook(`{"url":"https://b.example/","delay":60}`)
				w.sessions(3)
				mine := []string{
					`{"type":"lead","session_id":"S","lead":{"email":"Jane@Example.com","phone":"+90 (532) 123-45-67","user_id":4711}}`,
					`{"type":"lead","session_id":"S","lead":{"email":"j\u0061ne@example.com","phone":"905321234567"},"poltio_user_id":4711}`,
				}
				for _, lead := range mine {
					id := uuid.New()
					w.ingest(event("start", id))
					w.ingest(strings.ReplaceAll(lead, `"S"`, fmt.Sprintf("%q", id)))
					w.ingest(event("finish", id))
				}
				time.Sleep(time.Second)
				dry := what
				dry.DryRun = true
				want := engine.Erased{Sessions: 2, Events: 6, Deliveries: 4, Attempts: 2}
				for _, what := range []engine.Erasure{dry, dry, what} {
					if got, err := w.Erase(t.Context(), what); err != nil || got != want {
						t.Errorf("erased %+v, %v, want %+v", got, err, want)
					}
				}
				if got, err := w.Erase(t.Context(), what); err != nil || got != (engine.Erased{}) {
					t.Errorf("left are %+v, %v", got, err)
				}
				time.Sleep(time.Hour)
				if n := len(w.net.to("b.example")); n != 3 {
					t.Errorf("%d requests, want those of the others", n)
				}
			})
		})
	}
}

func TestParseErasure(t *testing.T) {
	for body, want := range map[string]string{
		`{"email":" Jane@Example.com"}`:                     `{"email":"jane@example.com"}`,
		`{"phone":"+90 532","dry_run":false,"email":null}`:  `{"phone":"90532"}`,
		`{"poltio_user_id":0}`:                              `{"poltio_user_id":0}`,
		`{"dry_run":true,"session_id":"` + contentID + `"}`: `{"session_id":"` + contentID + `"} dry`,
		`{}`:                                "exactly one of",
		`{"dry_run":true}`:                  "exactly one of",
		`{"email":"a@b.c","phone":"1"}`:     "exactly one of",
		`{"session_id":null}`:               "exactly one of",
		`{"email":" "}`:                     "email: must not be empty",
		`{"phone":"none"}`:                  "phone: must have a digit",
		`{"phone":905321234567}`:            "phone: must be",
		`{"session_id":"7"}`:                "session_id: must be a UUID",
		`{"poltio_user_id":1.5}`:            "poltio_user_id: must be a whole number",
		`{"e-mail":"a@b.c"}`:                "e-mail",
		`{"email":"a@b.c","dry_run":"yes"}`: "dry_run: must be",
		`["a@b.c"]`:                         "must be",
		``:                                  "",
		`{"email":"a@b.c","email":"b@b.c"}`: "email",
		`{"poltio_user_id":9223372036854775808,"dry_run":true}`: "64-bit",
	} {
		what, err := engine.ParseErasure([]byte(body))
		got := fmt.Sprint(err)
		if err == nil {
			stored, err := json.Marshal(what)
			if err != nil {
				t.Fatal(err)
			}
			got = string(stored)
			if what.DryRun {
				got += " dry"
			}
		}
		if !strings.Contains(got, want) || err == nil && got != want {
			t.Errorf("%s: got %s, want %s", body, got, want)
		}
	}
}

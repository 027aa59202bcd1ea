package engine_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"hookbolt/engine"
)

// This file is the model of the payload: what a session's events say, written by the words of the specification and not by the
// engine's fold. Values are JSON as they were sent, so that it need not know their types.

// simFields is a JSON object: names to values as they stand. What is missing was not given.
type simFields map[string]string

// object writes the named fields in that order, null where nothing was given.
func (f simFields) object(names ...string) string {
	var members []string
	for _, name := range names {
		members = append(members, fmt.Sprintf("%q:%s", name, cmp.Or(f[name], "null")))
	}
	return "{" + strings.Join(members, ",") + "}"
}

// all writes all fields, as a producer would.
func (f simFields) all() string { return f.object(slices.Sorted(maps.Keys(f))...) }

// with returns the fields with defaults for what was not given.
func (f simFields) with(defaults simFields) simFields {
	g := simFields{}
	maps.Copy(g, defaults)
	maps.Copy(g, f)
	return g
}

// simEvent is an event as it was sent.
type simEvent struct {
	kind    string
	id      string // "" for none
	at      time.Time
	own     simFields   // the session's own fields
	about   simFields   // question_id and question, or an undo's answer_id
	answers []simFields // of a vote
	form    simFields   // a lead or a result
}

// body is the event's JSON.
func (e *simEvent) body(ss *simSession) string {
	f := e.own.with(e.about).with(simFields{"type": quoted(e.kind), "session_id": quoted(ss.id.String()), "time": quoted(e.at.Format(time.RFC3339Nano))})
	if e.id != "" {
		f["id"] = quoted(e.id)
	}
	switch {
	case len(e.answers) == 1: // the short form
		f = f.with(e.answers[0])
	case len(e.answers) > 1:
		var list []string
		for _, a := range e.answers {
			list = append(list, a.all())
		}
		f["answers"] = "[" + strings.Join(list, ",") + "]"
	case e.kind == "lead":
		f["lead"] = e.form.all()
	case e.kind == "result_view":
		f["result"] = e.form.all()
	}
	return f.all()
}

// quoted is for text without quotes, backslashes and control characters, which stands as it is.
func quoted(s string) string { return `"` + s + `"` }

func date(t time.Time) string { return quoted(t.UTC().Format("2006-01-02T15:04:05.000000Z")) }

// simBatch is the events of a request that had not been sent before.
type simBatch struct {
	events []*simEvent
	sentAt time.Time
	// storedAt is when the request was answered; zero until then.
	storedAt time.Time
}

// payload is what the first requests of a session, that many, come to; "" if nothing is to be sent. asOf is the instant of an incomplete delivery.
func (ss *simSession) payload(requests int, kind engine.Kind, asOf time.Time, shape simShape, preparedAt int64) string {
	complete := kind != engine.KindIncomplete
	own := simFields{"session_id": quoted(ss.id.String()), "event_time": fmt.Sprint(preparedAt), "complete_session": fmt.Sprint(complete)}
	var happened []*simEvent
	for _, b := range ss.batches[:requests] {
		for _, e := range b.events {
			own = own.with(e.own) // the first value stands
			if complete || !e.at.After(asOf) {
				happened = append(happened, e)
			}
		}
	}
	slices.SortStableFunc(happened, func(a, b *simEvent) int { return a.at.Compare(b.at) })
	first := func(kinds ...string) *simEvent {
		at := slices.IndexFunc(happened, func(e *simEvent) bool { return slices.Contains(kinds, e.kind) })
		if at < 0 {
			return nil
		}
		return happened[at]
	}
	start := cmp.Or(first("start", "vote"), happened[0]).at
	own["session_start_date"] = date(start)
	finish, result := first("finish", "result_view"), first("result_view")
	switch {
	case (finish != nil) != complete:
		return ""
	case finish != nil:
		end := cmp.Or(result, finish).at
		if end.Before(start) {
			end = start
		}
		own["session_end_date"] = date(end)
		if result != nil {
			form := maps.Clone(result.form)
			if strings.HasPrefix(form["time_spent"], "-") { // nobody spends less than no time
				delete(form, "time_spent")
			}
			own["result"] = form.with(simFields{"time_spent": fmt.Sprint(int64(end.Sub(start) / time.Millisecond))}).object(
				"result_id", "result_title", "result_image", "result_desc", "time_spent", "right_answer", "calculator_result")
		}
	}
	names := []string{"poltio_user_id", "session_id", "session_start_date", "session_end_date", "publisher_uuid", "custom_id", "event_time",
		"content_type", "content_id", "complete_session"}
	if shape.answers {
		own["answers"] = "[" + strings.Join(standing(happened), ",") + "]"
		names = append(names, "answers")
	}
	names = append(names, "result")
	if shape.leads {
		var leads []string
		for _, e := range happened {
			if e.kind == "lead" {
				names := []string{"user_id", "phone", "email", "name", "comment", "created_at", "tc_checked", "content_type", "content_id"}
				if e.form["addon"] != "" {
					names = append(names, "addon")
				}
				leads = append(leads, e.form.with(simFields{"user_id": own["poltio_user_id"], "created_at": date(e.at), "content_type": own["content_type"]}).
					object(names...))
			}
		}
		own["leads"] = "[" + strings.Join(leads, ",") + "]"
		names = append(names, "leads")
	}
	return own.object(names...)
}

// standing is the questions in the order of their first vote, with those answers that no later undo takes back, in the order of
// their votes, each once.
func standing(happened []*simEvent) (questions []string) {
	asked := map[string]bool{}
	for _, vote := range happened {
		question := vote.about["question_id"]
		if vote.kind != "vote" || asked[question] {
			continue
		}
		asked[question] = true
		title, answers, stands := "null", []string{}, map[string]bool{}
		for i, e := range happened {
			if e.kind != "vote" || e.about["question_id"] != question {
				continue
			}
			if title == "null" {
				title = cmp.Or(e.about["question"], "null")
			}
			for _, a := range e.answers {
				id := a["answer_id"]
				if stands[id] || slices.ContainsFunc(happened[i+1:], func(u *simEvent) bool {
					return u.kind == "undo" && u.about["question_id"] == question && cmp.Or(u.about["answer_id"], id) == id
				}) {
					continue
				}
				stands[id] = true
				names := []string{"answer_id", "answer", "parent"}
				if a["addon"] != "" {
					names = append(names, "addon")
				}
				answers = append(answers, a.object(names...))
			}
		}
		if len(answers) > 0 {
			questions = append(questions, simFields{"question_id": question, "question": title, "answers": "[" + strings.Join(answers, ",") + "]"}.
				object("question_id", "question", "answers"))
		}
	}
	return questions
}

// simShape is the settings that shape a webhook's payloads, and when they were in force; to is zero while they are.
type simShape struct {
	from, to       time.Time
	answers, leads bool
	programs       simPrograms
}

// checkPayload holds a payload against its session and its webhook as they were within the second in which it was prepared. It must have at least so
// many of the session's requests. s.mu is held.
func (s *sim) checkPayload(d *simDelivery, payload string, least int) {
	var p struct{ EventTime int64 }
	var ok bool
	if p.EventTime, ok = eventTimeOf(payload); !ok {
		s.found(simWrong, "payload of %+v: %s", d.simKey, payload)
		return
	}
	ss, now := s.session(d.session), time.Now().UTC()
	from, to := time.Unix(p.EventTime, 0), time.Unix(p.EventTime+1, 0)
	if p.EventTime > now.Unix() || p.EventTime < d.firstDue.Unix() {
		s.found(simWrong, "payload of %+v, due at %v: prepared in the second from %v", d.simKey, d.firstDue, from)
		return
	}
	from = from.Add(-4 * *simSlow)
	within := func(began, ended time.Time) bool { return began.Before(to) && (ended.IsZero() || !ended.Before(from)) }
	want := "nothing"
	d.builtMin, d.builtMax = 0, 0
	for n, b := range ss.batches {
		var ended time.Time
		if n+1 < len(ss.batches) {
			ended = ss.batches[n+1].storedAt
		}
		if !within(b.sentAt, ended) || n+1 < least {
			continue
		}
		for _, shape := range s.hook(d.hook).shapes {
			if within(shape.from, shape.to) {
				if want = ss.payload(n+1, d.kind, d.asOf, shape, p.EventTime); want != "" {
					want = shape.programs.build(want).body
				}
				if want == payload {
					if d.builtMax = n + 1; d.builtMin == 0 {
						d.builtMin = n + 1
					}
					break
				}
			}
		}
	}
	if d.builtMax > 0 {
		s.totals.payloads++
		return
	}
	s.found(simWrong, "payload of %+v:\n%s\nthe model says\n%s", d.simKey, payload, want)
}

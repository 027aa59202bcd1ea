package storetest_test

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// finds breaks Sessions by what it is given and by what it returns.
func finds(ask func(q *engine.SessionQuery), change func(b *broken, q engine.SessionQuery, p *engine.SessionPage, err error) error) func(b *broken) {
	return func(b *broken) {
		b.sessions = func(ctx context.Context, q engine.SessionQuery) (engine.SessionPage, error) {
			if ask != nil {
				ask(&q)
			}
			p, err := b.Store.Sessions(ctx, q)
			if change != nil {
				err = change(b, q, &p, err)
			}
			return p, err
		}
	}
}

// erasesOther breaks Erase by whom it is given.
func erasesOther(change func(what *engine.Erasure)) func(b *broken) {
	return erases(func(ctx context.Context, b *broken, what engine.Erasure, place string) (engine.ErasedStep, error) {
		change(&what)
		return b.Store.Erase(ctx, what, place)
	})
}

// nobody is a person who does not occur.
const nobody = "nobody@example.com"

var personMutants = []mutant{
	{"sessions/filters", "not by content", finds(func(q *engine.SessionQuery) { q.ContentID = uuid.Nil }, nil)},
	{"sessions/filters", "not by state", finds(func(q *engine.SessionQuery) { q.State = "" }, nil)},
	{"sessions/filters", "not by phone beside e-mail", finds(func(q *engine.SessionQuery) {
		if q.Email != "" {
			q.Phone = ""
		}
	}, nil)},
	{"sessions/filters", "a visitor by his own sessions only", finds(nil, func(_ *broken, q engine.SessionQuery, p *engine.SessionPage, err error) error {
		p.Items = slices.DeleteFunc(p.Items, func(h engine.SessionHead) bool { return q.Visitor != nil && *h.Identity.PoltioUserID != *q.Visitor })
		return err
	})},
	{"sessions/filters", "an address that is written otherwise is another", finds(func(q *engine.SessionQuery) { q.Email = strings.ToUpper(q.Email) }, nil)},
	{"sessions/newest first", "the oldest of a page first", finds(nil, func(_ *broken, _ engine.SessionQuery, p *engine.SessionPage, err error) error {
		slices.Reverse(p.Items)
		return err
	})},
	{"sessions/bounds are inclusive", "until before", finds(func(q *engine.SessionQuery) {
		if !q.Until.IsZero() {
			q.Until = q.Until.Add(-1)
		}
	}, nil)},
	{"sessions/bounds are inclusive", "since after", finds(func(q *engine.SessionQuery) { q.Since = q.Since.Add(1) }, nil)},
	{"sessions/bounds are inclusive", "none", finds(func(q *engine.SessionQuery) { q.Since, q.Until = time.Time{}, time.Time{} }, nil)},
	{"sessions/cursor goes on while sessions begin", "the last one again", func(b *broken) {
		var last *engine.SessionHead
		finds(nil, func(_ *broken, q engine.SessionQuery, p *engine.SessionPage, err error) error {
			if q.Cursor != "" && last != nil && len(p.Items) > 0 {
				p.Items[0] = *last
			}
			if len(p.Items) > 0 {
				last = new(p.Items[len(p.Items)-1])
			}
			return err
		})(b)
	}},
	{"sessions/what is no cursor is refused", "the first page", func(b *broken) {
		b.sessions = func(ctx context.Context, q engine.SessionQuery) (engine.SessionPage, error) {
			p, err := b.Store.Sessions(ctx, q)
			if err != nil {
				q.Cursor = ""
				return b.Store.Sessions(ctx, q)
			}
			return p, err
		}
	}},

	{"erase/a person", "not by phone", erasesOther(func(what *engine.Erasure) {
		if what.Phone != "" {
			what.Phone, what.Email = "", nobody
		}
	})},
	{"erase/a person", "whoever shares an address", func(b *broken) {
		erases(func(ctx context.Context, b *broken, what engine.Erasure, place string) (engine.ErasedStep, error) {
			if what.Email != "" && place == "" {
				b.eraseAll(ctx, engine.Erasure{Email: what.Email + ".tr"})
			}
			return b.Store.Erase(ctx, what, place)
		})(b)
	}},
	{"erase/a person's deliveries of expired sessions", "they stay", erased(func(step *engine.ErasedStep) {
		if strings.HasPrefix(step.Next, "d") {
			step.Next = ""
		}
	})},
	{"erase/a dry run", "it is none", erasesOther(func(what *engine.Erasure) { what.DryRun = false })},
	{"erase/a dry run", "the sessions alone", erases(func(ctx context.Context, b *broken, what engine.Erasure, place string) (engine.ErasedStep, error) {
		step, err := b.Store.Erase(ctx, what, place)
		if what.DryRun {
			step.Erased.Attempts, step.Erased.Deliveries = 0, 0
		}
		return step, err
	})},
	{"erase/outlives the process", "it does not", maintained(func(m *engine.Maintained, _ time.Time) { m.Erasures = nil })},
	{"erase/outlives the process", "without its counts", maintained(func(m *engine.Maintained, _ time.Time) {
		for i := range m.Erasures {
			m.Erasures[i].Erased = engine.Erased{}
		}
	})},
	{"erase/outlives the process", "given at each call", func(b *broken) {
		var left []engine.UnfinishedErasure
		maintained(func(m *engine.Maintained, _ time.Time) {
			left = append(left, m.Erasures...)
			m.Erasures = left
		})(b)
	}},
	{"erase/for a request with a key", "not remembered", erasesOther(func(what *engine.Erasure) { what.Once = nil })},
	{"erase/for a request with a key", "never complete", done(func(_ *broken, d *engine.Done, err error) error {
		d.Erased = nil
		return err
	})},
	{"erase/for a request with a key", "complete at once", done(func(_ *broken, d *engine.Done, err error) error {
		d.Erased = new(engine.Erased)
		return err
	})},
}

// What experiments build into the binary as a further command, as a file of internal/cli: they need the storage, and mutants of it, without
// the server around it.

package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"hookbolt/engine"
	"hookbolt/storage/bolt"
)

func init() {
	commands = append(commands, command{name: "torture-append", run: tortureAppend})
}

// tortureAppend opens the database that the first argument names and stores sessions one after the other, numbered from the
// second argument on, as many as the third says. Every second one is delivered. It tells each step on stdout once it is durable:
// "open", "ack SESSION", "done DELIVERY", "closed"; and "error", after which it goes on unless the store has failed.
func tortureAppend(ctx context.Context, p *Program, args []string) error {
	from, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	count, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	s, err := bolt.Open(args[0], bolt.Options{})
	if err != nil {
		return err
	}
	fmt.Fprintln(p.Stdout, "open")
	for n := from; n < from+count; n++ {
		if err := tortureStep(ctx, s, n, p.Stdout); err != nil {
			fmt.Fprintln(p.Stdout, "error", err)
			if s.Err() != nil {
				return err
			}
		}
	}
	if err := s.Close(); err != nil {
		return err
	}
	fmt.Fprintln(p.Stdout, "closed")
	return nil
}

func tortureStep(ctx context.Context, s *bolt.Store, n int, stdout io.Writer) error {
	if s.Webhooks().Get(1) == nil {
		w := engine.Webhook{URL: "https://a.example/", Active: true, Secret: "whsec_MfKQ9r8GKYqTwjUPD8ILPZIo2LaLaSw4VXTqUm6qyHA="}
		if _, err := s.PutWebhook(ctx, engine.WebhookChange{Webhook: w}); err != nil {
			return err
		}
	}
	id := fmt.Sprintf("00000000-0000-4000-8000-%012x", n)
	now := time.Now().UTC().Round(0)
	events, err := engine.ParseEvents(fmt.Appendf(nil, `{"type":"start","session_id":%q,"content_id":"6caaa000-2bd8-4b28-8b9b-bfe1fca94f39",
		"content_type":"quiz","poltio_user_id":1}{"type":"vote","session_id":%[1]q,"question_id":1,"answer_id":2}{"type":"finish","session_id":%[1]q}`, id), now)
	if err != nil {
		return err
	}
	if _, err := s.AppendEvents(ctx, engine.NewAppend(events, time.Now().UTC().Round(0))); err != nil {
		return err
	}
	fmt.Fprintln(stdout, "ack", id)
	if n%2 == 0 {
		return nil
	}
	takes, err := s.ClaimDue(ctx, now.Add(time.Minute), []engine.ClaimRequest{{Lane: engine.Lane{WebhookID: 1}, Room: 1}})
	if err != nil {
		return err
	}
	for _, taken := range takes[0].Claimed {
		d := taken.Delivery
		if d.Status == engine.StatusScheduled {
			f := engine.Freeze{Delivery: d, Payload: []byte(`{}`), Events: taken.Session.Head.Events, At: now}
			if _, err := s.Freeze(ctx, f); err != nil {
				return err
			}
		}
		if _, err := s.RecordAttempt(ctx, engine.AttemptRecord{Delivery: d, Attempt: engine.Attempt{Outcome: engine.Outcome{Status: 200}}, At: now,
			Next: engine.Next{Status: engine.StatusDelivered}}); err != nil {
			return err
		}
		fmt.Fprintln(stdout, "done", d.ID)
	}
	return nil
}

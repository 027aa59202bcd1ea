package demo

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"hookbolt/internal/client"
	"hookbolt/internal/receiver"
)

// delivery has the fields of a delivery that the demo reads.
type delivery struct {
	ID       string    `json:"id"`
	Status   string    `json:"status"`
	DueAt    time.Time `json:"due_at"`
	Attempts []struct {
		StartedAt time.Time `json:"started_at"`
	} `json:"attempts"`
}

// settle waits until no delivery is scheduled or pending, at most for arrivalTimeout.
func (d *demonstration) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, d.pace.arrivalTimeout)
	defer cancel()
	for {
		waiting := 0
		for _, status := range []string{"scheduled", "pending"} {
			list, err := client.List[delivery](ctx, d.client, "/v1/deliveries?status="+status)
			if err != nil {
				return // summary reports what is missing
			}
			waiting += len(list)
		}
		if waiting == 0 {
			return
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return
		}
	}
}

// summary prints the results, and returns an error if a webhook was missing, wrong or unexpected.
func (d *demonstration) summary(ctx context.Context, events int, took time.Duration) error {
	deliveries, err := client.List[delivery](ctx, d.client, "/v1/deliveries")
	if err != nil {
		return err
	}
	var lags []time.Duration
	for _, listed := range deliveries {
		var one delivery
		if err := d.client.Call(ctx, http.MethodGet, "/v1/deliveries/"+listed.ID, nil, &one); err != nil {
			return err
		}
		if len(one.Attempts) > 0 {
			lags = append(lags, one.Attempts[0].StartedAt.Sub(one.DueAt))
		}
	}
	slices.Sort(lags)

	kinds := make(map[string]int)
	attempts := 0
	d.mu.Lock()
	for a, t := range d.arrived {
		kinds[a.kind] += t.delivered
		attempts += t.attempts
	}
	d.mu.Unlock()
	fmt.Fprintf(d.out, "%d sessions played, %d events posted, in %s (%d times faster than recorded)\n",
		len(d.sessions), events, took.Round(100*time.Millisecond), d.pace.factor)
	fmt.Fprintf(d.out, "%d webhooks delivered in %d attempts: %d complete, %d incomplete\n",
		kinds["complete"]+kinds["incomplete"], attempts, kinds["complete"], kinds["incomplete"])
	if len(lags) > 0 {
		fmt.Fprintf(d.out, "From due to the first attempt: median %s, maximum %s\n",
			lags[len(lags)/2].Round(10*time.Microsecond), lags[len(lags)-1].Round(10*time.Microsecond))
	}
	if wrong := d.verdict(); len(wrong) > 0 {
		return fmt.Errorf("demo: %s", strings.Join(wrong, "; "))
	}
	fmt.Fprintln(d.out, "Every signature was valid. No webhook was missing, none was delivered twice.")
	return nil
}

// sampleSecret is the secret of the webhook in the commands that invite prints.
const sampleSecret = "whsec_aG9va2JvbHQsIGEgc2VjcmV0IHRvIHBsYXkgd2l0aCE="

// invite prints commands to try while the server keeps running.
func (d *demonstration) invite() {
	d.mux.Handle("/mine", receiver.New(d.out, receiver.Options{Secret: sampleSecret}))
	fmt.Fprintf(d.out, `
The server runs until Ctrl-C. Open %[1]s/ in a browser, or run these commands in another terminal:

curl -s %[1]s/v1/webhooks -d '{"name": "mine", "url": "%[2]s/mine", "secret": "%[3]s", "delay": 1}'

curl -s %[1]s/v1/events -d '
{"session_id": "5f0c7d3e-8a51-4c7e-9d5b-0a1b2c3d4e5f", "type": "start", "content_id": "0b7e6a52-3f0d-4a53-8f0e-6f2b9c1d7a10", "content_type": "quiz", "poltio_user_id": 7}
{"session_id": "5f0c7d3e-8a51-4c7e-9d5b-0a1b2c3d4e5f", "type": "vote", "question_id": 1, "question": "Which way?", "answer_id": 11, "answer": "This way"}
{"session_id": "5f0c7d3e-8a51-4c7e-9d5b-0a1b2c3d4e5f", "type": "finish"}'

curl -s '%[1]s/v1/deliveries?limit=3'
`, d.client.Base(), d.endpoints, sampleSecret)
}

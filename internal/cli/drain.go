package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"time"

	"hookbolt/internal/client"
)

// drainPoll is how often drain asks how far the process is.
const drainPoll = 200 * time.Millisecond

// drainState is the answer of /v1/drain.
type drainState struct {
	Draining   bool `json:"draining"`
	Lanes      int  `json:"lanes"`
	Free       int  `json:"free"`
	Background bool `json:"background"`
	Others     int  `json:"others"`
}

// drain has a running server give its lanes to others, and waits until they have them; or has it take part again.
func drain(ctx context.Context, p *Program, args []string) error {
	flags := flag.NewFlagSet("drain", flag.ContinueOnError)
	connect := clientFlags(flags)
	undo := flags.Bool("undo", false, "have the server take part again")
	timeout := flags.Duration("timeout", 5*time.Minute, "fail if the lanes are not given away after `DURATION`; the server goes on with that")
	if err := p.parseFlags(flags, args, "Takes a running server out of its fleet without ending it: it is not ready any more, and gives its webhooks to the other\n"+
		"servers on the same PostgreSQL, each once its attempts in flight have ended. The command waits for that and prints how many\n"+
		"there were. -url must lead to that one server, not to a balancer. A restart ends it, as -undo does."); err != nil {
		return err
	}
	c, err := connect()
	if err != nil {
		return err
	}
	defer c.Close()
	if *undo {
		if err := c.Call(ctx, http.MethodDelete, "/v1/drain", nil, nil); err != nil {
			return fmt.Errorf("drain: %w", err)
		}
		_, err := fmt.Fprintln(p.Stdout, "it takes part again")
		return err
	}
	given, state, err := awaitDrain(ctx, c, *timeout)
	if err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	_, err = fmt.Fprintf(p.Stdout, "drained: it gave away the lanes of %d webhooks; other servers: %d\n", given, state.Others)
	return err
}

// awaitDrain has a server drain and waits until others have what it had. It returns how many webhooks' lanes it had.
func awaitDrain(ctx context.Context, c *client.Client, timeout time.Duration) (given int, state drainState, err error) {
	if err := c.Call(ctx, http.MethodPost, "/v1/drain", nil, &state); err != nil {
		return 0, state, err
	}
	given = state.Lanes
	for end := time.Now().Add(timeout); state.Lanes+state.Free > 0 || state.Background; {
		if state.Others == 0 {
			return given, state, fmt.Errorf("no other server is left that could take the lanes of %d webhooks: this one delivers again, and is ready, until there is another one", state.Lanes+state.Free)
		}
		if time.Now().After(end) {
			return given, state, fmt.Errorf("after %s the server still has the lanes of %d webhooks, and %d have no owner; it goes on giving them away", timeout, state.Lanes, state.Free)
		}
		select {
		case <-ctx.Done():
			return given, state, context.Cause(ctx)
		case <-time.After(drainPoll):
		}
		if err := c.Call(ctx, http.MethodGet, "/v1/drain", nil, &state); err != nil {
			return given, state, err
		}
		if !state.Draining {
			return given, state, errors.New("the server takes part again: somebody has undone the drain, or it was restarted")
		}
	}
	return given, state, nil
}

package webhookfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"hookbolt/internal/client"
)

// signs are what the lines of actions begin with.
var signs = map[action]string{actionCreate: "+ create", actionChange: "~ change", actionDelete: "- delete"}

// print writes a step for people.
func (s *step) print(w io.Writer) {
	switch s.action {
	case actionNone:
		fmt.Fprintf(w, "= %s unchanged\n", s.label)
		return
	case actionConfirm:
		fmt.Fprintf(w, "? %s unchanged, unless these are others, which the server does not show: %s\n", s.label, strings.Join(s.lines, ", "))
		return
	}
	cost := ""
	if s.cost != "" {
		cost = " (" + s.cost + ")"
	}
	fmt.Fprintf(w, "%s %s%s\n", signs[s.action], s.label, cost)
	for _, line := range s.lines {
		fmt.Fprintf(w, "    %s\n", line)
	}
}

// Print writes the plan for people, as a dry run.
func (p *Plan) Print(w io.Writer) {
	n := make(map[action]int)
	for _, s := range p.steps {
		s.print(w)
		n[s.action]++
	}
	fmt.Fprintf(w, "Dry run: %d to create, %d to change, %d to delete, %d unchanged", n[actionCreate], n[actionChange], n[actionDelete], n[actionNone])
	if n[actionConfirm] > 0 {
		fmt.Fprintf(w, ", %d perhaps unchanged", n[actionConfirm])
	}
	fmt.Fprintf(w, ".%s\n", p.leftAlone())
}

// Pending reports whether something is certain to change: credentials that the server may have already do not count.
func (p *Plan) Pending() bool {
	return slices.ContainsFunc(p.steps, func(s *step) bool { return s.action != actionNone && s.action != actionConfirm })
}

// leftAlone says how many webhooks stay although they are not in the file.
func (p *Plan) leftAlone() string {
	if p.unmanaged == 0 {
		return ""
	}
	return fmt.Sprintf(" On the server and not in the file: %d (-prune deletes them).", p.unmanaged)
}

// Apply carries out the plan, one webhook after the other, and prints each when it is done. It stops at the first failure: what was done
// stays done, and another run does the rest.
func (p *Plan) Apply(ctx context.Context, c *client.Client, w io.Writer) error {
	n := make(map[action]int)
	var failure error
	for i, s := range p.steps {
		if failure = s.apply(ctx, c); failure != nil {
			failure = fmt.Errorf("%s %s: %w", s.action, s.label, failure)
			for _, rest := range p.steps[i:] {
				if rest.action != actionNone {
					fmt.Fprintf(w, "! not done: %s %s\n", rest.action, rest.label)
				}
			}
			break
		}
		s.print(w)
		n[s.action]++
	}
	fmt.Fprintf(w, "%d created, %d changed, %d deleted, %d unchanged.%s\n", n[actionCreate], n[actionChange], n[actionDelete], n[actionNone], p.leftAlone())
	return failure
}

// apply carries out one step. Afterwards the step says what was done.
func (s *step) apply(ctx context.Context, c *client.Client) error {
	path := fmt.Sprintf("/v1/webhooks/%d", s.id)
	switch s.action {
	case actionCreate:
		var made servedWebhook
		if err := c.Call(ctx, http.MethodPost, "/v1/webhooks", s.settings, &made); err != nil {
			return s.want.refusal(err)
		}
		s.label = made.label()
		if s.settings["secret"] == nil {
			s.lines = append(s.lines, fmt.Sprintf("secret: made; GET /v1/webhooks/%d/secret shows it", made.ID))
		}
	case actionChange, actionConfirm:
		// The file has the whole of each setting that is sent, and the server does not show which members of one are set.
		var now servedWebhook
		if err := c.Call(ctx, http.MethodPatch, path+"?replace=true", s.settings, &now); err != nil {
			return s.want.refusal(err)
		}
		if s.action == actionConfirm {
			s.action = actionNone
			if !now.UpdatedAt.Equal(s.updatedAt) {
				s.action, s.lines = actionChange, []string{strings.Join(s.lines, ", ") + ": another value (not shown)"}
			}
		}
	case actionDelete:
		err := c.Call(ctx, http.MethodDelete, path, nil, nil)
		if gone, ok := errors.AsType[*client.StatusError](err); ok && gone.Status == http.StatusNotFound {
			return nil // somebody else was faster
		}
		return err
	}
	return nil
}

// refusal returns a server's refusal for people. It lacks what the server says of hidden values: its words may show the value, or a part of it
// such as a URL's host. Of programs it shows the place.
func (w *Webhook) refusal(err error) error {
	refused, ok := errors.AsType[*client.StatusError](err)
	if !ok {
		return err
	}
	redacted, places := *refused, ""
	redacted.Errors = slices.Clone(refused.Errors)
	for i, e := range redacted.Errors {
		if w.hides(e.Field) {
			redacted.Errors[i].Detail = "the server refuses the value; its reason is not shown, as the value comes from a variable or a file"
			if setting, _, _ := strings.Cut(e.Field, "."); setting == "url" || setting == "oauth2" {
				redacted.Errors[i].Detail += ". If it is a private address, name it in allow_networks"
			}
			redacted.Errors[i].Line, redacted.Errors[i].Column = 0, 0
			continue
		}
		places += w.placeOf(e)
		if file := w.ProgramFiles[e.Field]; file != "" {
			redacted.Errors[i].Field += " (" + file + ")"
		}
	}
	if places != "" {
		return fmt.Errorf("%w%s", &redacted, places)
	}
	return &redacted
}

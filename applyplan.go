package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"hookbolt/engine"
)

// servedWebhook is a webhook as the API shows it: without its secrets, and of its credentials only that they are set.
type servedWebhook struct {
	engine.Webhook
	Headers   map[string]bool `json:"headers"`
	BasicAuth *bool           `json:"basic_auth"`
	OAuth2    *bool           `json:"oauth2"`
}

// servedWebhooks lists a server's webhooks, but for that of operational events, which is its configuration's.
func servedWebhooks(ctx context.Context, c *client) ([]*servedWebhook, error) {
	all, err := list[*servedWebhook](ctx, c, "/v1/webhooks")
	return slices.DeleteFunc(all, func(s *servedWebhook) bool { return s.Operations }), err
}

// label names a webhook of the server: the id tells those apart that have the same name, or none.
func (s *servedWebhook) label() string { return fmt.Sprintf("%q (id %d)", s.Name, s.ID) }

// has tells which of credentialTables are set.
func (s *servedWebhook) has(setting string) bool {
	switch setting {
	case "headers":
		return len(s.Headers) > 0
	case "basic_auth":
		return s.BasicAuth != nil
	}
	return s.OAuth2 != nil
}

// plainSettings are the settings that the API shows, in the order in which people are told of them; the name, which webhooks are told
// apart by, is not among them.
var plainSettings = []string{"url", "content_id", "active", "paused", "delay", "send_answers", "send_leads", "send_incomplete", "incomplete_delay",
	"timeout", "max_in_flight", "retry_schedule", "rate_limit", "allow_networks"}

// plainValues returns them by name, as JSON; null for what is not set.
func plainValues(w *engine.Webhook) map[string]json.RawMessage {
	all, values := make(map[string]json.RawMessage), make(map[string]json.RawMessage)
	if err := json.Unmarshal(writeJSON(w), &all); err != nil {
		panic(err) // it was just written
	}
	for _, name := range plainSettings {
		if values[name] = all[name]; values[name] == nil {
			values[name] = json.RawMessage("null")
		}
	}
	return values
}

// shownValue is a setting's value for people.
func shownValue(v json.RawMessage) string {
	if string(v) == "null" {
		return "not set"
	}
	return oneLine(string(v))
}

// action is what is done to a webhook.
type action string

const (
	actionCreate action = "create"
	actionChange action = "change"
	actionDelete action = "delete"
	// actionConfirm sends the credentials that the server has already, or others: it does not tell which. Nothing else is to be changed.
	actionConfirm action = "send the credentials of"
	actionNone    action = "none"
)

// step is what is done to one webhook.
type step struct {
	action action
	label  string
	id     uint32 // 0 where it is made
	// lines tell what changes, a setting each.
	lines []string
	// cost is what is lost by it; "" if nothing is.
	cost string
	// settings are sent: all that the file gives for a webhook that is made, else those that change, and credentials.
	settings map[string]json.RawMessage
	// updatedAt is when the webhook had last been changed.
	updatedAt time.Time
}

// webhookPlan is all that is done to a server's webhooks, in this order.
type webhookPlan struct {
	steps []*step
	// unmanaged is how many webhooks are not in the file and stay.
	unmanaged int
}

// makePlan compares what a file wants with what a server has, and changes nothing. The error is a fileProblems where the file does not
// fit the server.
func makePlan(ctx context.Context, c *client, hooks []*wantedWebhook, prune bool) (*webhookPlan, error) {
	all, err := servedWebhooks(ctx, c)
	if err != nil {
		return nil, err
	}
	byName := make(map[string][]*servedWebhook)
	for _, s := range all {
		byName[s.Name] = append(byName[s.Name], s)
	}
	plan := new(webhookPlan)
	var problems fileProblems
	for _, want := range hooks {
		present := byName[want.Settings.Name]
		delete(byName, want.Settings.Name)
		var s *step
		switch len(present) {
		case 0:
			s, err = planCreation(want)
		case 1:
			s, err = planChange(ctx, c, want, present[0])
		default:
			var ids []string
			for _, p := range present {
				ids = append(ids, fmt.Sprint(p.ID))
			}
			err = fileProblems{fmt.Sprintf("webhook %q: the server has several of that name, with the ids %s: give them names of their own, or delete all but one",
				want.Settings.Name, strings.Join(ids, ", "))}
		}
		if bad, ok := errors.AsType[fileProblems](err); ok {
			problems = append(problems, bad...)
			continue
		}
		if err != nil {
			return nil, err
		}
		plan.steps = append(plan.steps, s)
	}
	for _, s := range all {
		switch {
		case byName[s.Name] == nil:
		case !prune:
			plan.unmanaged++
		default:
			cost, err := costOfCancelling(ctx, c, s.ID)
			if err != nil {
				return nil, err
			}
			deletion := &step{action: actionDelete, label: s.label(), id: s.ID, cost: cost}
			if s.Name == "" {
				deletion.lines = []string{"url: " + shownValue(plainValues(&s.Webhook)["url"])}
			}
			plan.steps = append(plan.steps, deletion)
		}
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return plan, nil
}

// planCreation plans a webhook that the server does not have.
func planCreation(want *wantedWebhook) (*step, error) {
	s := &step{action: actionCreate, label: fmt.Sprintf("%q", want.Settings.Name), settings: want.JSON}
	var problems fileProblems
	for _, setting := range slices.Sorted(maps.Keys(want.Keep)) {
		problems = append(problems, fmt.Sprintf("webhook %q: %s: keep = true, but the server has no such webhook: give the values", want.Settings.Name, setting))
	}
	values := plainValues(&want.Settings)
	for _, name := range plainSettings {
		switch {
		case !want.given(name):
		case want.Hidden[name]:
			s.lines = append(s.lines, name+": set (not shown)")
		default:
			s.lines = append(s.lines, name+": "+shownValue(values[name]))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want.Settings.Headers)) {
		s.lines = append(s.lines, "headers."+name+": set (not shown)")
	}
	for _, name := range []string{"basic_auth", "oauth2", "secret"} {
		if want.given(name) {
			s.lines = append(s.lines, name+": set (not shown)")
		}
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return s, nil
}

// planChange plans what is to be changed on a webhook of the server.
func planChange(ctx context.Context, c *client, want *wantedWebhook, present *servedWebhook) (*step, error) {
	s := &step{action: actionNone, label: fmt.Sprintf("%q", present.Name), id: present.ID, settings: make(map[string]json.RawMessage), updatedAt: present.UpdatedAt}
	before, after := plainValues(&present.Webhook), plainValues(&want.Settings)
	for _, name := range plainSettings {
		switch {
		case string(before[name]) == string(after[name]), name == "paused" && !want.given(name):
			continue
		case want.Hidden[name]:
			s.lines = append(s.lines, name+": another value (not shown)")
		default:
			s.lines = append(s.lines, fmt.Sprintf("%s: %s -> %s", name, shownValue(before[name]), shownValue(after[name])))
		}
		s.settings[name] = after[name]
	}
	unknown, err := s.planCredentials(want, present)
	if err != nil {
		return nil, err
	}
	if want.given("secret") {
		var now struct {
			Secret engine.Secret `json:"secret"`
		}
		if err := c.call(ctx, http.MethodGet, fmt.Sprintf("/v1/webhooks/%d/secret", present.ID), nil, &now); err != nil {
			return nil, err
		}
		// The one that it has is not sent: that would end the overlap of a rotation.
		if now.Secret != want.Settings.Secret {
			s.lines = append(s.lines, "secret: another one (not shown), which signs alone from then on")
			s.settings["secret"] = want.JSON["secret"]
		}
	}
	switch {
	case len(s.lines) > 0:
		s.action = actionChange
		if len(unknown) > 0 {
			s.lines = append(s.lines, strings.Join(unknown, ", ")+": sent again (not shown)")
		}
	case len(unknown) > 0:
		s.action, s.lines = actionConfirm, unknown
	}
	switch {
	case present.Active && !want.Settings.Active:
		s.cost, err = costOfCancelling(ctx, c, present.ID)
	case present.SendIncomplete && !want.Settings.SendIncomplete, want.Settings.ContentID != nil && s.settings["content_id"] != nil:
		s.cost = "what waits and no longer fits is cancelled"
	}
	return s, err
}

// planCredentials plans what is to be sent of credentials, and returns those of which nobody can tell whether they change.
func (s *step) planCredentials(want *wantedWebhook, present *servedWebhook) (unknown []string, err error) {
	for _, setting := range credentialTables {
		if want.Keep[setting] {
			if !present.has(setting) {
				return nil, fileProblems{fmt.Sprintf("webhook %q: %s: keep = true, but on the server it has none: give the values", present.Name, setting)}
			}
			continue
		}
		if setting == "headers" {
			for _, name := range slices.Sorted(maps.Keys(want.Settings.Headers)) {
				if present.Headers[name] {
					unknown = append(unknown, "headers."+name)
				} else {
					s.lines = append(s.lines, "headers."+name+": set (not shown)")
				}
			}
			for _, name := range slices.Sorted(maps.Keys(present.Headers)) {
				if _, ok := want.Settings.Headers[name]; !ok {
					s.lines = append(s.lines, "headers."+oneLine(name)+": removed")
				}
			}
		} else {
			switch {
			case want.given(setting) && present.has(setting):
				unknown = append(unknown, setting)
			case want.given(setting):
				s.lines = append(s.lines, setting+": set (not shown)")
			case present.has(setting):
				s.lines = append(s.lines, setting+": removed")
			}
		}
		switch {
		case want.given(setting):
			s.settings[setting] = want.JSON[setting]
		case present.has(setting):
			s.settings[setting] = json.RawMessage("null")
		}
	}
	return unknown, nil
}

// costOfCancelling says how much waits for a webhook.
func costOfCancelling(ctx context.Context, c *client, id uint32) (string, error) {
	var hook struct {
		Deliveries struct {
			Scheduled int64 `json:"scheduled"`
			Pending   int64 `json:"pending"`
		} `json:"deliveries"`
	}
	if err := c.call(ctx, http.MethodGet, fmt.Sprintf("/v1/webhooks/%d", id), nil, &hook); err != nil {
		return "", err
	}
	switch n := hook.Deliveries.Scheduled + hook.Deliveries.Pending; n {
	case 0:
		return "nothing waits for it", nil
	case 1:
		return "1 delivery waits and is cancelled", nil
	default:
		return fmt.Sprintf("%d deliveries wait and are cancelled", n), nil
	}
}

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

// print writes the plan for people, and returns errPending if there is something to do.
func (p *webhookPlan) print(w io.Writer) error {
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
	if n[actionCreate]+n[actionChange]+n[actionDelete] > 0 {
		return errPending
	}
	return nil
}

// leftAlone tells of the webhooks that stay although they are not in the file.
func (p *webhookPlan) leftAlone() string {
	if p.unmanaged == 0 {
		return ""
	}
	return fmt.Sprintf(" On the server and not in the file: %d (-prune deletes them).", p.unmanaged)
}

// carryOut does what is planned, one webhook after the other, and tells of each once it is done. It ends with the first that fails: what
// was done before stays, and the rest is done by another run.
func (p *webhookPlan) carryOut(ctx context.Context, c *client, w io.Writer) error {
	n := make(map[action]int)
	var failure error
	for i, s := range p.steps {
		if failure = s.carryOut(ctx, c); failure != nil {
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

// carryOut does one step. Afterwards the step says what was done.
func (s *step) carryOut(ctx context.Context, c *client) error {
	path := fmt.Sprintf("/v1/webhooks/%d", s.id)
	switch s.action {
	case actionCreate:
		var made servedWebhook
		if err := c.call(ctx, http.MethodPost, "/v1/webhooks", s.settings, &made); err != nil {
			return err
		}
		s.label = made.label()
		if s.settings["secret"] == nil {
			s.lines = append(s.lines, fmt.Sprintf("secret: made; GET /v1/webhooks/%d/secret shows it", made.ID))
		}
	case actionChange, actionConfirm:
		var now servedWebhook
		if err := c.call(ctx, http.MethodPatch, path, s.settings, &now); err != nil {
			return err
		}
		if s.action == actionConfirm {
			s.action = actionNone
			if !now.UpdatedAt.Equal(s.updatedAt) {
				s.action, s.lines = actionChange, []string{strings.Join(s.lines, ", ") + ": another value (not shown)"}
			}
		}
	case actionDelete:
		err := c.call(ctx, http.MethodDelete, path, nil, nil)
		if gone, ok := errors.AsType[*answerError](err); ok && gone.Status == http.StatusNotFound {
			return nil // somebody else was faster
		}
		return err
	}
	return nil
}

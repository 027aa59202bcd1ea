package webhookfile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"hookbolt/engine"
	"hookbolt/internal/client"
	"hookbolt/internal/text"
)

// action is what is done to a webhook.
type action string

const (
	actionCreate action = "create"
	actionChange action = "change"
	actionDelete action = "delete"
	// actionConfirm sends credentials, and changes nothing else. The server does not show whether it has the same ones already.
	actionConfirm action = "send the credentials of"
	actionNone    action = "none"
)

// step is what is done to one webhook.
type step struct {
	action action
	label  string
	id     uint32   // 0 where it is made
	want   *Webhook // nil where it is deleted
	// lines say what changes, one setting each.
	lines []string
	// cost says what is lost; "" if nothing is.
	cost string
	// settings are sent: for a new webhook all that the file has, otherwise those that change, and credentials.
	settings map[string]json.RawMessage
	// updatedAt is when the webhook was last changed before this step.
	updatedAt time.Time
}

// Plan is everything that is done to a server's webhooks, in this order.
type Plan struct {
	steps []*step
	// unmanaged is how many webhooks are not in the file and stay.
	unmanaged int
}

// PlanOptions are how a plan is made.
type PlanOptions struct {
	// Prune deletes the webhooks that are not in the file.
	Prune bool
}

// NewPlan compares what a file wants with what a server has, and changes nothing. The error is Problems where the file does not fit the
// server.
func NewPlan(ctx context.Context, c *client.Client, hooks []*Webhook, o PlanOptions) (*Plan, error) {
	all, err := servedWebhooks(ctx, c)
	if err != nil {
		return nil, err
	}
	byName := make(map[string][]*servedWebhook)
	for _, s := range all {
		byName[s.Name] = append(byName[s.Name], s)
	}
	plan := new(Plan)
	var problems Problems
	for _, want := range hooks {
		s, err := planWebhook(ctx, c, want, byName[want.Settings.Name])
		delete(byName, want.Settings.Name)
		if bad, ok := errors.AsType[Problems](err); ok {
			problems = append(problems, bad...)
			continue
		}
		if err != nil {
			return nil, err
		}
		plan.steps = append(plan.steps, s)
		if err := s.tryPrograms(ctx, c); err != nil {
			bad, ok := errors.AsType[Problems](err)
			if !ok {
				return nil, err
			}
			problems = append(problems, bad...)
		}
	}
	for _, s := range all {
		switch {
		case byName[s.Name] == nil:
		case !o.Prune:
			plan.unmanaged++
		default:
			deletion, err := planDeletion(ctx, c, s)
			if err != nil {
				return nil, err
			}
			plan.steps = append(plan.steps, deletion)
		}
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return plan, nil
}

// planWebhook plans what is done for a webhook of the file; present are those of its name on the server.
func planWebhook(ctx context.Context, c *client.Client, want *Webhook, present []*servedWebhook) (*step, error) {
	switch len(present) {
	case 0:
		return planCreation(want)
	case 1:
		return planChange(ctx, c, want, present[0])
	}
	var ids []string
	for _, p := range present {
		ids = append(ids, fmt.Sprint(p.ID))
	}
	return nil, Problems{fmt.Sprintf("webhook %q: the server has several of that name, with the ids %s: give them names of their own, or delete all but one",
		want.Settings.Name, strings.Join(ids, ", "))}
}

// planDeletion plans the end of a webhook of the server.
func planDeletion(ctx context.Context, c *client.Client, present *servedWebhook) (*step, error) {
	cost, err := costOfCancelling(ctx, c, present.ID)
	if err != nil {
		return nil, err
	}
	deletion := &step{action: actionDelete, label: present.label(), id: present.ID, cost: cost}
	if present.Name == "" {
		deletion.lines = []string{"url: " + shownValue(engine.SettingNamed("url"), &present.Webhook)}
	}
	return deletion, nil
}

// planCreation plans a webhook that the server does not have.
func planCreation(want *Webhook) (*step, error) {
	s := &step{action: actionCreate, label: fmt.Sprintf("%q", want.Settings.Name), want: want, settings: want.JSON}
	var problems Problems
	for _, setting := range slices.Sorted(maps.Keys(want.Keep)) {
		problems = append(problems, fmt.Sprintf("webhook %q: %s: keep = true, but the server has no such webhook: give the values", want.Settings.Name, setting))
	}
	for _, setting := range plainSettings {
		switch name := setting.Name; {
		case !want.given(name):
		case want.hides(name):
			s.lines = append(s.lines, name+": set (not shown)")
		case setting.Program:
			none := engine.DefaultWebhook()
			s.lines = append(s.lines, want.changedProgram(setting, &none, &want.Settings)...)
		default:
			s.lines = append(s.lines, name+": "+shownValue(setting, &want.Settings))
		}
	}
	for _, setting := range credentialSettings {
		names, isObject := setting.Get(&want.Settings).(map[string]bool)
		if want.given(setting.Name) && !isObject {
			s.lines = append(s.lines, want.credentialSet(setting))
		}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			s.lines = append(s.lines, setting.Name+"."+name+": set (not shown)")
		}
	}
	for _, setting := range partlySettings {
		switch name := setting.Name; {
		case !want.given(name):
		case want.hidesShown(setting):
			s.lines = append(s.lines, name+": set (not shown)")
		default:
			s.lines = append(s.lines, name+": "+shownValue(setting, &want.Settings))
		}
	}
	if want.given("secret") {
		s.lines = append(s.lines, "secret: set (not shown)")
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return s, nil
}

// planChange plans what is to be changed on a webhook of the server.
func planChange(ctx context.Context, c *client.Client, want *Webhook, present *servedWebhook) (*step, error) {
	s := &step{action: actionNone, label: fmt.Sprintf("%q", present.Name), id: present.ID, want: want, settings: make(map[string]json.RawMessage), updatedAt: present.UpdatedAt}
	for _, setting := range plainSettings {
		name, after := setting.Name, setting.JSON(&want.Settings)
		switch {
		case string(setting.JSON(&present.Webhook)) == string(after), setting.KeptByFile && !want.given(name):
			continue
		case want.hides(name):
			s.lines = append(s.lines, name+": another value (not shown)")
		case setting.Program:
			s.lines = append(s.lines, want.changedProgram(setting, &present.Webhook, &want.Settings)...)
		default:
			s.lines = append(s.lines, fmt.Sprintf("%s: %s -> %s", name, shownValue(setting, &present.Webhook), shownValue(setting, &want.Settings)))
		}
		s.settings[name] = after
	}
	unknown, err := s.planCredentials(want, present)
	if err != nil {
		return nil, err
	}
	if err := s.planSignature(ctx, c, want, present); err != nil {
		return nil, err
	}
	if want.given("secret") {
		now, err := secretsOf(ctx, c, present.ID)
		if err != nil {
			return nil, err
		}
		// Do not send the secret that the server has already: that would end the overlap of a rotation.
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
	for _, ends := range engine.Cancellations(&present.Webhook, &want.Settings) {
		s.cost = "what waits and no longer fits is cancelled"
		if ends.Scope == engine.CancelAll {
			s.cost, err = costOfCancelling(ctx, c, present.ID)
		}
	}
	return s, err
}

// planCredentials plans which credentials are sent. It returns those that may or may not change: the server does not show them.
func (s *step) planCredentials(want *Webhook, present *servedWebhook) (unknown []string, err error) {
	for _, setting := range credentialSettings {
		name, given, has := setting.Name, want.given(setting.Name), present.has(setting.Name)
		if want.Keep[name] {
			if err := keep(setting, want, present); err != nil {
				return nil, err
			}
			continue
		}
		names, isObject := setting.Get(&want.Settings).(map[string]bool)
		switch {
		case isObject:
			unknown = append(unknown, s.planNames(name, names, present.names(name))...)
		case given && has:
			line, same := want.credentialChange(setting, present)
			if same {
				continue
			}
			if line == "" {
				unknown = append(unknown, name)
			} else {
				s.lines = append(s.lines, line)
			}
		case given:
			s.lines = append(s.lines, want.credentialSet(setting))
		case has:
			s.lines = append(s.lines, name+": removed")
		}
		switch {
		case given:
			s.settings[name] = want.JSON[name]
		case has:
			s.settings[name] = json.RawMessage("null")
		}
	}
	return unknown, nil
}

// keep returns an error if a setting cannot stay as it is on the server.
func keep(setting *engine.Setting, want *Webhook, present *servedWebhook) error {
	name := setting.Name
	if !present.has(name) {
		return Problems{fmt.Sprintf("webhook %q: %s: keep = true, but on the server it has none: give the values", present.Name, name)}
	}
	if setting.OfHost && !engine.SameHost(present.URL, want.Settings.URL) {
		return Problems{fmt.Sprintf("webhook %q: %s: keep = true, but its url moves to another host, and what is kept is not for that one: give the values", present.Name, name)}
	}
	return nil
}

// hidesShown reports whether what answers show of a setting that is shown in part came from a variable or a file. Its secrets are not shown
// anyway.
func (w *Webhook) hidesShown(setting *engine.Setting) bool {
	var members map[string]json.RawMessage
	if json.Unmarshal(setting.JSON(&w.Settings), &members) != nil {
		return false
	}
	for name := range members {
		if !slices.Contains(setting.Parts, name) && w.hides(setting.Name+"."+name) {
			return true
		}
	}
	return false
}

// planSignature plans what happens to the setting signature. What the server does not show of it can be compared all the same: the server
// tells the secret of the header on request, and a key pair by its public key.
func (s *step) planSignature(ctx context.Context, c *client.Client, want *Webhook, present *servedWebhook) error {
	const name = "signature"
	setting := engine.SettingNamed(name)
	if want.Keep[name] {
		return keep(setting, want, present)
	}
	before, after := string(present.credentials[name]), string(setting.JSON(&want.Settings))
	if before == "" { // of an older server
		before = "null"
	}
	switch {
	case before != after && want.hidesShown(setting):
		s.lines = append(s.lines, name+": another value (not shown)")
	case before != after:
		s.lines = append(s.lines, fmt.Sprintf("%s: %s -> %s", name, notSet(before), notSet(after)))
	}
	others, err := otherSecrets(ctx, c, want, present.ID, before)
	if err != nil {
		return err
	}
	for _, secret := range others {
		s.lines = append(s.lines, name+"."+secret+": another one (not shown), which signs alone from then on")
	}
	if before != after || len(others) > 0 {
		s.settings[name] = json.RawMessage("null")
		if want.given(name) {
			s.settings[name] = want.JSON[name]
		}
	}
	return nil
}

// otherSecrets names the secrets of the setting signature that the file gives, and that are others than those of the server. shown is what the
// server shows of the setting.
func otherSecrets(ctx context.Context, c *client.Client, want *Webhook, id uint32, shown string) (names []string, err error) {
	var given struct {
		Secret    *string `json:"secret"`
		SecretKey *string `json:"secret_key"`
	}
	var has struct {
		Secret *bool `json:"secret"`
		V1a    bool  `json:"v1a"`
	}
	if !want.given("signature") {
		return nil, nil
	}
	if err := errors.Join(json.Unmarshal(want.JSON["signature"], &given), json.Unmarshal([]byte(shown), &has)); err != nil {
		return nil, err
	}
	if given.Secret != nil && has.Secret != nil {
		now, err := secretsOf(ctx, c, id)
		if err != nil {
			return nil, err
		}
		if now.SignatureSecret != *given.Secret {
			names = append(names, "secret")
		}
	}
	if given.SecretKey != nil && has.V1a {
		var now struct {
			Keys []struct {
				PublicKey engine.PublicKey `json:"public_key"`
			} `json:"keys"`
		}
		if err := c.Call(ctx, http.MethodGet, fmt.Sprintf("/v1/webhooks/%d/public-key", id), nil, &now); err != nil {
			return nil, err
		}
		if len(now.Keys) == 0 || now.Keys[0].PublicKey != want.Settings.Signature.Key.Public() {
			names = append(names, "secret_key")
		}
	}
	return names, nil
}

// planNames plans what happens to each of the caller's own names in a setting, such as headers. It returns those that may or may not
// change.
func (s *step) planNames(setting string, want map[string]bool, present []string) (unknown []string) {
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if slices.Contains(present, name) {
			unknown = append(unknown, setting+"."+name)
		} else {
			s.lines = append(s.lines, setting+"."+name+": set (not shown)")
		}
	}
	for _, name := range present {
		if !want[name] {
			s.lines = append(s.lines, setting+"."+text.OneLine(name)+": removed")
		}
	}
	return unknown
}

// credentialSet says that a setting is set, with what may be shown of it.
func (w *Webhook) credentialSet(setting *engine.Setting) string {
	members, _ := shownMembers(setting, setting.JSON(&w.Settings))
	if members == nil || w.hidesShown(setting) {
		return setting.Name + ": set (not shown)"
	}
	return setting.Name + ": " + notSet(string(members))
}

// credentialChange compares what answers show of a setting, which the server and the file have both. same means that it is the same as a whole. The
// line says what changes; it is "" if what is not shown may differ.
func (w *Webhook) credentialChange(setting *engine.Setting, present *servedWebhook) (line string, same bool) {
	before, _ := shownMembers(setting, present.credentials[setting.Name])
	after, all := shownMembers(setting, setting.JSON(&w.Settings))
	switch {
	case before == nil || after == nil:
		return "", false
	case string(before) == string(after):
		return "", all
	case w.hidesShown(setting):
		return setting.Name + ": another value (not shown)", false
	}
	return fmt.Sprintf("%s: %s -> %s", setting.Name, notSet(string(before)), notSet(string(after))), false
}

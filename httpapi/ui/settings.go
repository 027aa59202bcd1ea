package ui

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"hookbolt/engine"
)

// group is a part of the form of a webhook. The names of its inputs are the paths of the settings in the API, such as "oauth2.token_url"; what
// removes a setting has its name after "remove.".
type group struct {
	ID, Title, Help string
	Inputs          []input
}

// noRetries is what stands for an empty retry schedule, which is another thing than none given.
const noRetries = "none"

// mainGroups are the settings that the seed has, with what they are set to.
func mainGroups(w *engine.Webhook) []group {
	byDefault := engine.DefaultWebhook()
	moved, turnedOff := "", ""
	if w.ID != 0 {
		moved = " If you move it to another content, what waits for it from other contents is cancelled."
		turnedOff = " If you turn it off, what waits for unfinished sessions is cancelled."
	}
	content := ""
	if w.ContentID != nil {
		content = w.ContentID.String()
	}
	return []group{
		{ID: "endpoint", Title: "Endpoint", Inputs: []input{
			{Name: "url", Label: "URL", Kind: urlInput, Value: w.URL,
				Help: "Your endpoint: hookbolt posts each webhook there, by http or https. To try things out on this machine, run “hookbolt listen” and give http://127.0.0.1:9000/."},
			{Name: "name", Label: "Name", Kind: textInput, Value: w.Name, Help: "What this webhook is called here. Endpoints do not see it. Empty: its URL."},
			{Name: "content_id", Label: "Content", Unit: "UUID", Kind: textInput, Value: content,
				Help: "The one quiz, poll or survey whose sessions fire it. Empty: every content." + moved},
		}},
		{ID: "firing", Title: "When it fires, and what it sends", Inputs: []input{
			{Name: "delay", Label: "Delay", Unit: "seconds", Kind: numberInput, Value: strconv.FormatInt(w.Delay, 10),
				Help: fmt.Sprintf("From the finish of the set to the firing. Visitors who meet a lead form on the result page have that long to fill it in. 0 to %d; empty: %d.",
					engine.MaxDelay, byDefault.Delay)},
			{Name: "send_answers", Label: "Send answers", Kind: checkInput, Checked: w.SendAnswers, Help: "All votes of the session are in the payload. On by default."},
			{Name: "send_leads", Label: "Send leads", Kind: checkInput, Checked: w.SendLeads, Help: "What the visitor gave in lead forms is in the payload. On by default."},
			{Name: "send_incomplete", Label: "Send incomplete", Kind: checkInput, Checked: w.SendIncomplete,
				Help: "It also fires for visitors who began but did not get to the end. Off by default." + turnedOff},
			{Name: "incomplete_delay", Label: "Incomplete delay", Unit: "seconds", Kind: numberInput, Value: strconv.FormatInt(w.IncompleteDelay, 10),
				Help: fmt.Sprintf("Only with “Send incomplete”: from the start of the set to that firing. With 120 you get the votes of the first 120 seconds; of a visitor who finishes later you get the complete session as well. 0 to %d; empty: %d.",
					engine.MaxDelay, byDefault.IncompleteDelay)},
		}},
	}
}

// moreGroups are the settings that most do without. byDefault is what holds where they are empty.
func moreGroups(w *engine.Webhook, byDefault engine.Config) []group {
	groups := []group{
		{ID: "attempts", Title: "Attempts", Inputs: []input{
			{Name: "timeout", Label: "Timeout", Unit: "such as 15s", Kind: textInput, Value: optional(w.Timeout),
				Help: fmt.Sprintf("How long an attempt may take until it counts as failed: %s to %s. Empty: %s.",
					engine.Duration(engine.MinTimeout), engine.Duration(engine.MaxTimeout), engine.Duration(byDefault.Timeout))},
			{Name: "max_in_flight", Label: "In flight at once", Unit: "attempts", Kind: numberInput, Value: optional(w.MaxInFlight),
				Help: fmt.Sprintf("The most attempts under way to the endpoint at any time: 1 to %d. Empty: %d.", engine.MaxMaxInFlight, byDefault.WebhookMaxInFlight)},
			{Name: "rate_limit", Label: "Rate limit", Unit: "deliveries a second", Kind: numberInput, Value: optional(w.RateLimit),
				Help: fmt.Sprintf("The most that begin in a second: %v to %.0f. 0.5 is one every two seconds. Empty: no limit.", engine.MinRateLimit, engine.MaxRateLimit)},
			{Name: "retry_schedule", Label: "Retry schedule", Unit: "such as 5s, 5m, 2h", Kind: textInput, Value: scheduleText(w.RetrySchedule),
				Help: fmt.Sprintf("How long to wait after each failed attempt until the next one; when all are used up, the delivery has failed. “%s”: a single attempt. Empty: %s.",
					noRetries, durationList(byDefault.Retry.Schedule))},
		}},
		{ID: "network", Title: "Private addresses", Inputs: []input{
			{Name: "allow_networks", Label: "Allowed networks", Unit: "one on a line", Kind: areaInput, Value: networkLines(w),
				Help: "hookbolt connects to public addresses only. If the endpoint is on this machine or in your own network, name its address or network here, such as 127.0.0.1 or 10.0.0.0/8. Empty: only what the configuration allows."},
		}},
		headerGroup(w), basicGroup(w), oauthGroup(w),
	}
	if w.ID == 0 {
		groups = append(groups, group{ID: "signing", Title: "Signing secret", Inputs: []input{
			{Name: "secret", Label: "Own secret", Kind: secretInput, Hidden: true,
				Help: "Signs what is sent. Give one only if the endpoint has it already: whsec_ and the base64 of 24 to 64 bytes. Empty: hookbolt makes one, and shows it to you next."},
		}})
	}
	return groups
}

func headerGroup(w *engine.Webhook) group {
	g := group{ID: "header-group", Title: "Headers", Help: "Sent to the endpoint with every attempt. Values are stored and shown to nobody."}
	for _, name := range slices.Sorted(maps.Keys(w.Headers)) {
		g.Inputs = append(g.Inputs,
			input{Name: "headers." + name, Label: name, Kind: secretInput, Hidden: true, Set: true},
			input{Name: removal("headers." + name), Label: "Remove " + name, Kind: checkInput})
	}
	return group{g.ID, g.Title, g.Help, append(g.Inputs, input{Name: "headers", Label: "More headers", Unit: "one on a line", Kind: areaInput, Hidden: true,
		Help: "Each as “Name: value”, such as “X-Api-Key: 12345”."})}
}

func basicGroup(w *engine.Webhook) group {
	set := w.BasicAuth != nil
	return removable(set, group{ID: "basic-group", Title: "Basic authentication", Inputs: []input{
		{Name: "basic_auth.username", Label: "User name", Kind: textInput, Hidden: true, Set: set},
		{Name: "basic_auth.password", Label: "Password", Kind: secretInput, Hidden: true, Set: set},
	}}, "basic_auth")
}

func oauthGroup(w *engine.Webhook) group {
	o := w.OAuth2
	set := o != nil
	if !set {
		o = &engine.OAuth2{}
	}
	return removable(set, group{ID: "oauth-group", Title: "OAuth 2", Help: "hookbolt gets an access token by the client credentials grant, and sends it along.", Inputs: []input{
		{Name: "oauth2.token_url", Label: "Token URL", Kind: urlInput, Hidden: true, Set: set, Help: "Where to get a token, by http or https."},
		{Name: "oauth2.client_id", Label: "Client id", Kind: textInput, Hidden: true, Set: o.ClientID != ""},
		{Name: "oauth2.client_secret", Label: "Client secret", Kind: secretInput, Hidden: true, Set: o.ClientSecret != ""},
		{Name: "oauth2.scopes", Label: "Scopes", Unit: "with spaces between", Kind: textInput, Hidden: true, Set: len(o.Scopes) > 0},
		{Name: "oauth2.body", Label: "Token request", Kind: areaInput, Hidden: true, Set: o.Body != "",
			Help: "In place of client id, client secret and scopes, for servers that want something else: sent as it is, as JSON if it is a JSON object, else as a form."},
		{Name: "oauth2.headers", Label: "Headers of the token request", Unit: "one on a line", Kind: areaInput, Hidden: true, Set: len(o.Headers) > 0,
			Help: "Each as “Name: value”. What you type takes the place of all that are set."},
	}}, "oauth2")
}

// removable adds what removes a group's setting, if it is set.
func removable(set bool, g group, name string) group {
	if set {
		g.Inputs = append(g.Inputs, input{Name: removal(name), Label: "Remove what is set", Kind: checkInput, Help: "What you type above then stands alone."})
	}
	return g
}

// removal is the name of the input that removes a setting.
func removal(name string) string { return "remove." + name }

// optional writes a setting that may not be there.
func optional[T any](v *T) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(*v)
}

func scheduleText(steps *[]engine.Duration) string {
	switch {
	case steps == nil:
		return ""
	case len(*steps) == 0:
		return noRetries
	}
	return durationList(*steps)
}

func durationList(steps []engine.Duration) string {
	if len(steps) == 0 {
		return noRetries
	}
	words := make([]string, len(steps))
	for i, d := range steps {
		words[i] = d.String()
	}
	return strings.Join(words, ", ")
}

func networkLines(w *engine.Webhook) string {
	lines := make([]string, len(w.AllowNetworks))
	for i, n := range w.AllowNetworks {
		lines[i] = n.String()
	}
	return strings.Join(lines, "\n")
}

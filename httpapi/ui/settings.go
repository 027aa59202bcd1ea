package ui

import (
	"fmt"
	"strconv"

	"hookbolt/engine"
)

// settingWords are what the pages add to a row of engine.Settings: the words for it, and how it is typed.
type settingWords struct {
	// name is that of the row.
	name string
	// label names the setting for people, in the form and among the facts of a webhook. unit stands beside it in the form.
	label, unit string
	kind        inputKind
	// example is what a numberInput proposes to somebody who has typed no number.
	example string
	// help explains it in the form; {empty} in it is what empty says. editing is added for a webhook that exists.
	help, editing string
	// empty says what holds if the input is empty.
	empty func(engine.Config) string
	// inputs takes the place of the one input that kind makes, and read that of its reading: for what is typed in several inputs. changed
	// tells whether the setting is to be sent.
	inputs func(*engine.Webhook) []input
	read   func(*webhookForm) (value any, changed bool)
	fact   factWords
}

// factWords say how a setting stands among the facts of a webhook.
type factWords struct {
	// hidden keeps it from them, for these webhooks.
	hidden func(*engine.Webhook) bool
	// text writes its value, where this is not what stands in the input. after follows a value that is set.
	text  func(*engine.Webhook) string
	after string
}

// settingGroup is a group of the form, in one of its parts.
type settingGroup struct {
	id, title, help string
	part            formPart
	settings        []settingWords
}

// formPart is a part of the form. All but the main one are folded away while nothing in them is set: most do without.
type formPart int

const (
	mainPart formPart = iota
	shapePart
	morePart
)

// buttonSettings are those that have buttons on the page of a webhook, and are in no form.
var buttonSettings = []string{"active", "paused"}

// settingGroups has each setting that is in the form, in its order.
var settingGroups = []settingGroup{
	{id: "endpoint", title: "Endpoint", settings: []settingWords{
		{name: "url", label: "URL", kind: urlInput,
			help:    "Your endpoint: hookbolt sends each webhook there, by http or https. To try things out on this machine, run “hookbolt listen” and give http://127.0.0.1:9000/.",
			editing: " On another host or port it loses the headers, the basic authentication, the OAuth and the client certificate that are set, unless you type them again."},
		{name: "name", label: "Name", kind: textInput, read: nameAsTyped, fact: factWords{hidden: always},
			help: "What this webhook is called here. Endpoints do not see it. Empty: its URL."},
		{name: "content_id", label: "Content", unit: "UUID", kind: textInput, empty: says("every content"), fact: factWords{hidden: isForOperations},
			help:    "The one quiz, poll or survey whose sessions fire it. Empty: {empty}.",
			editing: " If you move it to another content, what waits for it from other contents is cancelled."},
	}},
	{id: "firing", title: "When it fires, and what it sends", settings: []settingWords{
		{name: "delay", label: "Delay", unit: "seconds", kind: numberInput, example: "10",
			help: "From the end of a session to its delivery. It gives visitors time for a lead form on the result page. " + secondsHelp("delay"),
			fact: factWords{hidden: isForOperations, text: func(w *engine.Webhook) string { return wholeSeconds(w.Delay) }, after: " after the finish"}},
		{name: "send_answers", label: "Send answers", kind: checkInput, fact: factWords{hidden: isForOperations},
			help: "All votes of the session are in the payload. On by default."},
		{name: "send_leads", label: "Send leads", kind: checkInput, fact: factWords{hidden: isForOperations},
			help: "What the visitor gave in lead forms is in the payload. On by default."},
		{name: "send_incomplete", label: "Send incomplete", kind: checkInput, fact: factWords{hidden: isForOperations},
			help:    "Sessions that have not finished are sent as well. Off by default.",
			editing: " If you turn it off, what waits for unfinished sessions is cancelled."},
		{name: "incomplete_delay", label: "Incomplete delay", unit: "seconds", kind: numberInput, example: "60",
			help: "Only with “Send incomplete”: from the start of a session to that delivery. With 120, it has the votes of the first 120 seconds. A session that finishes later is sent again, complete. " + secondsHelp("incomplete_delay"),
			fact: factWords{hidden: func(w *engine.Webhook) bool { return !w.SendIncomplete },
				text: func(w *engine.Webhook) string { return wholeSeconds(w.IncompleteDelay) }, after: " after the start"}},
		{name: "send_updates", label: "Send updates", kind: checkInput, fact: factWords{hidden: isForOperations},
			help:    "A session that was sent complete is sent again, as a whole, when a late vote or lead changes its payload. Off by default.",
			editing: " If you turn it off, updates that are not built yet are cancelled."},
	}},
	{id: "shape", title: "Which sessions, and which body", part: shapePart, help: "Programs in jq choose the sessions and make another body of the payload.", settings: []settingWords{
		{name: "filter", label: "Filter", unit: "jq", kind: programInput, empty: says("every session"),
			help: "Gives false, null or nothing for a session that is not to be sent, such as .leads | length > 0. Empty: {empty}."},
		{name: "transform", label: "Transform", unit: "jq", kind: programInput, empty: says("the payload"),
			help: "Makes the body of the payload. Empty: {empty}."},
		{name: "content_type", label: "Content type", kind: textInput, empty: says("application/json"), fact: factWords{hidden: hasDefaultType},
			help: "That of the body, such as application/x-www-form-urlencoded, for which the transform gives an object, or text/plain, for which it gives a string. Empty: {empty}."},
		{name: "url_values", label: "Values for the URL", unit: "jq", kind: programInput, empty: says("braces in the URL stand for themselves"),
			help: "Gives an object with a value for each {name} in the URL. Empty: {empty}."},
	}},
	{id: "attempts", title: "Attempts", part: morePart, settings: []settingWords{
		{name: "timeout", label: "Timeout", unit: "such as 15s", kind: textInput,
			empty: func(c engine.Config) string { return engine.Duration(c.Timeout).String() },
			help:  "How long an attempt may take until it counts as failed: " + engine.SettingNamed("timeout").Limits.Spans + ". Empty: {empty}."},
		{name: "max_in_flight", label: "In flight at once", unit: "attempts", kind: numberInput, example: "32",
			empty: func(c engine.Config) string { return strconv.Itoa(c.WebhookMaxInFlight) },
			help:  "The most attempts under way to the endpoint at any time: " + rangeOf("max_in_flight") + ". Empty: {empty}."},
		{name: "rate_limit", label: "Rate limit", unit: "deliveries a second", kind: numberInput, example: "0.5", empty: says("no limit"),
			help: "The most that begin in a second: " + rangeOf("rate_limit") + ". 0.5 is one every two seconds. Empty: {empty}.",
			fact: factWords{after: " deliveries a second"}},
		{name: "http2", label: "HTTP/2", kind: checkInput,
			help: "Attempts use HTTP/2 if the endpoint offers it. On by default. Turn it off for an endpoint that has trouble with it."},
		{name: "method", label: "Method", inputs: methodInputs, read: (*webhookForm).method},
		{name: "success", label: "Also delivered", inputs: successInputs, read: (*webhookForm).success, fact: factWords{text: statusList, after: " deliver, too"}, empty: says("only 2xx")},
		{name: "retry_schedule", label: "Retry schedule", unit: "such as 5s, 5m, 2h", kind: listInput,
			empty: func(c engine.Config) string { return durationList(c.Retry.Schedule) },
			help:  "How long to wait after each failed attempt until the next one; when all are used up, the delivery has failed. “" + emptyList + "”: a single attempt. Empty: {empty}."},
	}},
	{id: "network", title: "Private addresses", part: morePart, settings: []settingWords{
		{name: "allow_networks", label: "Allowed networks", unit: "one on a line", kind: areaInput, empty: says("none but public ones and the configuration's"),
			help: "hookbolt connects to public addresses only. If the endpoint is on this machine or in your own network, name its address or network here, such as 127.0.0.1 or 10.0.0.0/8. Empty: only what the configuration allows."},
	}},
	{id: "tls-group", title: "TLS", help: "For an endpoint of your own authority, or one that wants a client certificate. It is verified in any case.", part: morePart, settings: []settingWords{
		{name: "tls", label: "TLS", inputs: tlsInputs, read: (*webhookForm).tls, fact: factWords{text: tlsText}}}},
	{id: "header-group", title: "Headers", help: "Sent to the endpoint with every attempt. Values are stored and shown to nobody.", part: morePart, settings: []settingWords{
		{name: "headers", label: "Headers", inputs: headerInputs, read: (*webhookForm).headers}}},
	{id: "basic-group", title: "Basic authentication", part: morePart, settings: []settingWords{
		{name: "basic_auth", label: "Basic authentication", inputs: basicInputs, read: (*webhookForm).basicAuth}}},
	{id: "oauth-group", title: "OAuth 2", help: "hookbolt gets an access token by the client credentials grant, and sends it along.", part: morePart, settings: []settingWords{
		{name: "oauth2", label: "OAuth 2", inputs: oauthInputs, read: (*webhookForm).oauth2}}},
	{id: "signature-group", title: "More signatures", help: "Each attempt has the signature of Standard Webhooks. These are beside it.", part: morePart, settings: []settingWords{
		{name: "signature", label: "Signatures", inputs: signatureInputs, read: (*webhookForm).signature}}},
	{id: "signing", title: "Signing secret", part: morePart, settings: []settingWords{
		{name: "secret", label: "Own secret", inputs: secretInputs, read: (*webhookForm).secret}}},
}

func says(text string) func(engine.Config) string { return func(engine.Config) string { return text } }

func hasDefaultType(w *engine.Webhook) bool { return w.ContentType == "" }

func always(*engine.Webhook) bool { return true }

func isForOperations(w *engine.Webhook) bool { return w.Operations }

// rangeOf writes the limits of a number.
func rangeOf(setting string) string {
	l := engine.SettingNamed(setting).Limits
	return fmt.Sprintf("%v to %.0f", l.Minimum, l.Maximum)
}

// secondsHelp ends the help of a delay.
func secondsHelp(setting string) string {
	return fmt.Sprintf("%s; empty: %v.", rangeOf(setting), engine.SettingNamed(setting).Default())
}

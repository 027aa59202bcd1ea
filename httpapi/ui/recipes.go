package ui

import (
	"embed"
	"time"

	"hookbolt/engine"
)

// Recipe is what a webhook needs for one kind of receiver: settings to begin with, and what its owner has to fill in. docs/recipes has a
// page for each, which is held against it by a test.
type Recipe struct {
	// Name is that of its files, recipes/NAME.jq here and docs/recipes/NAME.md, and of the webhook.
	Name string
	// Title names the receiver for people, as in "Send to Slack".
	Title string
	// About says in one sentence which sessions are sent, and as what.
	About string
	// URL is the endpoint. It has placeholders, which Blanks tells.
	URL string
	// Filter and URLValues are jq programs; "" means none.
	Filter, URLValues string
	// Transform is the jq program that makes the body.
	Transform string
	// Method and ContentType are "" for the defaults.
	Method, ContentType string
	// Success are further statuses that deliver.
	Success []int
	Headers []RecipeHeader
	// Username and Password are those of Basic authentication; "" means none.
	Username, Password string
	// Timeout, RateLimit and MaxInFlight are 0 for the defaults.
	Timeout     time.Duration
	RateLimit   float64 // attempts a second
	MaxInFlight int
	// Blanks are what to fill in, in the order in which one gets it there.
	Blanks []RecipeBlank
	// Script is code that the receiver runs, and ScriptName the name of its file; "" means none.
	Script, ScriptName string
}

// RecipeHeader is a header of a recipe.
type RecipeHeader struct {
	Name string
	// Value is a placeholder, or stands as it is if no blank is in it.
	Value string
	// Secret says that the value is a credential.
	Secret bool
}

// RecipeBlank is a placeholder of a recipe that has to be replaced.
type RecipeBlank struct {
	// Text is the placeholder. It stands in the setting In, and nowhere else.
	Text string
	// In is the setting: url, transform, headers or basic_auth; or script, for the receiver's.
	In string
	// Hint says what to write in its place, and where to find it.
	Hint string
}

// The filters of recipes.
const (
	withLead     = ".leads | length > 0"
	withFinished = ".complete_session"
)

//go:embed recipes
var recipeFiles embed.FS

// recipeFile returns a file of a recipe.
func recipeFile(name string) string {
	text, err := recipeFiles.ReadFile("recipes/" + name)
	if err != nil { // the tests would have failed
		panic(err)
	}
	return string(text)
}

// Recipes are all recipes, in the order in which the pages show them.
var Recipes = []Recipe{
	{
		Name: "slack", Title: "Slack",
		About:  "Posts a message for each session with a lead: who, the result, the contact details, the answers.",
		URL:    "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX",
		Filter: withLead, Transform: recipeFile("slack.jq"), RateLimit: 1,
		Blanks: []RecipeBlank{{Text: "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX", In: "url",
			Hint: "The webhook URL of your Slack app: api.slack.com/apps, your app, Incoming Webhooks."}},
	},
	{
		Name: "discord", Title: "Discord",
		About:  "Posts a message for each finished session: the result, the answers, the contact details.",
		URL:    "https://discord.com/api/webhooks/000000000000000000/XXXXXXXX?wait=true",
		Filter: withFinished, Transform: recipeFile("discord.jq"), RateLimit: 0.5,
		Blanks: []RecipeBlank{{Text: "https://discord.com/api/webhooks/000000000000000000/XXXXXXXX", In: "url",
			Hint: "The webhook URL of the channel: Edit Channel, Integrations, Webhooks. Leave ?wait=true behind it."}},
	},
	{
		Name: "hubspot", Title: "HubSpot",
		About:     "Makes or updates a contact for each session with an e-mail address.",
		URL:       "https://api.hubapi.com/crm/objects/2026-03/contacts/batch/upsert",
		Transform: recipeFile("hubspot.jq"), RateLimit: 8,
		Headers: []RecipeHeader{{Name: "Authorization", Value: "Bearer pat-na1-XXXXXXXX", Secret: true}},
		Blanks: []RecipeBlank{{Text: "pat-na1-XXXXXXXX", In: "headers",
			Hint: "The access token of your HubSpot app, with the scopes crm.objects.contacts.read and crm.objects.contacts.write."}},
	},
	{
		Name: "sheets", Title: "Google Sheets",
		About:  "Writes a row for each finished session, by a script in the sheet.",
		URL:    "https://script.google.com/macros/s/DEPLOYMENT/exec?key=A-LONG-RANDOM-WORD",
		Filter: withFinished, Transform: recipeFile("sheets.jq"), Success: []int{302}, Timeout: 60 * time.Second, MaxInFlight: 2,
		Script: recipeFile("sheets.gs"), ScriptName: "sheets.gs",
		Blanks: []RecipeBlank{
			{Text: "A-LONG-RANDOM-WORD", In: "script", Hint: "A long random word of your own, in the script's first line of code."},
			{Text: "DEPLOYMENT", In: "url", Hint: "The web app URL that Apps Script shows after Deploy."},
			{Text: "A-LONG-RANDOM-WORD", In: "url", Hint: "The same word as in the script."},
		},
	},
	{
		Name: "mailchimp", Title: "Mailchimp",
		About:     "Makes or updates a member of an audience for each session whose visitor left an e-mail address and accepted the terms.",
		URL:       "https://us1.api.mailchimp.com/3.0/lists/AUDIENCE/members/{subscriber}?skip_merge_validation=true",
		Transform: recipeFile("mailchimp.jq"), URLValues: recipeFile("mailchimp-url.jq"), Method: "PUT", MaxInFlight: 5,
		Username: "hookbolt", Password: "XXXXXXXX-us1",
		Blanks: []RecipeBlank{
			{Text: "XXXXXXXX-us1", In: "basic_auth", Hint: "An API key: your profile, Account & billing, Extras, API keys."},
			{Text: "us1", In: "url", Hint: "The end of the API key, behind its dash: us1, us21 …"},
			{Text: "AUDIENCE", In: "url", Hint: "The audience ID: Audience, Settings, Audience name and defaults."},
		},
	},
	{
		Name: "klaviyo", Title: "Klaviyo",
		About:  "Records an event of a profile for each finished session whose visitor left an e-mail address and accepted the terms.",
		URL:    "https://a.klaviyo.com/api/events",
		Filter: withFinished, Transform: recipeFile("klaviyo.jq"), RateLimit: 50, ContentType: "application/vnd.api+json",
		Headers: []RecipeHeader{
			{Name: "Authorization", Value: "Klaviyo-API-Key pk_XXXXXXXX", Secret: true},
			{Name: "revision", Value: "2026-10-15"},
		},
		Blanks: []RecipeBlank{{Text: "pk_XXXXXXXX", In: "headers", Hint: "A private API key with write access to events and profiles: Settings, API keys."}},
	},
	{
		Name: "salesforce", Title: "Salesforce Web-to-Lead",
		About:     "Makes a lead for each session with an e-mail address or a phone number.",
		URL:       "https://webto.salesforce.com/servlet/servlet.WebToLead?encoding=UTF-8&orgId=00DXXXXXXXXXXXX",
		Transform: recipeFile("salesforce.jq"), ContentType: "application/x-www-form-urlencoded", Timeout: 60 * time.Second,
		Blanks: []RecipeBlank{
			{Text: "00DXXXXXXXXXXXX", In: "url", Hint: "The id of your organization: Setup, Company Information, Salesforce.com Organization ID."},
			{Text: "00DXXXXXXXXXXXX", In: "transform", Hint: "The same id, as oid."},
		},
	},
	{
		Name: "zapier", Title: "Zapier, Make, n8n",
		About:     "Sends each session as one flat object, whose fields are easy to map.",
		URL:       "https://hooks.zapier.com/hooks/catch/0000000/XXXXXXX/",
		Transform: recipeFile("zapier.jq"), RateLimit: 20,
		Blanks: []RecipeBlank{{Text: "https://hooks.zapier.com/hooks/catch/0000000/XXXXXXX/", In: "url",
			Hint: "The URL of the trigger: Webhooks by Zapier (Catch Hook), Webhooks (Custom webhook) in Make, Webhook in n8n."}},
	},
	{
		Name: "ntfy", Title: "ntfy",
		About:  "Notifies your phone of each session with a lead.",
		URL:    "https://ntfy.sh/",
		Filter: withLead, Transform: recipeFile("ntfy.jq"), RateLimit: 0.2,
		Blanks: []RecipeBlank{{Text: "CHANGE-ME", In: "transform",
			Hint: "Your topic. Whoever knows it can read it: take a long word that nobody guesses, of letters, digits, - and _."}},
	},
	{
		Name: "form", Title: "A form",
		About:     "Sends each session as the fields of a form.",
		URL:       "https://example.com/form",
		Transform: recipeFile("form.jq"), ContentType: "application/x-www-form-urlencoded",
		Blanks: []RecipeBlank{{Text: "https://example.com/form", In: "url", Hint: "The address that the form is sent to: the action of its <form>."}},
	},
	{
		Name: "meta", Title: "Meta Conversions API",
		About:  "Reports a lead event, with hashed contact details, for each finished session whose visitor left an e-mail address or a phone number and accepted the terms.",
		URL:    "https://graph.facebook.com/v25.0/0000000000000000/events",
		Filter: withFinished, Transform: recipeFile("meta.jq"),
		Headers: []RecipeHeader{{Name: "Authorization", Value: "Bearer EAAXXXXXXXX", Secret: true}},
		Blanks: []RecipeBlank{
			{Text: "0000000000000000", In: "url", Hint: "The id of your dataset (pixel): Events Manager, Settings."},
			{Text: "EAAXXXXXXXX", In: "headers", Hint: "An access token: Events Manager, Settings, Conversions API, Generate access token."},
		},
	},
}

// Settings returns the recipe as settings of a webhook, by their names in the API.
func (r *Recipe) Settings() map[string]any {
	settings := map[string]any{"name": r.Name, "url": r.URL, "transform": r.Transform}
	set := func(name string, value any, given bool) {
		if given {
			settings[name] = value
		}
	}
	set("filter", r.Filter, r.Filter != "")
	set("url_values", r.URLValues, r.URLValues != "")
	set("method", r.Method, r.Method != "")
	set("content_type", r.ContentType, r.ContentType != "")
	set("success", r.Success, r.Success != nil)
	set("basic_auth", map[string]any{"username": r.Username, "password": r.Password}, r.Username != "")
	set("timeout", engine.Duration(r.Timeout).String(), r.Timeout != 0)
	set("rate_limit", r.RateLimit, r.RateLimit != 0)
	set("max_in_flight", r.MaxInFlight, r.MaxInFlight != 0)
	headers := make(map[string]any)
	for _, h := range r.Headers {
		headers[h.Name] = h.Value
		if !h.Secret {
			headers[h.Name] = map[string]any{"value": h.Value, "secret": false}
		}
	}
	set("headers", headers, len(headers) > 0)
	return settings
}

package engine

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"hookbolt/engine/send"
)

// OperationsMail is who gets system events as mails, and from whom, if Config.OperationsURL is that of a mail server. It is not stored: each attempt
// reads it.
type OperationsMail struct {
	// From and To are addresses, with a name or without.
	From string
	To   []string
	// Username and Password are those of an account at the server; "" for none.
	Username string
	Password Credential
}

// CanonicalMailURL is how the URL of a mail server is stored; see send.CanonicalMailURL.
func CanonicalMailURL(raw string) (string, error) { return send.CanonicalMailURL(raw) }

// IsMailURL reports whether a webhook's URL is that of a mail server, as that of the operations webhook may be.
func IsMailURL(url string) bool { return send.IsMailURL(url) }

// CheckMailbox returns what is wrong with an address of OperationsMail.
func CheckMailbox(text string) error {
	_, err := send.ParseMailbox(text)
	return err
}

// mail returns the mail about a system event. It is the same for all attempts.
func (m *OperationsMail) mail(payload []byte) *send.Mail {
	letter := letterOf(payload)
	return &send.Mail{From: m.From, To: m.To, Username: m.Username, Password: m.Password, Subject: "hookbolt: " + letter.subject, Text: letter.text, Date: letter.at}
}

// letter is a system event in words.
type letter struct {
	subject, text string
	at            time.Time
}

// letterOf puts the payload of a system event into words. What it does not know, such as an event of a newer version, it shows as it is.
func letterOf(payload []byte) letter {
	var event struct {
		Type      SystemEventType
		Timestamp time.Time
		Data      json.RawMessage
	}
	if err := json.Unmarshal(payload, &event); err != nil {
		return letter{"an operational event", string(payload) + "\n", utcNow()}
	}
	l := letter{at: event.Timestamp}
	var err error
	switch event.Type {
	case SystemEventPaused:
		err = write(&l, event.Data, pausedData.words)
	case SystemEventFailing:
		err = write(&l, event.Data, failingData.words)
	case SystemEventRecovered:
		err = write(&l, event.Data, recoveredData.words)
	case SystemEventFailed:
		err = write(&l, event.Data, failedWords.words)
	case SystemEventDiskLow, SystemEventDiskOK:
		err = write(&l, event.Data, func(d diskData) (string, string) { return d.words(event.Type == SystemEventDiskLow) })
	case SystemEventTest:
		l.subject, l.text = "a test", "This is a test of the operational events of hookbolt. They arrive."
	default:
		err = fmt.Errorf("unknown type")
	}
	if err != nil {
		l.subject, l.text = string(event.Type), string(payload)
	}
	l.text += "\n"
	return l
}

// write fills in a letter from the data of an event.
func write[T any](l *letter, data []byte, words func(T) (subject, text string)) error {
	var t T
	err := json.Unmarshal(data, &t)
	if err == nil {
		l.subject, l.text = words(t)
	}
	return err
}

// String names a webhook in one line.
func (w eventWebhook) String() string {
	const longest = 60 // characters of a name
	name := fmt.Sprintf("webhook %d", w.ID)
	if w.Name != "" {
		name += fmt.Sprintf(" (%s)", send.OneLine(w.Name, longest))
	}
	return name
}

// facts are lines of a letter, of which each second text is the value of the one before. Empty values are left out.
func facts(pairs ...string) string {
	var b strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			fmt.Fprintf(&b, "%s: %s\n", pairs[i], pairs[i+1])
		}
	}
	return b.String()
}

// page is where the pages of hookbolt show a webhook.
func (w eventWebhook) page() string { return fmt.Sprintf("/webhooks/%d", w.ID) }

func (w eventWebhook) content() string {
	if w.ContentID == nil {
		return "all"
	}
	return *w.ContentID
}

// clock writes a time of an event for people: to the second.
func clock(text string) string {
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return text
	}
	return at.UTC().Format("2006-01-02 15:04:05 UTC")
}

// lastError writes how the last attempt failed.
func lastError(class ErrorClass, status *int) string {
	if status == nil {
		return string(class)
	}
	return strings.TrimSpace(fmt.Sprintf("status %d %s", *status, http.StatusText(*status)))
}

func (d pausedData) words() (subject, text string) {
	next := "when the endpoint works again, resume the webhook on its page, " + d.Webhook.page() + "."
	switch d.Cause {
	case pauseByHand:
		next = "whoever has paused it can resume it on its page, " + d.Webhook.page() + "."
	case pauseProgram:
		next = "mend the program, then resume the webhook on its page, " + d.Webhook.page() + ", and replay there what has failed."
	}
	return d.Webhook.String() + " is paused", "hookbolt sends nothing to " + d.Webhook.String() + " any more. Its deliveries wait, and none is lost.\n\n" +
		facts("Reason", d.Reason, "Content", d.Webhook.content()) + "\nWhat to do: " + next
}

func (d failingData) words() (subject, text string) {
	return d.Webhook.String() + " is failing", "The endpoint of " + d.Webhook.String() + " has accepted nothing since " + clock(d.FailingSince) + ".\n\n" +
		facts("Failed attempts in a row", fmt.Sprint(d.Failures), "Last error", lastError(d.LastError, d.LastStatus), "Content", d.Webhook.content()) +
		"\nhookbolt goes on with one attempt at a time. Deliveries fail for good when their retries end. You are told when the endpoint works again.\n\n" +
		"What to do: look at the last attempts on the page " + d.Webhook.page() + ", and mend the endpoint or the settings."
}

func (d recoveredData) words() (subject, text string) {
	return d.Webhook.String() + " works again", "The endpoint of " + d.Webhook.String() + " accepts deliveries again. It had been failing since " + clock(d.FailingSince) + ".\n\n" +
		facts("Failed attempts", fmt.Sprint(d.Failures), "Content", d.Webhook.content()) +
		"\nWhat to do: nothing. What has failed for good meanwhile can be sent again on the page " + d.Webhook.page() + "."
}

// failedWords is a deliveryFailedData whose kind is read as it is written.
type failedWords struct {
	deliveryFailedData
	Kind string `json:"kind"`
}

func (d failedWords) words() (subject, text string) {
	subject = "a delivery of " + d.Webhook.String() + " has failed for good"
	more := ""
	if d.More > 0 {
		subject = fmt.Sprintf("%d deliveries of %s have failed for good", d.More+1, d.Webhook)
		more = fmt.Sprintf("So have %d others since the mail before.\n", d.More)
	}
	why, look := "its last retry has failed", "see its attempts"
	if d.LastError == ErrorTransform {
		why, look = "a program of the webhook could not build its body", "see the program's error"
	}
	return subject, "hookbolt has given up a delivery of " + d.Webhook.String() + ": " + why + ".\n" + more + "\n" +
		facts("Delivery", d.DeliveryID, "Kind", d.Kind, "Made", clock(d.CreatedAt), "Attempts", fmt.Sprint(d.Attempts),
			"Last error", lastError(d.LastError, d.LastStatus), "Content", d.Webhook.content()) +
		"\nWhat to do: " + look + " on the page /deliveries/" + d.DeliveryID + ", and mend the cause. Then send it again there, or all that have failed on the page " +
		d.Webhook.page() + ".\n\nFurther failures of this webhook within an hour are counted, and told in one mail."
}

func (d diskData) words(low bool) (subject, text string) {
	size := func(n *int64) string {
		if n == nil {
			return ""
		}
		return fmt.Sprintf("%.1f GiB", float64(*n)/(1<<30))
	}
	reason := ""
	if d.Reason != nil {
		reason = *d.Reason
	}
	table := facts("Events are refused", reason, "Free on the disk", size(d.DiskFreeBytes), "To be left free (storage.min_free)", size(&d.MinFreeBytes),
		"Database", size(&d.DatabaseBytes), "Of that in use", size(&d.UsedBytes), "May be in use (storage.max_bytes)", size(d.MaxBytes))
	switch {
	case !low:
		return "there is room again", "There is room for new events again.\n\n" + table + "\nWhat to do: nothing."
	case reason != "":
		subject, text = "no room: events are refused", "There is no room for new events, and they are refused. Deliveries go on.\n\n"
	default:
		subject, text = "room is running out", "The room for new events is running out. When there is none, they are refused.\n\n"
	}
	return subject, text + table + "\nWhat to do: make room on the disk, or shorten storage.session_retention and storage.delivery_retention, or raise storage.max_bytes if that is the limit."
}

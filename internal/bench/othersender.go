package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// sessionPlace is where a body for another sender has the document of the session.
const sessionPlace = "{{session}}"

// sessionDocument is a session as one JSON object of about 1 KB, for senders that take a document and pass it on.
const sessionDocument = `{"session_id":"` + sessionField + `","content_id":"` + contentField + `","content_type":"quiz","poltio_user_id":88120457,"custom_id":"` + customField +
	`","session_start_date":"` + timeField + `","session_end_date":"` + timeField + `","complete_session":true,"answers":[` +
	`{"question_id":40101,"question":"Where do you run most?","answers":[{"answer_id":401011,"answer":"On roads","parent":null}]},` +
	`{"question_id":40102,"question":"How far do you go?","answers":[{"answer_id":401023,"answer":"10 to 21 km","parent":null}]},` +
	`{"question_id":40103,"question":"What matters most?","answers":[{"answer_id":401032,"answer":"Cushioning","parent":null}]}],` +
	`"result":{"result_id":4099,"result_title":"Glider 4 Road","result_image":"content/gcp/1741944413.0412.jpg","result_desc":"A soft daily trainer.","time_spent":0,"right_answer":null,"calculator_result":null},` +
	`"leads":[],"event_time":1768471211,"publisher_uuid":null}`

// otherSender measures another program: whatever turns a POST to RelayURL into one POST to the endpoint.
func (r *run) otherSender(ctx context.Context) error {
	r.sink.open("/", 0, 0)
	g := r.generator(nil, []target{{newUUID(), true}})
	defer g.client.CloseIdleConnections()
	g.urls, g.batch, g.header = []string{r.opts.RelayURL}, 1, r.opts.RelayHeader.Clone()
	if g.header == nil {
		g.header = make(http.Header)
	}
	if g.header.Get("Content-Type") == "" {
		g.header.Set("Content-Type", "application/json")
	}
	g.sessions = newTemplate(relayBody(r.opts.RelayBody))
	return r.loads(ctx, g, 1)
}

// relayBody puts the session's document into a body; "" stands for the document alone.
func relayBody(body string) string {
	if body == "" {
		return sessionDocument
	}
	return strings.ReplaceAll(body, sessionPlace, sessionDocument)
}

// validateOtherSender checks the options of otherSender.
func (o *Options) validateOtherSender() error {
	if o.RelayURL == "" {
		if o.Endpoint != "" || len(o.RelayHeader) > 0 || o.RelayBody != "" {
			return errors.New("-endpoint, -relay-header and -relay-body can only be used with -relay-url")
		}
		return nil
	}
	if o.Endpoint == "" {
		return errors.New("-relay-url takes -endpoint: the host and port to which the other sender posts, such as 127.0.0.1:9000")
	}
	if o.URL != "" || o.TLS != "" || o.Database != "" || o.Processes > 1 || o.Webhooks > 1 || o.Batch > 1 || o.Scheduled > 0 || o.Idle > 0 || o.Outage > 0 || o.Failing > 0 ||
		o.Slow > 0 || o.Delay > 0 || o.Transform != "" || o.Every > 0 || o.Keep || o.Dir != "" {
		return errors.New("-relay-url can only be used with -endpoint, -relay-header, -relay-body, -connections, -rate, -duration, -warmup, -relay and -json: the others are about hookbolt")
	}
	if o.RelayBody == "" {
		return nil
	}
	switch n := strings.Count(o.RelayBody, sessionPlace); {
	case n != 1:
		return fmt.Errorf("-relay-body: the text must have %s once, where the session's JSON is to stand (it has it %d times)", sessionPlace, n)
	case slices.ContainsFunc([]string{sessionField, contentField, timeField, customField}, func(field string) bool { return strings.Contains(o.RelayBody, field) }):
		return errors.New("-relay-body: the text has a placeholder of bench's own")
	case strings.Contains(strings.Join(o.RelayHeader.Values("Content-Type"), ""), "json") || o.RelayHeader.Get("Content-Type") == "":
		if !json.Valid([]byte(relayBody(o.RelayBody))) {
			return fmt.Errorf("-relay-body: with the session's JSON in the place of %s the text is not JSON; set another Content-Type by -relay-header if it is not meant to be", sessionPlace)
		}
	}
	return nil
}

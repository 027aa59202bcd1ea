package bench

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// target is a content with a webhook of its own. Sessions are spread over the targets.
type target struct {
	contentID string
	// expected is whether its deliveries must arrive at the sink during the run.
	expected bool
}

// eventsPerSession is how many events a session of the generator has.
const eventsPerSession = 5

// Placeholders for the fields that differ between sessions. Each has the length of its value.
const (
	sessionField = "SSSSSSSS-SSSS-SSSS-SSSS-SSSSSSSSSSSS"
	contentField = "CCCCCCCC-CCCC-CCCC-CCCC-CCCCCCCCCCCC"
	timeField    = "2006-01-02T15:04:05.000000Z"
	customField  = "bNNNNNNNN-TTT-0000000000"
)

// template is the text of a session, with the offsets of the placeholders.
type template struct {
	text            string
	session, time   []int
	content, custom int
}

func newTemplate(text string) *template {
	placesOf := func(field string) (places []int) {
		for from := 0; ; {
			at := strings.Index(text[from:], field)
			if at < 0 {
				return places
			}
			places = append(places, from+at)
			from += at + len(field)
		}
	}
	return &template{text, placesOf(sessionField), placesOf(timeField), placesOf(contentField)[0], placesOf(customField)[0]}
}

const startEvent = `{"type":"start","session_id":"` + sessionField + `","time":"` + timeField + `","content_id":"` + contentField + `","content_type":"quiz","poltio_user_id":88120457,"custom_id":"` + customField + `"}
`

var (
	// usualSession is a typical session: a start, three votes and a result, about 1 KB in all.
	usualSession = newTemplate(startEvent + `{"type":"vote","session_id":"` + sessionField + `","time":"` + timeField + `","question_id":40101,"question":"Where do you run most?","answer_id":401011,"answer":"On roads"}
{"type":"vote","session_id":"` + sessionField + `","time":"` + timeField + `","question_id":40102,"question":"How far do you go?","answer_id":401023,"answer":"10 to 21 km"}
{"type":"vote","session_id":"` + sessionField + `","time":"` + timeField + `","question_id":40103,"question":"What matters most?","answer_id":401032,"answer":"Cushioning"}
{"type":"result_view","session_id":"` + sessionField + `","time":"` + timeField + `","result":{"result_id":4099,"result_title":"Glider 4 Road","result_image":"content/gcp/1741944413.0412.jpg","result_desc":"A soft daily trainer."}}
`)
	// shortSession has only the events that a delivery needs, so that many sessions fit on a disk.
	shortSession = newTemplate(startEvent + `{"type":"finish","session_id":"` + sessionField + `","time":"` + timeField + `"}
`)
)

// body is the request body of a connection. It is built once, and filled in place for each request.
type body struct {
	*template
	text     []byte
	sessions int
	nonce    string // of the run, 8 characters
	random   *rand.ChaCha8
}

func newBody(of *template, sessions int, nonce string) *body {
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(rand.Uint32())
	}
	return &body{of, []byte(strings.Repeat(of.text, sessions)), sessions, nonce, rand.NewChaCha8(seed)}
}

// fill writes new sessions into the body. number is the number of the first one in the tally. They are spread over the targets. All events
// have the time at.
func (b *body) fill(tally int, number int64, targets []target, at time.Time) {
	stamp := at.UTC().Format(timeField)
	for i := range b.sessions {
		session := b.text[i*len(b.template.text) : (i+1)*len(b.template.text)]
		first := session[b.session[0]:][:len(sessionField)]
		b.putUUID(first)
		for _, place := range b.session[1:] {
			copy(session[place:], first)
		}
		for _, place := range b.time {
			copy(session[place:], stamp)
		}
		n := number + int64(i)
		copy(session[b.content:], targets[n%int64(len(targets))].contentID)
		putCustomID(session[b.custom:][:len(customField)], b.nonce, tally, n)
	}
}

// putUUID writes a random UUID of version 4.
func (b *body) putUUID(dst []byte) {
	var id [16]byte
	b.random.Read(id[:])
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	hex.Encode(dst, id[:4])
	hex.Encode(dst[9:], id[4:6])
	hex.Encode(dst[14:], id[6:8])
	hex.Encode(dst[19:], id[8:10])
	hex.Encode(dst[24:], id[10:])
	dst[8], dst[13], dst[18], dst[23] = '-', '-', '-', '-'
}

// putCustomID writes a session's custom_id: the run, the tally and the number.
func putCustomID(dst []byte, nonce string, tally int, number int64) {
	copy(dst[1:], nonce)
	putDigits(dst[10:13], int64(tally))
	putDigits(dst[14:], number)
}

// putDigits fills dst with a number and leading zeros.
func putDigits(dst []byte, n int64) {
	for i := len(dst) - 1; i >= 0; i-- {
		dst[i] = byte('0' + n%10)
		n /= 10
	}
}

// parseCustomID parses a custom_id of putCustomID. ok is false if it is not of this run.
func parseCustomID(id []byte, nonce string) (tally int, number int64, ok bool) {
	if len(id) != len(customField) || id[0] != 'b' || string(id[1:9]) != nonce || id[9] != '-' || id[13] != '-' {
		return 0, 0, false
	}
	t, ok1 := digits(id[10:13])
	n, ok2 := digits(id[14:])
	return int(t), n, ok1 && ok2
}

func digits(text []byte) (n int64, ok bool) {
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// newNonce returns a random text that identifies the sessions of a run.
func newNonce() string { return fmt.Sprintf("%08x", rand.Uint32()) }

// newUUID returns a random UUID for a content.
func newUUID() string {
	id := make([]byte, len(contentField))
	newBody(usualSession, 0, "").putUUID(id)
	return string(id)
}

package bolt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// sessionRecord is a session's head as it is stored.
type sessionRecord struct {
	engine.SessionHead
	number  uint64
	batches uint32 // how many values the session has in events
	marks   uint32 // how many of its marks stand in the bucket marks
}

func (r *sessionRecord) encode() []byte {
	key := u64key(r.number)
	e := newRecord(128 + 21*len(r.Deliveries))
	e.uuid(r.ID)
	e.uuid(r.Identity.ContentID)
	e.string(string(r.Identity.ContentType))
	e.optionalInt(r.Identity.PoltioUserID)
	e.optionalString(r.Identity.PublisherUUID)
	e.optionalString(r.Identity.CustomID)
	e.uint(uint64(r.Events))
	e.uint(uint64(r.batches))
	e.time(r.FirstReceivedAt)
	e.time(r.LastReceivedAt)
	e.time(r.FinishedAt)
	e.uint(uint64(len(r.Deliveries)))
	for _, m := range r.Deliveries {
		e.uint(uint64(m.WebhookID))
		e.byte(byte(m.Kind))
		e.uuid(m.ID)
	}
	e.uint(uint64(r.Bytes)) // since version 3
	e.uint(uint64(r.marks)) // since version 8
	e.time(r.StartedAt)     // since version 10
	return e.seal(key)
}

func decodeSession(number uint64, value []byte) (sessionRecord, error) {
	key := u64key(number)
	body, err := unseal(bucketSessions, key, value)
	if err != nil {
		return sessionRecord{}, err
	}
	d := decoder{b: body}
	r := sessionRecord{number: number}
	r.ID = d.uuid()
	r.Identity = engine.Identity{
		ContentID:     d.uuid(),
		ContentType:   engine.ContentType(d.string()),
		PoltioUserID:  d.optionalInt(),
		PublisherUUID: d.optionalString(),
		CustomID:      d.optionalString(),
	}
	r.Events = int(d.count())
	r.batches = d.count()
	r.FirstReceivedAt, r.LastReceivedAt, r.FinishedAt = d.time(), d.time(), d.time()
	for n := d.uint(); n > 0 && !d.bad; n-- {
		r.Deliveries = append(r.Deliveries, engine.DeliveryRef{WebhookID: d.count(), Kind: engine.Kind(d.byte()), ID: d.uuid()})
	}
	if len(d.b) > 0 { // versions 1 and 2 have no size
		r.Bytes = int64(d.uint())
		d.bad = d.bad || r.Bytes < 0
	}
	if len(d.b) > 0 { // versions up to 7 have no marks
		r.marks = d.count()
	}
	r.StartedAt = r.FirstReceivedAt // the engine asks only whether the session has started
	if len(d.b) > 0 {               // versions up to 9 have no start
		r.StartedAt = d.time()
	}
	return r, d.done(bucketSessions, key)
}

// sessionVisitor reads only the visitor from a session's head.
func sessionVisitor(key, value []byte) (*int64, error) {
	body, err := unseal(bucketSessions, key, value)
	if err != nil {
		return nil, err
	}
	d := decoder{b: body}
	d.uuid()
	d.uuid()
	d.string()
	visitor := d.optionalInt()
	if d.bad {
		return nil, fmt.Errorf("%w: %s %x: fields do not fit", ErrCorrupt, bucketSessions, key)
	}
	return visitor, nil
}

// encodeEvents writes the events of one request: the time of receipt, the ids, and a JSON list of the events as they came.
func encodeEvents(key []byte, events []engine.Event) []byte {
	size := 32
	for i := range events {
		size += len(events[i].JSON) + len(events[i].ID) + 4
	}
	e := newRecord(size)
	e.time(events[0].ReceivedAt)
	ids := 0
	for i := range events {
		if events[i].ID != "" {
			ids++
		}
	}
	e.uint(uint64(ids))
	for i := range events {
		if events[i].ID != "" {
			e.string(events[i].ID)
		}
	}
	for i := range events {
		if i == 0 {
			e.byte('[')
		} else {
			e.byte(',')
		}
		e.b = append(e.b, events[i].JSON...)
	}
	e.byte(']')
	return e.seal(key)
}

// decodeEvents reads what encodeEvents wrote. The JSON shares the value's memory. If id is not nil, it is called for each event id.
func decodeEvents(key, value []byte, id func(string)) (engine.EventBatch, error) {
	body, err := unseal(bucketEvents, key, value)
	if err != nil {
		return engine.EventBatch{}, err
	}
	d := decoder{b: body}
	b := engine.EventBatch{ReceivedAt: d.time()}
	for n := d.uint(); n > 0 && !d.bad; n-- {
		if s := d.take(d.length()); id != nil {
			id(string(s))
		}
	}
	b.JSON = d.take(len(d.b))
	return b, d.done(bucketEvents, key)
}

// deliveryRecord is a delivery as it is stored.
type deliveryRecord struct {
	engine.Delivery
	number  uint64 // D
	session uint64 // S, 0 for a test
	payload uint64 // P, 0 while nothing is frozen
	// visitor is the poltio_user_id of the session, nil if it has none. It is unknown for a delivery from before version 7 of the
	// layout.
	visitor      *int64
	visitorKnown bool
	// adopted reports that another store made the delivery, and with it its id, which does not follow from D.
	adopted bool
}

// visitorUnknown stands in place of the visitor of a delivery from before version 7 that was stored again since.
const visitorUnknown = 2

// source says what the next attempt can be made from.
func (r *deliveryRecord) source(sessions *bbolt.Bucket) engine.Source {
	return engine.Source{Frozen: !r.FrozenAt.IsZero(), Session: r.payload != 0 || sessions.Get(u64key(r.session)) != nil}
}

func (r *deliveryRecord) encode() []byte {
	key := u64key(r.number)
	e := newRecord(128)
	e.byte(byte(r.Status))
	e.byte(byte(r.Kind))
	e.uint(uint64(r.WebhookID))
	e.uint(r.WebhookRevision)
	e.uint(r.session)
	e.uuid(r.SessionID)
	e.uuid(r.ContentID)
	e.time(r.CreatedAt)
	e.time(r.DueAt)
	e.time(r.NextAttemptAt)
	e.time(r.FrozenAt)
	e.time(r.FinishedAt)
	e.uint(uint64(r.Attempts))
	e.uint(uint64(r.Tries))
	e.uint(uint64(r.LastStatus))
	e.string(string(r.LastError))
	e.uint(r.payload)
	if r.visitorKnown { // since version 7
		e.optionalInt(r.visitor)
	} else {
		e.byte(visitorUnknown)
	}
	// Since version 10.
	e.optionalTime(r.AsOf)
	e.uint(uint64(r.BuiltFrom))
	e.uint(uint64(r.LateEvents))
	e.optionalUUID(r.SupersededBy)
	// Since version 11.
	e.byte(flag(r.Shaped))
	e.string(r.BuildError)
	e.string(r.ContentType)
	e.string(string(r.URLValues))
	if r.adopted { // since version 12
		e.uuid(r.ID)
	}
	return e.seal(key)
}

func decodeDelivery(nonce uint32, number uint64, value []byte) (deliveryRecord, error) {
	key := u64key(number)
	body, err := unseal(bucketDeliveries, key, value)
	if err != nil {
		return deliveryRecord{}, err
	}
	d := decoder{b: body}
	r := deliveryRecord{number: number}
	r.Status, r.Kind = engine.Status(d.byte()), engine.Kind(d.byte())
	d.bad = d.bad || r.Status < engine.StatusScheduled || r.Status > engine.StatusFiltered || r.Kind < engine.KindComplete || r.Kind > engine.KindUpdate
	r.WebhookID, r.WebhookRevision = d.count(), d.uint()
	r.session, r.SessionID, r.ContentID = d.uint(), d.uuid(), d.uuid()
	r.CreatedAt, r.DueAt, r.NextAttemptAt, r.FrozenAt, r.FinishedAt = d.time(), d.time(), d.time(), d.time(), d.time()
	r.Attempts, r.Tries, r.LastStatus = int(d.count()), int(d.count()), int(d.count())
	r.LastError = engine.ErrorClass(d.string())
	r.payload = d.uint()
	switch {
	case len(d.b) == 0: // of a version before 7
	case d.b[0] == visitorUnknown:
		d.byte()
	default:
		r.visitorKnown, r.visitor = true, d.optionalInt()
	}
	if len(d.b) > 0 {
		r.AsOf, r.BuiltFrom, r.LateEvents, r.SupersededBy = d.optionalTime(), int(d.count()), int(d.count()), d.optionalUUID()
	} else if r.Kind == engine.KindIncomplete { // of a version before 10: it was due at its instant
		r.AsOf = r.DueAt
	}
	if len(d.b) > 0 { // versions up to 10 had no programs
		r.Shaped, r.BuildError, r.ContentType, r.URLValues = d.byte() != 0, d.string(), d.string(), engine.URLValues(d.string())
	}
	r.ID = deliveryID(r.CreatedAt, nonce, number)
	if r.adopted = len(d.b) > 0; r.adopted { // only deliveries that a copy has brought
		r.ID = d.uuid()
	}
	return r, d.done(bucketDeliveries, key)
}

// storedStatus reads only the status of a stored delivery, without a check of the record. It returns 0 if there is none.
func storedStatus(value []byte) engine.Status {
	if len(value) < 2 {
		return 0
	}
	return engine.Status(value[1])
}

func encodeAttempt(key []byte, a *engine.Attempt) []byte {
	size := 224 + len(a.ErrorDetail) + len(a.Response)
	for _, f := range a.ResponseHeader {
		size += len(f.Name) + len(f.Value) + 4
	}
	e := newRecord(size)
	e.time(a.StartedAt)
	e.duration(a.Duration)
	e.uint(uint64(a.Status))
	e.string(string(a.Error))
	e.string(a.ErrorDetail)
	e.string(string(a.Response))
	// Since version 2.
	for _, d := range []time.Duration{a.Phases.Token, a.Phases.DNS, a.Phases.Connect, a.Phases.TLS, a.Phases.FirstByte} {
		e.duration(d)
	}
	e.string(a.Address)
	e.byte(flag(a.Reused))
	e.string(a.Protocol)
	e.uint(uint64(len(a.ResponseHeader)))
	for _, f := range a.ResponseHeader {
		e.string(f.Name)
		e.string(f.Value)
	}
	e.time(a.NextAt)
	e.string(string(a.NextReason))
	// Since version 4.
	e.string(a.Sent.Signature)
	e.string(a.Sent.UserAgent)
	e.uint(uint64(len(a.Sent.Credentials)))
	for _, name := range a.Sent.Credentials {
		e.string(name)
	}
	// Since version 9.
	e.string(string(a.Repeated))
	// Since version 11.
	e.string(a.Sent.Method)
	e.string(a.Sent.BodySignature.Name)
	e.string(a.Sent.BodySignature.Value)
	return e.seal(key)
}

func flag(v bool) byte {
	if v {
		return 1
	}
	return 0
}

func decodeAttempt(key, value []byte) (engine.Attempt, error) {
	body, err := unseal(bucketAttempts, key, value)
	if err != nil {
		return engine.Attempt{}, err
	}
	d := decoder{b: body}
	a := engine.Attempt{Outcome: engine.Outcome{
		StartedAt:   d.time(),
		Duration:    time.Duration(d.int()),
		Status:      int(d.count()),
		Error:       engine.ErrorClass(d.string()),
		ErrorDetail: d.string(),
		Response:    []byte(d.string()),
	}}
	if len(d.b) == 0 { // of version 1
		return a, d.done(bucketAttempts, key)
	}
	for _, span := range []*time.Duration{&a.Phases.Token, &a.Phases.DNS, &a.Phases.Connect, &a.Phases.TLS, &a.Phases.FirstByte} {
		*span = time.Duration(d.int())
	}
	a.Address, a.Reused, a.Protocol = d.string(), d.byte() != 0, d.string()
	for n := d.uint(); n > 0 && !d.bad; n-- {
		a.ResponseHeader = append(a.ResponseHeader, engine.HeaderField{Name: d.string(), Value: d.string()})
	}
	a.NextAt, a.NextReason = d.time(), engine.NextReason(d.string())
	if len(d.b) == 0 { // of version 2 or 3
		return a, d.done(bucketAttempts, key)
	}
	a.Sent.Signature, a.Sent.UserAgent = d.string(), d.string()
	for n := d.uint(); n > 0 && !d.bad; n-- {
		a.Sent.Credentials = append(a.Sent.Credentials, d.string())
	}
	if len(d.b) > 0 { // not of a version before 9
		a.Repeated = engine.Repeat(d.string())
	}
	if len(d.b) > 0 { // not of a version before 11
		a.Sent.Method = d.string()
		a.Sent.BodySignature = engine.HeaderField{Name: d.string(), Value: d.string()}
	}
	return a, d.done(bucketAttempts, key)
}

func encodeHealth(key []byte, h *engine.Health) []byte {
	e := newRecord(72)
	e.uint(uint64(h.Failures))
	e.time(h.FirstFailedAt)
	e.time(h.FailingSince)
	e.uint(uint64(h.Probes))
	e.time(h.NextProbeAt)
	// Since version 9.
	e.uint(uint64(h.Refused))
	e.uint(uint64(h.Throttle.Refusals))
	e.time(h.Throttle.HeldUntil)
	e.uint(math.Float64bits(h.Throttle.Ceiling))
	e.byte(flag(h.Throttle.Known))
	e.time(h.NextSlotAt)
	return e.seal(key)
}

func decodeHealth(key, value []byte) (engine.Health, error) {
	body, err := unseal(bucketHealth, key, value)
	if err != nil {
		return engine.Health{}, err
	}
	d := decoder{b: body}
	h := engine.Health{Failures: int(d.count()), FirstFailedAt: d.time(), FailingSince: d.time(), Probes: int(d.count()), NextProbeAt: d.time()}
	if len(d.b) == 0 { // of an earlier version
		return h, d.done(bucketHealth, key)
	}
	h.Refused = int(d.count())
	h.Throttle = engine.Throttle{Refusals: int(d.count()), HeldUntil: d.time(), Ceiling: math.Float64frombits(d.uint()), Known: d.byte() != 0}
	h.NextSlotAt = d.time()
	return h, d.done(bucketHealth, key)
}

// counts are the numbers of a webhook's deliveries by status, and of its due deliveries.
type counts struct {
	byStatus [7]int64 // by engine.Status; index 0 is unused
	// due is how many entries of the webhook's ordinary lane lie before dueUpTo. The mark follows the clock at each call of Stats. So
	// each entry is looked at once, when it becomes due, and not at every call.
	due     int64
	dueUpTo [16]byte // due(8) D(8), as in a queue key
	late    int64    // deliveries that lack late events
	parked  int64    // failed ones that wait for their webhook's programs to be mended
	// front is the first entry of that lane, if hasFront, and oldest since when it is due. They are not stored: they spare Stats a look at each
	// lane.
	front    [16]byte // due(8) D(8)
	hasFront bool
	oldest   time.Time
}

// same compares the stored parts.
func (c counts) same(other counts) bool {
	return c.byStatus == other.byStatus && c.due == other.due && c.dueUpTo == other.dueUpTo && c.late == other.late && c.parked == other.parked
}

// known returns how many deliveries of the lane are due at an instant, and since when the oldest one is. ok is false if that takes a look at the
// lane.
func (c *counts) known(at uint64) (due int64, oldest time.Time, ok bool) {
	switch {
	case c.waiting() == 0:
		return 0, time.Time{}, true
	case !c.hasFront || binary.BigEndian.Uint64(c.dueUpTo[:]) > at:
		return 0, time.Time{}, false
	case binary.BigEndian.Uint64(c.front[:]) > at:
		return 0, time.Time{}, true
	}
	return c.due, c.oldest, c.due == c.waiting()
}

// added and removed keep front when an entry of the lane comes or goes. place is its due(8) D(8).
func (c *counts) added(place []byte) {
	if bytes.Compare(place, c.front[:]) < 0 {
		c.hasFront = false
	}
}

func (c *counts) removed(place []byte) {
	if bytes.Equal(place, c.front[:]) {
		c.hasFront = false
	}
}

func (c *counts) waiting() int64 {
	return c.byStatus[engine.StatusScheduled] + c.byStatus[engine.StatusPending]
}

func (c *counts) empty() bool { return c.byStatus == [7]int64{} }

// firstAdded is the first status that the first version did not have.
const firstAdded = engine.StatusFiltered

func (c *counts) encode(key []byte) []byte {
	e := newRecord(80)
	for _, n := range c.byStatus[:firstAdded] {
		e.int(n)
	}
	e.int(c.due)
	e.b = append(e.b, c.dueUpTo[:]...)
	e.int(c.late) // since version 10
	// Since version 11.
	e.int(c.byStatus[engine.StatusFiltered])
	e.int(c.parked)
	return e.seal(key)
}

func decodeCounts(key, value []byte) (counts, error) {
	var c counts
	body, err := unseal(bucketCounts, key, value)
	if err != nil {
		return c, err
	}
	d := decoder{b: body}
	for i := range firstAdded {
		c.byStatus[i] = d.int()
	}
	c.due = d.int()
	copy(c.dueUpTo[:], d.take(16))
	if len(d.b) > 0 {
		c.late = d.int()
	}
	if len(d.b) > 0 {
		c.byStatus[engine.StatusFiltered], c.parked = d.int(), d.int()
	}
	return c, d.done(bucketCounts, key)
}

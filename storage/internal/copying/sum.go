package copying

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
	"hookbolt/storage/internal/fields"
)

func numberKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// number reads a numberKey; 0 stands for the beginning.
func number(key []byte) uint64 {
	if len(key) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(key)
}

// Kinds are what sums are made of, in the order in which they are printed.
var Kinds = []string{"webhooks", "health", "sessions", "events", "marks", "deliveries", "payloads", "attempts", "requests", "jobs", "fan-outs"}

// Sum of the records of one kind: how many there are, and the sum of their hashes, which does not depend on their order.
type kindSum struct {
	Count int64
	sum   [4]uint64
}

// Sums are those of all kinds.
type Sums map[string]*kindSum

func (s Sums) add(kind string, record []byte) {
	k := s[kind]
	if k == nil {
		k = new(kindSum)
		s[kind] = k
	}
	k.Count++
	hash := sha256.Sum256(record)
	for i := range k.sum {
		k.sum[i] += binary.BigEndian.Uint64(hash[8*i:])
	}
}

// Count returns how many records of a kind there are.
func (s Sums) Count(kind string) int64 {
	if s[kind] == nil {
		return 0
	}
	return s[kind].Count
}

// Text returns the checksum of a kind.
func (s Sums) Text(kind string) string {
	if s[kind] == nil {
		return strings.Repeat("0", 16)
	}
	var b []byte
	for _, part := range s[kind].sum {
		b = binary.BigEndian.AppendUint64(b, part)
	}
	hash := sha256.Sum256(b)
	return fmt.Sprintf("%x", hash[:8])
}

// Differs returns an ErrDiffers that names the kinds in which the sums differ; nil if they are the same.
func (s Sums) Differs(other *Sums) error {
	var kinds []string
	for _, kind := range Kinds {
		if s.Count(kind) != other.Count(kind) || s.Text(kind) != other.Text(kind) {
			kinds = append(kinds, fmt.Sprintf("%s (%d records with checksum %s, and %d with %s)", kind, s.Count(kind), s.Text(kind), other.Count(kind), other.Text(kind)))
		}
	}
	if len(kinds) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrDiffers, strings.Join(kinds, ", "))
}

// sumStep is how many records are read between two calls of progress.
const sumStep = 2000

// Sum reads all records.
func Sum(ctx context.Context, r Reader, damaged func(error) error, progress func(done int64)) (Sums, error) {
	s, done := make(Sums), int64(0)
	step := func() {
		if done++; done%sumStep == 0 {
			progress(done)
		}
	}
	err := r.Sessions(ctx, 0, damaged, func(one *Session) error {
		step()
		s.addSession(one)
		return nil
	})
	if err == nil {
		err = r.Deliveries(ctx, nil, damaged, func(one *Delivery) error {
			step()
			s.addDelivery(one)
			return nil
		})
	}
	if err == nil {
		err = r.Requests(ctx, nil, damaged, func(one *Request) error {
			step()
			s.add("requests", append(one.Key[:], jsonOf(one.Done)...))
			return nil
		})
	}
	if err != nil {
		return s, err
	}
	rest, err := r.Rest(ctx, damaged)
	if err == nil {
		s.addRest(rest)
	}
	return s, err
}

func jsonOf(v any) []byte {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // none of the types has a field that cannot be written
	}
	return body
}

func optionalInt(e *fields.Encoder, v *int64) {
	e.Bool(v != nil)
	if v != nil {
		e.Int(*v)
	}
}

func (s Sums) addSession(one *Session) {
	e := fields.NewEncoder(256)
	e.Uint(uint64(one.No))
	e.UUID(one.ID)
	e.UUID(one.Identity.ContentID)
	e.String(string(one.Identity.ContentType))
	optionalInt(e, one.Identity.PoltioUserID)
	e.OptionalString(one.Identity.PublisherUUID)
	e.OptionalString(one.Identity.CustomID)
	e.Uint(uint64(one.Events))
	e.Uint(uint64(one.Bytes))
	e.Time(one.FirstReceivedAt)
	e.Time(one.LastReceivedAt)
	e.Time(one.StartedAt)
	e.Time(one.FinishedAt)
	s.add("sessions", e.Bytes())
	for i := range one.Requests {
		r := &one.Requests[i]
		e := fields.NewEncoder(64 + len(r.JSON))
		e.Uint(uint64(one.No))
		e.Uint(uint64(i))
		e.Time(r.ReceivedAt)
		e.Uint(uint64(len(r.IDs)))
		for _, id := range r.IDs {
			e.String(id)
		}
		e.Raw(r.JSON)
		s.add("events", e.Bytes())
	}
	for _, ref := range one.Deliveries {
		e := fields.NewEncoder(32)
		e.Uint(uint64(one.No))
		e.Uint(uint64(ref.WebhookID))
		e.Byte(byte(ref.Kind))
		e.UUID(ref.ID)
		s.add("marks", e.Bytes())
	}
}

func (s Sums) addDelivery(one *Delivery) {
	d := &one.Delivery
	e := fields.NewEncoder(256)
	e.UUID(d.ID)
	e.Uint(uint64(d.WebhookID))
	e.Uint(d.WebhookRevision)
	e.Uint(uint64(one.SessionNo))
	e.UUID(d.SessionID)
	e.UUID(d.ContentID)
	optionalInt(e, one.Visitor)
	e.Byte(byte(d.Kind))
	e.Byte(byte(d.Status))
	e.Time(d.CreatedAt)
	e.Time(d.DueAt)
	e.Time(d.NextAttemptAt)
	e.Time(d.FrozenAt)
	e.Time(d.FinishedAt)
	e.Uint(uint64(d.Attempts))
	e.Uint(uint64(d.Tries))
	e.Uint(uint64(d.LastStatus))
	e.String(string(d.LastError))
	e.Time(d.AsOf)
	e.Uint(uint64(d.BuiltFrom))
	e.Uint(uint64(d.LateEvents))
	e.OptionalUUID(d.SupersededBy)
	e.Bool(d.Shaped)
	e.String(d.BuildError)
	e.String(d.ContentType)
	e.String(string(d.URLValues))
	s.add("deliveries", e.Bytes())
	if one.Payload != nil {
		s.add("payloads", append(d.ID[:], one.Payload...))
	}
	for i := range one.Attempts {
		s.addAttempt(d.ID, i, &one.Attempts[i])
	}
}

func (s Sums) addAttempt(id uuid.UUID, i int, a *engine.Attempt) {
	e := fields.NewEncoder(256 + len(a.Response))
	e.UUID(id)
	e.Uint(uint64(i))
	e.Time(a.StartedAt)
	e.Duration(a.Duration)
	e.Uint(uint64(a.Status))
	e.String(string(a.Error))
	e.String(a.ErrorDetail)
	e.String(string(a.Response))
	e.Time(a.NextAt)
	e.String(string(a.NextReason))
	e.String(string(a.Repeated))
	for _, span := range []time.Duration{a.Phases.Token, a.Phases.DNS, a.Phases.Connect, a.Phases.TLS, a.Phases.FirstByte} {
		e.Duration(span)
	}
	e.String(a.Address)
	e.Bool(a.Reused)
	e.String(a.Protocol)
	e.Uint(uint64(len(a.ResponseHeader)))
	for _, f := range a.ResponseHeader {
		e.String(f.Name)
		e.String(f.Value)
	}
	e.String(a.Sent.Signature)
	e.String(a.Sent.UserAgent)
	e.String(a.Sent.Method)
	e.String(a.Sent.BodySignature.Name)
	e.String(a.Sent.BodySignature.Value)
	e.Uint(uint64(len(a.Sent.Credentials)))
	for _, name := range a.Sent.Credentials {
		e.String(name)
	}
	s.add("attempts", e.Bytes())
}

func (s Sums) addRest(r *Rest) {
	for _, w := range r.Webhooks {
		s.add("webhooks", jsonOf(w))
	}
	for _, id := range slices.Sorted(maps.Keys(r.Health)) {
		s.add("health", append(numberKey(uint64(id)), jsonOf(r.Health[id])...))
	}
	for i := range r.Jobs {
		s.add("jobs", jsonOf(&r.Jobs[i]))
	}
	for i := range r.FanOuts {
		s.add("fan-outs", jsonOf(&r.FanOuts[i]))
	}
}

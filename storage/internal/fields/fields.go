// Package fields writes the fields of a record one after another, and reads them back. A record has no names and no types: who reads it knows what
// was written. New fields come at the end, where [Decoder.More] tells whether a record has them.
package fields

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/google/uuid"
)

// Instant is a time as it is stored: Unix nanoseconds, 0 for the zero time. A clock before 1970 still sorts.
func Instant(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(1, t.UnixNano())
}

// Time is the time of an Instant, in UTC.
func Time(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// Encoder writes a record. The zero value is an empty one.
type Encoder struct{ b []byte }

// NewEncoder returns an encoder with room for that many bytes.
func NewEncoder(size int) *Encoder { return &Encoder{make([]byte, 0, size)} }

// Bytes returns the record.
func (e *Encoder) Bytes() []byte { return e.b }

// Byte, Bool, Uint, Int, Time, Duration, UUID, String and Raw write a field.
func (e *Encoder) Byte(v byte)              { e.b = append(e.b, v) }
func (e *Encoder) Bool(v bool)              { e.b = append(e.b, flag(v)) }
func (e *Encoder) Uint(v uint64)            { e.b = binary.AppendUvarint(e.b, v) }
func (e *Encoder) Int(v int64)              { e.b = binary.AppendVarint(e.b, v) }
func (e *Encoder) Time(t time.Time)         { e.Int(Instant(t)) }
func (e *Encoder) Duration(d time.Duration) { e.Int(int64(d)) }
func (e *Encoder) UUID(id uuid.UUID)        { e.b = append(e.b, id[:]...) }
func (e *Encoder) Raw(b []byte)             { e.b = append(e.b, b...) }
func (e *Encoder) String(s string)          { e.Uint(uint64(len(s))); e.b = append(e.b, s...) }

// Fixed writes a number in eight bytes.
func (e *Encoder) Fixed(v uint64) { e.b = binary.BigEndian.AppendUint64(e.b, v) }

// OptionalUUID writes an id in one byte if it is uuid.Nil.
func (e *Encoder) OptionalUUID(id uuid.UUID) {
	e.Bool(id != uuid.Nil)
	if id != uuid.Nil {
		e.UUID(id)
	}
}

// OptionalString writes a string or nil.
func (e *Encoder) OptionalString(v *string) {
	e.Bool(v != nil)
	if v != nil {
		e.String(*v)
	}
}

// Decoder reads what an Encoder wrote. After a failure all fields read as zero, and OK returns false.
type Decoder struct {
	b   []byte
	bad bool
}

// NewDecoder returns a decoder of a record. It does not change the record, and shares its memory.
func NewDecoder(record []byte) *Decoder { return &Decoder{b: record} }

// More reports whether there are further fields.
func (d *Decoder) More() bool { return !d.bad && len(d.b) > 0 }

// OK reports whether the whole record was read.
func (d *Decoder) OK() bool { return !d.bad && len(d.b) == 0 }

// Raw reads n bytes; Rest all that are left.
func (d *Decoder) Raw(n int) []byte {
	if d.bad || n < 0 || n > len(d.b) {
		d.bad = true
		return nil
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

// Rest reads all that is left.
func (d *Decoder) Rest() []byte { return d.Raw(len(d.b)) }

// Byte reads a field, as the methods below do.
func (d *Decoder) Byte() byte {
	if p := d.Raw(1); p != nil {
		return p[0]
	}
	return 0
}

// Bool reads a field.
func (d *Decoder) Bool() bool { return d.Byte() != 0 }

// Uint reads a field.
func (d *Decoder) Uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.Raw(n)
	return v
}

// Int reads a field.
func (d *Decoder) Int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.Raw(n)
	return v
}

// Fixed reads a field.
func (d *Decoder) Fixed() uint64 {
	if p := d.Raw(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

// Count reads an Uint of 32 bits, such as a webhook's id or a number of attempts.
func (d *Decoder) Count() uint32 {
	n := d.Uint()
	d.bad = d.bad || n > math.MaxUint32
	return uint32(n)
}

// Time reads a field.
func (d *Decoder) Time() time.Time { return Time(d.Int()) }

// Duration reads a field.
func (d *Decoder) Duration() time.Duration { return time.Duration(d.Int()) }

// UUID reads a field.
func (d *Decoder) UUID() (id uuid.UUID) {
	copy(id[:], d.Raw(16))
	return id
}

// String reads a field.
func (d *Decoder) String() string {
	n := d.Uint()
	if n > uint64(len(d.b)) {
		d.bad = true
		return ""
	}
	return string(d.Raw(int(n)))
}

// OptionalUUID reads a field.
func (d *Decoder) OptionalUUID() (id uuid.UUID) {
	if d.Bool() {
		id = d.UUID()
	}
	return id
}

// OptionalString reads a field.
func (d *Decoder) OptionalString() *string {
	if !d.Bool() {
		return nil
	}
	return new(d.String())
}

func flag(v bool) byte {
	if v {
		return 1
	}
	return 0
}

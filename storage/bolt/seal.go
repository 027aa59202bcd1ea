package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"time"

	"github.com/google/uuid"
)

// ErrCorrupt is returned when a stored record differs from what was written.
var ErrCorrupt = errors.New("stored record is damaged")

// formatV1 is the first byte of each sealed value.
const formatV1 = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sealOverhead is how many bytes a sealed value has beyond its body.
const sealOverhead = 1 + 4

// newRecord begins a value. seal ends it.
func newRecord(size int) *encoder {
	e := &encoder{b: make([]byte, 1, size+sealOverhead)}
	e.b[0] = formatV1
	return e
}

// seal ends a record with a checksum over its key and content. It reveals damage and a value under a wrong key.
func (e *encoder) seal(key []byte) []byte {
	return binary.BigEndian.AppendUint32(e.b, checksum(key, e.b))
}

func checksum(key, content []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, content)
}

// sealBytes seals bytes that need no encoding.
func sealBytes(key, body []byte) []byte {
	e := newRecord(len(body))
	e.b = append(e.b, body...)
	return e.seal(key)
}

// unseal checks a value and returns its body, which shares the value's memory.
func unseal(bucket, key, value []byte) ([]byte, error) {
	if len(value) < sealOverhead || value[0] != formatV1 {
		return nil, fmt.Errorf("%w: %s %x: not a sealed value of a known format", ErrCorrupt, bucket, key)
	}
	content := value[:len(value)-4]
	if checksum(key, content) != binary.BigEndian.Uint32(value[len(value)-4:]) {
		return nil, fmt.Errorf("%w: %s %x: checksum mismatch", ErrCorrupt, bucket, key)
	}
	return content[1:], nil
}

// encoder writes the fields of a record one after another.
type encoder struct{ b []byte }

func (e *encoder) byte(v byte)              { e.b = append(e.b, v) }
func (e *encoder) uint(v uint64)            { e.b = binary.AppendUvarint(e.b, v) }
func (e *encoder) int(v int64)              { e.b = binary.AppendVarint(e.b, v) }
func (e *encoder) fixed(v uint64)           { e.b = binary.BigEndian.AppendUint64(e.b, v) }
func (e *encoder) time(t time.Time)         { e.fixed(instant(t)) }
func (e *encoder) uuid(id uuid.UUID)        { e.b = append(e.b, id[:]...) }
func (e *encoder) string(s string)          { e.uint(uint64(len(s))); e.b = append(e.b, s...) }
func (e *encoder) duration(d time.Duration) { e.int(int64(d)) }

func (e *encoder) optionalInt(v *int64) {
	if v == nil {
		e.byte(0)
		return
	}
	e.byte(1)
	e.int(*v)
}

func (e *encoder) optionalTime(t time.Time) {
	e.byte(flag(!t.IsZero()))
	if !t.IsZero() {
		e.time(t)
	}
}

func (e *encoder) optionalUUID(id uuid.UUID) {
	e.byte(flag(id != uuid.Nil))
	if id != uuid.Nil {
		e.uuid(id)
	}
}

func (e *encoder) optionalString(v *string) {
	if v == nil {
		e.byte(0)
		return
	}
	e.byte(1)
	e.string(*v)
}

// decoder reads what encoder wrote. After a failure all fields read as zero, and done returns the error.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || n < 0 || n > len(d.b) {
		d.bad = true
		return nil
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) byte() byte {
	if p := d.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.take(n)
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.take(n)
	return v
}

func (d *decoder) fixed() uint64 {
	if p := d.take(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

func (d *decoder) time() time.Time {
	n := d.fixed()
	d.bad = d.bad || n > math.MaxInt64
	return fromInstant(n)
}

// count reads a number of 32 bits, such as a webhook's id or a number of attempts.
func (d *decoder) count() uint32 {
	n := d.uint()
	d.bad = d.bad || n > math.MaxUint32
	return uint32(n)
}

func (d *decoder) uuid() (id uuid.UUID) {
	copy(id[:], d.take(16))
	return id
}

func (d *decoder) length() int {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.bad = true
		return 0
	}
	return int(n)
}

func (d *decoder) string() string { return string(d.take(d.length())) }

func (d *decoder) optionalInt() *int64 {
	if d.byte() == 0 {
		return nil
	}
	return new(d.int())
}

func (d *decoder) optionalTime() (t time.Time) {
	if d.byte() != 0 {
		t = d.time()
	}
	return t
}

func (d *decoder) optionalUUID() (id uuid.UUID) {
	if d.byte() != 0 {
		id = d.uuid()
	}
	return id
}

func (d *decoder) optionalString() *string {
	if d.byte() == 0 {
		return nil
	}
	return new(d.string())
}

// done returns an error unless the whole record was read.
func (d *decoder) done(bucket, key []byte) error {
	if d.bad || len(d.b) > 0 {
		return fmt.Errorf("%w: %s %x: fields do not fit", ErrCorrupt, bucket, key)
	}
	return nil
}

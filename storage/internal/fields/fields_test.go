package fields

import (
	"testing"
	"time"

	"github.com/google/uuid"
)

// What was written is read back, and a record that ends early, or too late, is not taken for a whole one.
func TestFields(t *testing.T) {
	at, id, text := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), uuid.New(), "a\x00\xff"
	e := NewEncoder(64)
	e.Byte(1)
	e.Bool(true)
	e.Uint(1 << 40)
	e.Int(-5)
	e.Time(at)
	e.Time(time.Time{})
	e.Duration(-time.Second)
	e.UUID(id)
	e.String(text)
	e.OptionalUUID(uuid.Nil)
	e.OptionalUUID(id)
	e.OptionalString(nil)
	e.OptionalString(&text)
	read := func(d *Decoder) bool {
		ok := d.Byte() == 1 && d.Bool() && d.Uint() == 1<<40 && d.Int() == -5 && d.Time().Equal(at) && d.Time().IsZero() && d.Duration() == -time.Second &&
			d.UUID() == id && d.String() == text && d.OptionalUUID() == uuid.Nil && d.OptionalUUID() == id && d.OptionalString() == nil
		last := d.OptionalString()
		return ok && last != nil && *last == text && d.OK()
	}
	if !read(NewDecoder(e.Bytes())) {
		t.Error("the fields differ")
	}
	for n := range e.Bytes() {
		if read(NewDecoder(e.Bytes()[:n])) {
			t.Errorf("the first %d bytes count as the whole record", n)
		}
	}
	if read(NewDecoder(append(e.Bytes(), 0))) {
		t.Error("a record with more counts as whole")
	}
}

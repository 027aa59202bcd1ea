package postgres

import (
	"crypto/rand"
	"encoding/binary"
	"time"

	"github.com/google/uuid"
)

// idMaker makes the ids of deliveries: UUIDv7, each greater than the one before, also in the same millisecond and after the clock was set back. So they
// have the order in which the deliveries were made, and new rows come at the end of each index.
type idMaker struct{ last uuid.UUID }

// next returns the next id. at is now.
func (m *idMaker) next(at time.Time) uuid.UUID {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:8], uint64(max(0, at.UnixMilli()))<<16)
	rand.Read(id[6:])         // never fails
	id[6] = 0x70 | id[6]&0x07 // the top bit of the counter is free, so that it can grow
	id[8] = 0x80 | id[8]&0x3f
	if string(id[:6]) <= string(m.last[:6]) {
		id = m.last
		m.grow(&id, 1+uint64(id[0]&0x0f))
	}
	m.last = id
	return id
}

// grow adds to the bits behind the time: first the 62 of the low half, then the 12 beside the version, then the time.
func (m *idMaker) grow(id *uuid.UUID, by uint64) {
	low := binary.BigEndian.Uint64(id[8:])&(1<<62-1) + by
	binary.BigEndian.PutUint64(id[8:], low&(1<<62-1)|1<<63)
	if low < 1<<62 {
		return
	}
	high := binary.BigEndian.Uint64(id[:8])
	counter := high&0x0fff + 1
	binary.BigEndian.PutUint64(id[:8], (high>>16+counter>>12)<<16|0x7000|counter&0x0fff)
}

// noBlock gives numbers to sessions: they come in blocks from a sequence, so that a batch need not ask for them. A block is the process's once the transaction
// that took it is committed: until then, a crash of the server puts the sequence back.
type noBlock struct{ next, end int64 }

// sessionBlock is how many numbers a block has: the increment of the sequence.
const sessionBlock = 10_000

// sessionNo returns a number for a new session.
func (b *batch) sessionNo() (int64, error) {
	block := &b.sessionNos
	if block.next == block.end {
		first, err := b.number("session_nos")
		if err != nil {
			return 0, err
		}
		block.next, block.end = first, first+sessionBlock
	}
	block.next++
	return block.next - 1, nil
}

package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"hookbolt/engine"
)

const (
	// diskLook is for how long a look at the disk's free space is good: it is asked for with each request.
	diskLook = time.Second
	// Spans for which nothing is written after a commit was refused for want of space: bbolt reads its whole file to find its free
	// pages after one, so the pause grows with the time that this takes.
	minRefusalPause    = 500 * time.Millisecond
	refusalPauseFactor = 4
)

// disk is what is known of a file system.
type disk struct {
	free    int64  // bytes that this process may still write
	known   bool   // whether free is: some file systems report no counts
	network string // the name of its kind, if it lies on another machine; else ""
}

// space decides whether there is room for new data.
type space struct {
	dir  string
	look func(dir string) (disk, error)

	mu          sync.Mutex
	minFree     int64 // watermark, in bytes; guarded by mu, as all below
	maxBytes    int64 // 0 for no limit
	size, free  int64 // of the database file
	lookedAt    time.Time
	disk        disk      // as it was then
	refused     error     // why the last commit was refused, nil if it was not
	pausedUntil time.Time // by the monotonic clock; after a refusal
}

// note takes note of the file's size and of the part of it that is free.
func (p *space) note(size, free int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.size, p.free = size, free
}

// limit changes the limits.
func (p *space) limit(minFree, maxBytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.minFree, p.maxBytes = minFree, maxBytes
}

// limits returns them.
func (p *space) limits() (minFree, maxBytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.minFree, p.maxBytes
}

// accepted takes note of a commit that went well.
func (p *space) accepted() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused = nil
}

// refuse takes note of a commit that was refused for want of space, and of the time that it took.
func (p *space) refuse(err error, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused = err
	p.pausedUntil = time.Now().Add(max(minRefusalPause, refusalPauseFactor*took))
}

// writable returns the error with which changes are refused, without a try, for a while after a commit was; else nil.
func (p *space) writable() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refused == nil || !time.Now().Before(p.pausedUntil) {
		return nil
	}
	return p.refused
}

// room returns nil if events may be taken in, or an ErrFull that says why not. Attempts and retention go on meanwhile: the
// watermark is what keeps room for them.
func (p *space) room() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refused != nil && time.Now().Before(p.pausedUntil) {
		return p.refused
	}
	used := p.size - p.free
	if p.maxBytes > 0 && used >= p.maxBytes {
		return fmt.Errorf("%w: the database has %d MiB in use, and storage.max_bytes allows %d MiB", engine.ErrFull, used>>20, p.maxBytes>>20)
	}
	p.lookLocked()
	// What is free in the file can be written without the disk.
	if left := p.disk.free + p.free; p.disk.known && left < p.minFree {
		return fmt.Errorf("%w: %d MiB are left on the disk and in the database file, and storage.min_free asks for %d MiB", engine.ErrFull, left>>20, p.minFree>>20)
	}
	return nil
}

// lookLocked looks at the disk, if the last look is too old. Where that fails nothing is known.
func (p *space) lookLocked() {
	if now := time.Now(); p.lookedAt.IsZero() || now.Sub(p.lookedAt) >= diskLook {
		p.lookedAt = now
		p.disk, _ = p.look(p.dir)
	}
}

// crowded tells whether so much of max_bytes is in use that old data should go.
func (p *space) crowded() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.maxBytes > 0 && p.size-p.free > p.maxBytes/100*crowdedPercent
}

// left returns the free bytes of the disk, -1 if they are not known.
func (p *space) left() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lookLocked()
	if !p.disk.known {
		return -1
	}
	return p.disk.free
}

// boltResizeFailed is what bbolt's error for a file that could not be made larger begins with; it wraps no cause.
const boltResizeFailed = "file resize error: "

// isRefusal tells whether a commit has failed for want of space before anything of it could be seen: in growing the file, or in
// writing pages that nothing refers to yet. Everything else may have left a state behind that bbolt does not know. newest is the
// newest transaction that the file shows, txid the one that failed.
func isRefusal(err error, newest, txid uint64) bool {
	if newest >= txid {
		return false // its meta page has been written, and may or may not be on the disk
	}
	if strings.HasPrefix(err.Error(), boltResizeFailed) {
		return true
	}
	// A sync that fails with the same numbers comes without a path: what it has lost is not known.
	write, ok := errors.AsType[*fs.PathError](err)
	return ok && write.Op == "write" && isNoSpace(write.Err)
}

func newSpace(path string, opts Options) space {
	return space{dir: filepath.Dir(path), minFree: opts.MinFree, maxBytes: opts.MaxBytes, look: lookAtDisk}
}

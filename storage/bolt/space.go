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
	// diskLook is how long a reading of the disk's free space is used, because each request asks for it.
	diskLook = time.Second
	// Pauses after a commit was refused for want of space. bbolt reads its whole file to find its free pages after that, so the pause
	// grows with the time that this takes.
	minRefusalPause    = 500 * time.Millisecond
	refusalPauseFactor = 4
)

// disk is what is known about a file system.
type disk struct {
	free    int64  // bytes that this process may still write
	known   bool   // whether free is valid: some file systems report no counts
	network string // the kind of a network file system; else ""
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
	disk        disk      // as of lookedAt
	refused     error     // why the last commit was refused, nil if it was not
	pausedUntil time.Time // by the monotonic clock; after a refusal
}

// note records the file's size and its free part.
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

// limits returns the limits.
func (p *space) limits() (minFree, maxBytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.minFree, p.maxBytes
}

// accepted records a successful commit.
func (p *space) accepted() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused = nil
}

// refuse records a commit that was refused for want of space, and how long it took.
func (p *space) refuse(err error, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused = err
	p.pausedUntil = time.Now().Add(max(minRefusalPause, refusalPauseFactor*took))
}

// writable returns the error for changes during the pause after a refused commit; else nil.
func (p *space) writable() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refused == nil || !time.Now().Before(p.pausedUntil) {
		return nil
	}
	return p.refused
}

// room returns nil if events can be accepted, or an ErrFull with the reason. Attempts and retention go on meanwhile: the watermark
// reserves room for them.
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
	// Free pages in the file can be written without more disk space.
	if left := p.disk.free + p.free; p.disk.known && left < p.minFree {
		return fmt.Errorf("%w: %d MiB are left on the disk and in the database file, and storage.min_free asks for %d MiB", engine.ErrFull, left>>20, p.minFree>>20)
	}
	return nil
}

// lookLocked reads the disk's free space if the last reading is too old. If that fails, nothing is known.
func (p *space) lookLocked() {
	if now := time.Now(); p.lookedAt.IsZero() || now.Sub(p.lookedAt) >= diskLook {
		p.lookedAt = now
		p.disk, _ = p.look(p.dir)
	}
}

// crowded reports whether so much of max_bytes is in use that old data should be removed.
func (p *space) crowded() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.maxBytes > 0 && p.size-p.free > p.maxBytes/100*crowdedPercent
}

// left returns the free bytes of the disk, -1 if they are unknown.
func (p *space) left() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lookLocked()
	if !p.disk.known {
		return -1
	}
	return p.disk.free
}

// boltResizeFailed is the prefix of bbolt's error for a file that could not be enlarged. That error wraps no cause.
const boltResizeFailed = "file resize error: "

// isRefusal reports whether a commit failed for want of space before any of it could be seen: while bbolt enlarged the file or wrote
// pages that nothing refers to yet. After any other failure bbolt does not know the state of the file. newest is the newest
// transaction that the file shows; txid is the one that failed.
func isRefusal(err error, newest, txid uint64) bool {
	if newest >= txid {
		return false // the meta page was written, and may or may not be on the disk
	}
	if strings.HasPrefix(err.Error(), boltResizeFailed) {
		return true
	}
	// A failed sync has the same error number, but no path. What it lost is unknown.
	write, ok := errors.AsType[*fs.PathError](err)
	return ok && write.Op == "write" && isNoSpace(write.Err)
}

func newSpace(path string, opts Options) space {
	return space{dir: filepath.Dir(path), minFree: opts.MinFree, maxBytes: opts.MaxBytes, look: lookAtDisk}
}

package bolt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"hookbolt/engine"
)

// schemaVersion is that of the layout which the package documentation describes.
const schemaVersion = 12

// pageSize is the same on every machine, so that a file can be moved.
const pageSize = 4096

// Returned by Open.
var (
	// ErrInUse is returned when another process has the database open.
	ErrInUse = errors.New("the database is in use by another process")
	// ErrNotDatabase is returned for any other kind of file.
	ErrNotDatabase = errors.New("not a hookbolt database")
	// ErrSchema is returned when a newer hookbolt wrote the database.
	ErrSchema = errors.New("the database was made by a newer version of hookbolt")
	// ErrNetwork is returned for a file on a network file system. Locks, memory maps and syncs are not reliable there.
	ErrNetwork = errors.New("the database must be on a local disk, and this directory is on a network file system")
)

// Options configure a Store. The zero value sets no limits and no hooks.
type Options struct {
	// MinFree is the watermark, in bytes. Events are refused while less is left on the disk and in the file together. There is no
	// watermark on a file system that does not report its free space.
	MinFree int64
	// MaxBytes is how much of the file may be in use before events are refused. From 90 % of it on, finished data is removed before
	// its retention ends, oldest first. 0 means no limit.
	MaxBytes int64
	// Inspect is called with the path of an existing file, before anything is written to it. If it fails, Open fails. It is meant for this
	// package's Inspect in a child process, because damage may end the process that reads the file.
	Inspect func(path string) error
	// ObserveCommit is called after each commit with its number of mutations and its duration.
	ObserveCommit func(mutations int, took time.Duration)
}

// Store is an open database file. Its methods may be called from several goroutines.
type Store struct {
	path string // resolved
	db   *bbolt.DB
	lock *os.File // the file beside the database, held from before the database is first read until after it is closed
	file *os.File // the database, held with its lock from before it is first read; see handOver
	opts Options

	nonce uint32                            // of the database; see deliveryID
	hooks atomic.Pointer[engine.WebhookSet] // written by the writer

	mutations chan *mutation // capacity maxBatchMutations; callers send, the writer receives
	bulk      chan *mutation // the same, for large mutations
	quit      chan struct{}  // closed by Close
	stopped   chan struct{}  // closed by the writer at its end
	failed    chan struct{}  // closed by the writer when a commit fails; failure is set before
	failure   error
	ended     atomic.Bool // set by a failed commit and by Close: no attempt may begin; see Mine
	stuck     atomic.Bool // set by beginTx: bbolt has kept its locks

	counts map[uint32]counts        // owned by the writer
	health map[uint32]engine.Health // owned by the writer; has healthy endpoints, too, for their Order

	numbers    numbers
	space      space
	eviction   eviction                  // owned by the writer
	sweeps     [expiryDelivery + 1]sweep // by kind; owned by the writer
	remembered int                       // how many requests with keys are remembered; owned by the writer
	lostJobs   int                       // how many damaged jobs replaceJobs has seen; owned by the writer

	claimMu sync.Mutex
	claims  map[uint64]engine.Lane      // deliveries that are claimed and not released, by D; guarded by claimMu
	adopted sync.Map                    // the D of claimed deliveries whose id does not follow from it, by id
	resumed map[engine.Lane]resumePoint // where to begin in lanes with many entries to skip; guarded by claimMu

	damaged damageLog

	// unfinished are the erasures that another process has left; nil once Maintain has returned them.
	unfinished atomic.Pointer[[]engine.UnfinishedErasure]

	backing sync.Mutex // held while there is a backup

	// fanningOut is how many sessions have deliveries that are still to be made; written by the writer. fanOutWake (capacity 1) tells Watch that
	// there are more.
	fanningOut atomic.Int64
	fanOutWake chan struct{}

	owning sync.RWMutex // held by Watch while it reports all webhooks, and for reading by changes of webhooks

	closing sync.Once
}

// Open opens the database file at path, and creates it if there is none. It writes nothing before it has made sure that no other process
// has the file open.
func Open(path string, opts Options) (*Store, error) {
	if opts.ObserveCommit == nil {
		opts.ObserveCommit = func(int, time.Duration) {}
	}
	named := path
	path, exists, err := resolve(path)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", named, err)
	}
	if d, err := lookForNetwork(filepath.Dir(path)); err == nil && d.network != "" {
		return nil, fmt.Errorf("open database %s: %w (%s)", named, ErrNetwork, d.network)
	}
	lock, err := acquireLock(path + ".lock")
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", named, err)
	}
	s := &Store{path: path, lock: lock, opts: opts, space: newSpace(path, opts),
		mutations: make(chan *mutation, maxBatchMutations), bulk: make(chan *mutation, maxBatchMutations), quit: make(chan struct{}), stopped: make(chan struct{}),
		fanOutWake: make(chan struct{}, 1),
		failed:     make(chan struct{}), counts: make(map[uint32]counts), health: make(map[uint32]engine.Health), claims: make(map[uint64]engine.Lane),
		resumed: make(map[engine.Lane]resumePoint)}
	if err := s.open(exists); err != nil {
		if s.db != nil {
			s.db.Close()
		}
		return nil, fmt.Errorf("open database %s: %w", named, errors.Join(err, s.unlock()))
	}
	go s.writer()
	return s, nil
}

// lookForNetwork is lookAtDisk. It is a variable for a test, which has no network file system.
var lookForNetwork = lookAtDisk

func (s *Store) open(exists bool) error {
	path := s.path
	if _, err := os.Lstat(path); !exists && errors.Is(err, fs.ErrNotExist) { // under the lock nobody else creates it
		if err := create(path); err != nil {
			return fmt.Errorf("create: %w", err)
		}
	} else {
		exists = true
	}
	var err error
	if s.file, err = lockDatabase(path); err != nil {
		return err
	}
	if exists {
		if err := s.inspect(path); err != nil {
			return err
		}
	}
	if err := lockForWriting(s.file); err != nil {
		return err
	}
	if err := heal(s.file); err != nil {
		return fmt.Errorf("make the newest state durable: %w", err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil { // the creation of the file may have ended before that
		return err
	}
	if err := removeStale(path + backupSuffix); err != nil {
		return err
	}
	if err := markOpen(s.lock); err != nil {
		return err
	}
	o := boltOptions()
	o.OpenFile = handOver(s.file)
	if s.db, err = bbolt.Open(path, 0o600, o); err != nil {
		if errors.Is(err, bolterrors.ErrTimeout) {
			return ErrInUse
		}
		return err
	}
	if err := s.migrate(); err != nil {
		return err
	}
	if err := s.load(); err != nil {
		return err
	}
	tx, err := s.db.Begin(true) // bbolt counts its free pages at the end of a transaction
	if err != nil {
		return err
	}
	size := tx.Size()
	err = tx.Rollback()
	s.space.note(size, s.freeInFile())
	return err
}

func boltOptions() *bbolt.Options {
	o := &bbolt.Options{
		Timeout:      time.Second, // for bbolt's own lock on the file
		PageSize:     pageSize,
		FreelistType: bbolt.FreelistMapType, // the array type is slow with many free pages
		// Written at a clean stop only, see Close.
		NoFreelistSync: true,
	}
	// Map more than the file has. A file that outgrows its map is mapped again, which waits for all readers and blocks new ones; address
	// space costs nothing. On Windows the file would grow to the map's size.
	if strconv.IntSize == 64 && runtime.GOOS != "windows" {
		size := int64(16 << 30) // a variable: as a constant it would not compile for 32 bits
		o.InitialMmapSize = int(size)
	}
	return o
}

// inspect checks an existing file before anything is written to it.
func (s *Store) inspect(path string) error {
	mark := make([]byte, len(openMark))
	n, err := s.lock.ReadAt(mark, 0)
	if err != nil && err != io.EOF {
		return fmt.Errorf("read the mark of a crash: %w", err)
	}
	if string(mark[:n]) == openMark {
		if err := readThrough(path); err != nil {
			return err
		}
	}
	if s.opts.Inspect == nil {
		return nil
	}
	return s.opts.Inspect(path)
}

// openMark is the content of the lock file while the database is open. If a start finds it, the last process crashed. The mark only
// affects speed, so it need not be durable.
const openMark = "open\n"

// markOpen writes the mark. A disk that takes no more has room for no mark either, and must not keep the server from its start: attempts
// and erasures may go on in the pages that are free in the file.
func markOpen(lock *os.File) error {
	if _, err := lock.WriteAt([]byte(openMark), 0); err != nil && !isNoSpace(err) {
		return fmt.Errorf("mark as open: %w", err)
	}
	return nil
}

// readThrough reads a file from beginning to end, so that the system caches as much of it as fits into memory. After a crash bbolt
// searches the free pages by following the tree through the whole file, page by page. For a file of 0.75 GB outside the cache this took
// 20 s, and 1.3 s after readThrough.
func readThrough(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for buf := make([]byte, 1<<20); err == nil; {
		_, err = f.Read(buf)
	}
	if err != io.EOF {
		return err
	}
	return nil
}

// Close ends the writer after the mutations that it has accepted, writes the list of free pages for the next start, and closes the file.
// Calls that still wait for the writer get engine.ErrUnavailable. If the store has failed, the error says why.
func (s *Store) Close() error {
	err := error(nil)
	s.closing.Do(func() {
		s.ended.Store(true)
		close(s.quit)
		<-s.stopped
		if err = s.failure; err == nil {
			err = s.leaveFreeList()
		}
		if !s.stuck.Load() { // otherwise bbolt's Close would wait for ever; the process is about to end
			err = errors.Join(err, s.db.Close())
		}
		err = errors.Join(err, s.unlock())
	})
	if err != nil {
		return fmt.Errorf("close database: %w", err)
	}
	return nil
}

// unlock ends both locks.
func (s *Store) unlock() error {
	var err error
	if s.file != nil {
		err = s.file.Close()
	}
	return errors.Join(err, s.lock.Close())
}

// leaveFreeList makes a commit that writes the free list, so that the next start need not scan the file for it. If the disk has no room
// for it, the next start scans the file as after a crash.
func (s *Store) leaveFreeList() error {
	s.db.NoFreelistSync = false
	tx, err := s.db.Begin(true)
	if err != nil {
		return err
	}
	txid := uint64(tx.ID())
	if err := tx.Commit(); err != nil {
		if newest, lookErr := s.newestOnDisk(); lookErr == nil && isRefusal(err, newest, txid) {
			return nil
		}
		return err
	}
	return s.lock.Truncate(0) // not open any more
}

// SetLimits changes Options.MinFree and Options.MaxBytes.
func (s *Store) SetLimits(minFree, maxBytes int64) { s.space.limit(minFree, maxBytes) }

// Failed returns a channel that is closed when a commit has failed. Nothing is stored after that, and the process should end.
func (s *Store) Failed() <-chan struct{} { return s.failed }

// Err returns why the store has failed, nil if it has not.
func (s *Store) Err() error {
	select {
	case <-s.failed:
		return s.failure
	default:
		return nil
	}
}

func (s *Store) fail(err error) {
	s.failure = fmt.Errorf("the database could not be written, and nothing is acknowledged any more: %w", err)
	s.ended.Store(true)
	close(s.failed)
}

func (s *Store) unavailable() error {
	if err := s.Err(); err != nil {
		return fmt.Errorf("%w: %w", engine.ErrUnavailable, err)
	}
	return fmt.Errorf("%w: the database is closed", engine.ErrUnavailable)
}

func (s *Store) observe(mutations int, took time.Duration) { s.opts.ObserveCommit(mutations, took) }

// Webhooks implements engine.Store.
func (s *Store) Webhooks() *engine.WebhookSet { return s.hooks.Load() }

// Current implements engine.Store. Nobody else changes the data.
func (s *Store) Current(context.Context) error {
	if s.ended.Load() {
		return s.unavailable()
	}
	return nil
}

// view runs f in a read transaction. f must copy what it keeps, and must not block: while it runs, no page that it may read can be used
// again.
func (s *Store) view(ctx context.Context, f func(*bbolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-s.stopped:
		return s.unavailable()
	default:
	}
	err := s.viewRecovering(f)
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return s.unavailable()
	}
	return err
}

// viewRecovering runs f in a read transaction. It turns panics and faults that a damaged file causes into errors.
func (s *Store) viewRecovering(f func(*bbolt.Tx) error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if damage := recoverDamage(recover()); damage != nil {
			err = damage
		}
	}()
	tx, err := s.beginTx(false)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	return f(tx)
}

// beginTx begins a transaction. If bbolt panics while it begins one, because the meta pages cannot be read any more, it keeps the locks that
// it has taken. Nothing may be begun after that: it would wait for ever.
func (s *Store) beginTx(writable bool) (tx *bbolt.Tx, err error) {
	if s.stuck.Load() {
		return nil, fmt.Errorf("%w: its first pages could not be read", ErrCorrupt)
	}
	defer func() {
		if damage := recoverDamage(recover()); damage != nil {
			s.stuck.Store(true)
			err = damage
		}
	}()
	return s.db.Begin(writable)
}

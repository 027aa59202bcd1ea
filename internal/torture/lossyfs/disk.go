package lossyfs

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Kind is what an operation does.
type Kind uint8

// The kinds of operations.
const (
	Create   Kind = iota + 1 // makes the empty file Ino under Name
	Write                    // writes Data into Ino at Off
	Truncate                 // makes Ino Off bytes long
	Sync                     // syncs Ino
	Rename                   // gives what is called Name the name To
	Unlink                   // removes Name
	SyncDir                  // syncs the directory
)

// Op is one operation.
type Op struct {
	Kind     Kind
	Ino      uint64
	Off      int64
	Data     []byte
	Name, To string
	// Failed says that a sync has answered with an error.
	Failed bool
	At     time.Time
}

// Keep says what a cut leaves of the operations that were not synced.
type Keep uint8

// What a cut may leave.
const (
	KeepNone Keep = iota
	KeepAll
	KeepSome // what chance leaves
)

func (k Keep) String() string { return [...]string{"none", "all", "some"}[k] }

// Disk is a directory with files, each as processes see it and as the disk has it.
type Disk struct {
	files         map[uint64]*file
	live, durable map[string]uint64
	unsynced      []Op // on names
	applied       int
}

type file struct {
	live, durable image
	unsynced      []Op
}

// NewDisk returns an empty Disk.
func NewDisk() *Disk {
	return &Disk{files: make(map[uint64]*file), live: make(map[string]uint64), durable: make(map[string]uint64)}
}

// Apply carries out an operation. Data must not be changed afterwards.
func (d *Disk) Apply(op Op) error {
	f := d.files[op.Ino]
	if f == nil && (op.Kind == Write || op.Kind == Truncate || op.Kind == Sync) {
		return fmt.Errorf("file %d: %w", op.Ino, fs.ErrNotExist)
	}
	d.applied++
	switch op.Kind {
	case Write, Truncate:
		apply(&f.live, op)
		f.unsynced = append(f.unsynced, op)
	case Sync:
		// The system lets nobody write to a file while it is synced: a sync covers all that there is.
		if !op.Failed {
			for _, op := range f.unsynced {
				apply(&f.durable, op)
			}
		}
		f.unsynced = nil
	case Create, Rename, Unlink:
		if op.Kind == Create {
			d.files[op.Ino] = &file{live: newImage(), durable: newImage()}
		}
		name(d.live, op)
		d.unsynced = append(d.unsynced, op)
	case SyncDir:
		// A failed one loses nothing: the journal still has it.
		if !op.Failed {
			for _, op := range d.unsynced {
				name(d.durable, op)
			}
			d.unsynced = nil
		}
	}
	return nil
}

func apply(m *image, op Op) {
	if op.Kind == Write {
		m.write(op.Data, op.Off)
	} else {
		m.truncate(op.Off)
	}
}

func name(names map[string]uint64, op Op) {
	switch ino, ok := names[op.Name]; {
	case op.Kind == Create:
		names[op.Name] = op.Ino
	case op.Kind == Unlink:
		delete(names, op.Name)
	case ok && op.Name != op.To:
		names[op.To] = ino
		delete(names, op.Name)
	}
}

// Applied is the number of operations that there were.
func (d *Disk) Applied() int { return d.applied }

// Cut returns the Disk that a power cut would leave now. d stays as it is.
func (d *Disk) Cut(keep Keep, rng *rand.Rand) *Disk {
	left := NewDisk()
	names := maps.Clone(d.durable)
	n := len(d.unsynced)
	switch keep {
	case KeepNone:
		n = 0
	case KeepSome:
		n = rng.IntN(n + 1)
	}
	for _, op := range d.unsynced[:n] {
		name(names, op)
	}
	for _, name := range slices.Sorted(maps.Keys(names)) { // in an order that a seed repeats
		ino := names[name]
		left.live[name], left.durable[name] = ino, ino
		if left.files[ino] != nil {
			continue
		}
		f := d.files[ino]
		m := f.durable.clone()
		for _, op := range survivors(f.unsynced, keep, rng) {
			apply(&m, op)
		}
		left.files[ino] = &file{live: m, durable: m.clone()}
	}
	return left
}

// survivors chooses what a cut leaves of a file's operations: nothing, everything, or one of three ways in which a disk may
// have begun to write them.
func survivors(unsynced []Op, keep Keep, rng *rand.Rand) (ops []Op) {
	if keep == KeepNone {
		return nil
	}
	const inOrder, whole, torn = 0, 1, 2 // up to a torn one; single ones, whole; single sectors
	way, share, until := -1, 0.0, 0
	if keep == KeepSome && len(unsynced) > 0 {
		way, share, until = rng.IntN(3), rng.Float64(), rng.IntN(len(unsynced))
	}
	for i, op := range unsynced {
		switch {
		case way == whole && rng.Float64() >= share, way == inOrder && i > until:
		case way == torn && op.Kind == Truncate && rng.Float64() >= share:
		case op.Kind == Write && (way == torn || way == inOrder && i == until):
			ops = append(ops, tear(op, share, rng)...)
		default:
			ops = append(ops, op)
		}
	}
	return ops
}

// tear leaves about a share of a write's sectors.
func tear(op Op, share float64, rng *rand.Rand) (ops []Op) {
	for data, off := op.Data, op.Off; len(data) > 0; {
		n := min(len(data), int(sectorSize-off%sectorSize))
		if rng.Float64() < share {
			ops = append(ops, Op{Kind: Write, Ino: op.Ino, Off: off, Data: data[:n]})
		}
		data, off = data[n:], off+int64(n)
	}
	return ops
}

// Evict drops what is clean from the cache: what a failed sync has lost is not seen any more either.
func (d *Disk) Evict() {
	for _, f := range d.files {
		f.live = f.durable.clone()
		for _, op := range f.unsynced {
			apply(&f.live, op)
		}
	}
}

// Used is how many bytes the files with a name take. Holes take none.
func (d *Disk) Used() (bytes int64) {
	for _, ino := range d.live {
		bytes += int64(len(d.files[ino].live.pages)) * pageSize
	}
	return bytes
}

// Save writes the files, as processes see them, to a directory of another file system, which is made if there is none.
func (d *Disk) Save(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for name, ino := range d.live {
		if err := d.files[ino].live.save(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("save: %w", err)
		}
	}
	return nil
}

func (m *image) save(path string) error {
	w, err := os.Create(path)
	if err != nil {
		return err
	}
	err = w.Truncate(m.size)
	for n, page := range m.pages {
		if err == nil {
			_, err = w.WriteAt(page[:min(pageSize, m.size-n*pageSize)], n*pageSize)
		}
	}
	return errors.Join(err, w.Close())
}

package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"runtime"

	"go.etcd.io/bbolt"
)

// create makes an empty database. bbolt's own creation is not crash-safe: a crash may leave an unusable file.
func create(path string) error { return createVersion(path, schemaVersion) }

func createVersion(path string, version uint32) error {
	tmp := path + ".tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	o := boltOptions()
	o.InitialMmapSize, o.NoFreelistSync, o.OpenFile = 0, false, openNew
	db, err := bbolt.Open(tmp, 0o600, o)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range allBuckets {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		meta := tx.Bucket(bucketMeta)
		if err := meta.Put(keySchema, sealBytes(keySchema, u32key(version))); err != nil {
			return err
		}
		if err := meta.Put(keyNumbered, sealBytes(keyNumbered, u64key(0))); err != nil {
			return err
		}
		return meta.Put(keyNonce, sealBytes(keyNonce, u32key(rand.Uint32N(1<<nonceBits))))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, path) // durable once its directory is synced, see Store.open
}

// openNew opens a file that must not exist, not even as a symbolic link.
func openNew(path string, flag int, mode os.FileMode) (*os.File, error) {
	return os.OpenFile(path, flag|os.O_EXCL, mode)
}

func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // directories cannot be synced there
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// heal makes durable what the file shows. If the sync of the last commit before a crash failed, the system may show a meta page that
// the disk does not have. A commit on top of it could destroy the file at the next power cut. So heal writes the two meta pages again
// as they are read, and syncs them.
func heal(f *os.File) error {
	metas, err := readMetas(f)
	if err != nil {
		return err
	}
	if err := checkSize(f, metas); err != nil {
		return err
	}
	if _, err := f.WriteAt(metas, 0); err != nil {
		return err
	}
	return f.Sync()
}

func readMetas(f *os.File) ([]byte, error) {
	metas := make([]byte, 2*pageSize)
	if n, err := f.ReadAt(metas, 0); err == io.EOF {
		return nil, fmt.Errorf("%w: the file has only %d bytes", ErrNotDatabase, n)
	} else if err != nil {
		return nil, err
	}
	return metas, nil
}

// What is read of bbolt's meta pages (version 2 of its format): a header of 16 bytes, then these offsets.
const (
	metaMagic     = 16      // u32
	metaVersion   = 16 + 4  // u32
	metaHighWater = 16 + 40 // u64: the first page beyond those in use
	metaTxid      = 16 + 48 // u64
	metaChecksum  = 16 + 56 // u64: FNV-1a of what stands before it, from the magic on
	boltMetaMagic = 0xED0CDAED
	boltVersion   = 2
)

// checkSize refuses a file that is shorter than its pages, such as an incomplete copy. bbolt would read beyond the end of its map,
// and SIGBUS would end the process.
func checkSize(f *os.File, metas []byte) error {
	_, highWater := newestMeta(metas)
	if highWater == 0 {
		return fmt.Errorf("%w: neither of its two meta pages is one", ErrNotDatabase)
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if has := uint64(info.Size()) / pageSize; has < highWater {
		return fmt.Errorf("%w: the file is truncated: it has %d pages of %d", ErrCorrupt, has, highWater)
	}
	return nil
}

// newestMeta returns the newest transaction of two meta pages, and the first page beyond those in use. It returns 0 if neither is
// valid.
func newestMeta(metas []byte) (txid, highWater uint64) {
	m := newestMetaPage(metas)
	if m == nil {
		return 0, 0
	}
	return binary.NativeEndian.Uint64(m[metaTxid:]), binary.NativeEndian.Uint64(m[metaHighWater:])
}

// newestMetaPage returns the one of two meta pages that bbolt uses, nil if neither is valid.
func newestMetaPage(metas []byte) []byte {
	var newest []byte
	for _, m := range [][]byte{metas[:pageSize], metas[pageSize:]} {
		sum := fnv.New64a()
		sum.Write(m[metaMagic:metaChecksum])
		if binary.NativeEndian.Uint32(m[metaMagic:]) != boltMetaMagic || binary.NativeEndian.Uint32(m[metaVersion:]) != boltVersion ||
			sum.Sum64() != binary.NativeEndian.Uint64(m[metaChecksum:]) {
			continue // bbolt uses the other one
		}
		if newest == nil || binary.NativeEndian.Uint64(m[metaTxid:]) > binary.NativeEndian.Uint64(newest[metaTxid:]) {
			newest = m
		}
	}
	return newest
}

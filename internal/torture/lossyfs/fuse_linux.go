package lossyfs

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// server is a mounted Disk and what is to go wrong with it.
type server struct {
	mu        sync.Mutex // guards all below
	disk      *Disk
	epoch     uint64 // counts cuts and resets: what was opened before one can do nothing any more
	frozen    bool
	freezeIn  int64 // after how many more operations it is to be frozen; 0: none
	nextIno   uint64
	log       []Op
	recording bool
	failIn    int64 // the how manieth sync from now on is to fail; 0: none
	delay     time.Duration
	quota     int64 // 0: none
	stats     Stats
}

// vast is how large the disk is without a quota.
const vast = 1 << 40

// replaceLocked puts another Disk in the place of the present one, whose open files become useless.
func (s *server) replaceLocked(d *Disk) {
	s.disk = d
	s.epoch++
	s.frozen, s.freezeIn = false, 0
	s.log = nil
	s.recording = false
}

// do applies an operation of a file that was found in an epoch.
func (s *server) doLocked(epoch uint64, op Op) syscall.Errno {
	if epoch != s.epoch || s.frozen {
		return syscall.EIO
	}
	op.At = time.Now()
	if err := s.disk.Apply(op); err != nil {
		return syscall.EIO
	}
	if s.recording {
		s.log = append(s.log, op)
	}
	if s.freezeIn > 0 {
		s.freezeIn--
		s.frozen = s.freezeIn == 0
	}
	return 0
}

func (s *server) do(epoch uint64, op Op) syscall.Errno {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.doLocked(epoch, op)
}

func (s *server) write(epoch, ino uint64, data []byte, off int64) syscall.Errno {
	data = bytes.Clone(data) // the caller uses the buffer again
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.disk.files[ino]; epoch == s.epoch && f != nil && s.quota > 0 {
		if grows := f.live.grows(off, len(data)) * pageSize; grows > 0 && s.disk.Used()+grows > s.quota {
			s.stats.Refused++
			return syscall.ENOSPC
		}
	}
	return s.doLocked(epoch, Op{Kind: Write, Ino: ino, Off: off, Data: data})
}

// sync carries out a Sync or SyncDir, or lets it fail.
func (s *server) sync(epoch uint64, op Op) syscall.Errno {
	s.mu.Lock()
	s.stats.Syncs++
	op.Failed = s.failIn == 1
	s.failIn = max(0, s.failIn-1)
	delay := s.delay
	s.mu.Unlock()
	if op.Failed {
		delay = 0
	}
	time.Sleep(delay)
	s.mu.Lock()
	defer s.mu.Unlock()
	if errno := s.doLocked(epoch, op); errno != 0 || !op.Failed {
		return errno
	}
	s.stats.FailedAt = time.Now()
	return syscall.EIO
}

// cut is a power cut: the Disk is as a cut leaves it from now on.
func (s *server) cut(keep Keep, seed uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replaceLocked(s.disk.Cut(keep, rand.New(rand.NewPCG(seed, 0))))
}

// dir is the directory.
type dir struct {
	fs.Inode
	s *server
}

// node is a file, as it was found in an epoch.
type node struct {
	fs.Inode
	s          *server
	epoch, ino uint64
}

var (
	_ fs.NodeLookuper  = (*dir)(nil)
	_ fs.NodeReaddirer = (*dir)(nil)
	_ fs.NodeCreater   = (*dir)(nil)
	_ fs.NodeRenamer   = (*dir)(nil)
	_ fs.NodeUnlinker  = (*dir)(nil)
	_ fs.NodeFsyncer   = (*dir)(nil)
	_ fs.NodeStatfser  = (*dir)(nil)
	_ fs.NodeGetattrer = (*node)(nil)
	_ fs.NodeSetattrer = (*node)(nil)
	_ fs.NodeOpener    = (*node)(nil)
	_ fs.NodeReader    = (*node)(nil)
	_ fs.NodeWriter    = (*node)(nil)
	_ fs.NodeFsyncer   = (*node)(nil)
	_ fs.NodeStatfser  = (*node)(nil)
)

// child returns the node of a file. The kernel keeps nodes by their number: a new epoch needs new ones.
func (d *dir) child(ctx context.Context, ino uint64, out *fuse.EntryOut) *fs.Inode {
	n := &node{s: d.s, epoch: d.s.epoch, ino: ino}
	n.attrLocked(&out.Attr)
	return d.NewInode(ctx, n, fs.StableAttr{Mode: fuse.S_IFREG, Ino: d.s.epoch<<32 | ino})
}

func (n *node) attrLocked(out *fuse.Attr) {
	out.Mode = fuse.S_IFREG | 0o600
	out.Nlink = 1
	out.Blksize = pageSize
	if f := n.s.disk.files[n.ino]; f != nil && n.epoch == n.s.epoch {
		out.Size = uint64(f.live.size)
		out.Blocks = uint64(len(f.live.pages)) * pageSize / 512
	}
}

func (d *dir) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	ino, ok := d.s.disk.live[name]
	if !ok {
		return nil, syscall.ENOENT
	}
	return d.child(ctx, ino, out), 0
}

func (d *dir) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	var entries []fuse.DirEntry
	for name, ino := range d.s.disk.live {
		entries = append(entries, fuse.DirEntry{Name: name, Mode: fuse.S_IFREG, Ino: d.s.epoch<<32 | ino})
	}
	return fs.NewListDirStream(entries), 0
}

func (d *dir) Create(ctx context.Context, name string, _, _ uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	if _, ok := d.s.disk.live[name]; ok {
		return nil, nil, 0, syscall.EEXIST
	}
	d.s.nextIno++
	ino := d.s.nextIno
	if errno := d.s.doLocked(d.s.epoch, Op{Kind: Create, Ino: ino, Name: name}); errno != 0 {
		return nil, nil, 0, errno
	}
	return d.child(ctx, ino, out), nil, 0, 0
}

func (d *dir) Rename(_ context.Context, name string, _ fs.InodeEmbedder, to string, flags uint32) syscall.Errno {
	if flags != 0 {
		return syscall.ENOSYS
	}
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	return d.s.doLocked(d.s.epoch, Op{Kind: Rename, Name: name, To: to})
}

func (d *dir) Unlink(_ context.Context, name string) syscall.Errno {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	return d.s.doLocked(d.s.epoch, Op{Kind: Unlink, Name: name})
}

func (d *dir) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	d.s.mu.Lock()
	epoch := d.s.epoch
	d.s.mu.Unlock()
	return d.s.sync(epoch, Op{Kind: SyncDir})
}

func (d *dir) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno { return d.s.statfs(out) }

func (n *node) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno { return n.s.statfs(out) }

func (s *server) statfs(out *fuse.StatfsOut) syscall.Errno {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := s.quota
	if size == 0 {
		size = vast
	}
	out.Bsize, out.Frsize, out.NameLen = pageSize, pageSize, 255
	out.Blocks = uint64(size / pageSize)
	out.Bfree = uint64(max(0, size-s.disk.Used()) / pageSize)
	out.Bavail = out.Bfree
	return 0
}

func (n *node) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.s.mu.Lock()
	defer n.s.mu.Unlock()
	n.attrLocked(&out.Attr)
	return 0
}

// Setattr changes the size. Times and modes are of no interest.
func (n *node) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	n.s.mu.Lock()
	defer n.s.mu.Unlock()
	if size, ok := in.GetSize(); ok {
		if errno := n.s.doLocked(n.epoch, Op{Kind: Truncate, Ino: n.ino, Off: int64(size)}); errno != 0 {
			return errno
		}
	}
	n.attrLocked(&out.Attr)
	return 0
}

func (n *node) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if flags&syscall.O_TRUNC != 0 {
		if errno := n.s.do(n.epoch, Op{Kind: Truncate, Ino: n.ino}); errno != 0 {
			return nil, 0, errno
		}
	}
	return nil, 0, 0
}

func (n *node) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n.s.mu.Lock()
	defer n.s.mu.Unlock()
	f := n.s.disk.files[n.ino]
	if f == nil || n.epoch != n.s.epoch {
		return nil, syscall.EIO
	}
	return fuse.ReadResultData(dest[:f.live.read(dest, off)]), 0
}

func (n *node) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	if errno := n.s.write(n.epoch, n.ino, data, off); errno != 0 {
		return 0, errno
	}
	return uint32(len(data)), 0
}

func (n *node) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	return n.s.sync(n.epoch, Op{Kind: Sync, Ino: n.ino})
}

package lossyfs

import (
	"bufio"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// mountEnv tells the process that serves a file system where to mount it.
const mountEnv = "LOSSYFS_MOUNT"

// request is what the user of a file system asks of the process that serves it; one on a line, as JSON. The zero request asks
// for nothing but the answer that each gets: a reply.
type request struct {
	Do   string
	N    int64
	Keep Keep
	Seed uint64
	Path string
}

type reply struct {
	Error string
	Stats Stats
}

// Main serves a file system where this process was started for that, and does not return then. A test binary calls it before
// all else, such as from an init function.
func Main() {
	dir := os.Getenv(mountEnv)
	if dir == "" {
		return
	}
	if err := serve(dir, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "lossyfs:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serve mounts an empty Disk and does what requests ask until they end.
func serve(path string, requests io.Reader, replies io.Writer) (err error) {
	s := &server{disk: NewDisk()}
	zero := time.Duration(0)
	mounted, err := fs.Mount(path, &dir{s: s}, &fs.Options{
		EntryTimeout: &zero, AttrTimeout: &zero, NegativeTimeout: &zero,
		MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "lossyfs", Name: "lossyfs", MaxWrite: 1 << 20, DisableXAttrs: true},
	})
	if err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	defer func() {
		if mounted.Unmount() != nil { // somebody has a file open
			err = syscall.Unmount(path, syscall.MNT_DETACH)
		}
	}()
	out := json.NewEncoder(replies)
	if err := out.Encode(reply{}); err != nil { // it is mounted
		return err
	}
	for in := json.NewDecoder(bufio.NewReader(requests)); ; {
		var q request
		if err := in.Decode(&q); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		var a reply
		if err := s.answer(q); err != nil {
			a.Error = fmt.Sprintf("%s: %v", q.Do, err)
		}
		a.Stats = s.statistics()
		if err := out.Encode(a); err != nil {
			return err
		}
	}
}

func (s *server) statistics() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := s.stats
	stats.Ops = s.disk.Applied()
	stats.Used = s.disk.Used()
	return stats
}

func (s *server) answer(q request) error {
	if q.Do == "cut" {
		s.cut(q.Keep, q.Seed)
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch q.Do {
	case "":
	case "reset":
		s.replaceLocked(NewDisk())
		s.failIn, s.delay, s.quota, s.stats = 0, 0, 0, Stats{}
	case "record":
		if s.disk.Applied() > 0 {
			return errors.New("the disk is not new")
		}
		s.recording = true
	case "freeze":
		s.frozen, s.freezeIn = q.N == 0, q.N
	case "evict":
		s.disk.Evict()
		s.epoch++
	case "fail":
		s.failIn, s.stats.FailedAt = q.N, time.Time{}
	case "delay":
		s.delay = time.Duration(q.N)
	case "quota":
		s.quota = q.N
	case "save":
		return s.disk.Cut(KeepNone, nil).Save(q.Path)
	case "log":
		return saveLog(q.Path, s.log)
	default:
		return errors.New("unknown")
	}
	return nil
}

func saveLog(path string, ops []Op) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	return errors.Join(gob.NewEncoder(w).Encode(ops), w.Flush(), f.Close())
}

//go:build darwin || freebsd

package bolt

import "golang.org/x/sys/unix"

// networkKinds are the network file systems, by the names that mount(8) shows.
var networkKinds = map[string]string{"nfs": "NFS", "smbfs": "SMB", "afpfs": "AFP", "webdav": "WebDAV"}

func lookAtDisk(dir string) (disk, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return disk{}, err
	}
	return disk{free: int64(s.Bavail) * int64(s.Bsize), known: s.Blocks > 0, network: networkKinds[unix.ByteSliceToString(s.Fstypename[:])]}, nil
}

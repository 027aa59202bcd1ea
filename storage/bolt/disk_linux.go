package bolt

import "golang.org/x/sys/unix"

// networkKinds are the network file systems, by the magic numbers of statfs(2). FUSE is not among them: it can be local, and its sync
// can be as good as a disk's.
var networkKinds = map[uint32]string{
	unix.NFS_SUPER_MAGIC:  "NFS",
	unix.SMB_SUPER_MAGIC:  "SMB",
	unix.SMB2_SUPER_MAGIC: "SMB",
	unix.CIFS_SUPER_MAGIC: "SMB",
	unix.AFS_SUPER_MAGIC:  "AFS",
}

func lookAtDisk(dir string) (disk, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return disk{}, err
	}
	return disk{free: int64(s.Bavail) * int64(s.Bsize), known: s.Blocks > 0, network: networkKinds[uint32(s.Type)]}, nil
}

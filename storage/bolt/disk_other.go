//go:build !linux && !darwin && !freebsd && !windows

package bolt

// lookAtDisk knows nothing here: there is no watermark then.
func lookAtDisk(string) (disk, error) { return disk{}, nil }

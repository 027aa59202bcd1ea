package bolt

import (
	"errors"
	"path/filepath"

	"golang.org/x/sys/windows"
)

func lookAtDisk(dir string) (disk, error) {
	full, err := filepath.Abs(dir)
	if err != nil {
		return disk{}, err
	}
	name, err := windows.UTF16PtrFromString(full)
	if err != nil {
		return disk{}, err
	}
	var d disk
	if root, err := windows.UTF16PtrFromString(filepath.VolumeName(full) + `\`); err == nil && windows.GetDriveType(root) == windows.DRIVE_REMOTE {
		d.network = "network drive"
	}
	var free uint64
	if err := windows.GetDiskFreeSpaceEx(name, &free, nil, nil); err != nil {
		return d, err
	}
	d.free, d.known = int64(free), true
	return d, nil
}

func isNoSpace(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

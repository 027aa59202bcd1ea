package bench

import "syscall"

// ownGroup keeps Ctrl-C, which a console sends to all of a group, from a child: the run ends it after the last figures.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

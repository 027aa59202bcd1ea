//go:build unix && !linux

package bench

import "syscall"

// ownGroup keeps Ctrl-C, which a terminal sends to all of a group, from a child: the run ends it after the last figures.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

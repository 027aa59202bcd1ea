//go:build unix && !linux

package bench

import "syscall"

// ownGroup keeps Ctrl-C from a child. A terminal sends it to the whole process group, but the run stops the child itself, after the last figures.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

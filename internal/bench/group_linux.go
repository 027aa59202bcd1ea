package bench

import "syscall"

// ownGroup keeps Ctrl-C from a child. A terminal sends it to the whole process group, but the run stops the child itself, after the last figures. The kernel kills
// the child if the run itself is killed.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

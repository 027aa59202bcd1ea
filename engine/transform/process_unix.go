//go:build unix

package transform

import (
	"os/exec"
	"syscall"
)

// detach gives the worker a process group of its own: a terminal's Ctrl+C is not for it, and a priority is set for all its threads at once.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// setPriority sets the nice value of a worker. A sandbox may refuse it: nothing relies on it.
func setPriority(pid, nice int) { syscall.Setpriority(syscall.PRIO_PGRP, pid, nice) }

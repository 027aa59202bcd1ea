//go:build !unix

package transform

import "os/exec"

// detach and setPriority are for Unix.
func detach(*exec.Cmd) {}

func setPriority(pid, nice int) {}

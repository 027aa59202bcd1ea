//go:build !unix

package transform

import "os/exec"

const niceSlow = 0

// detach and setPriority are for Unix.
func detach(*exec.Cmd) {}

func setPriority(pid, nice int) {}

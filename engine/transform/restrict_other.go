//go:build !linux

package transform

// restrict has the kernel help with the limits of this process, on Linux.
func restrict() {}

//go:build !linux

package transform

// setIdle is for Linux.
func setIdle(int, bool) {}

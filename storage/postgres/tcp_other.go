//go:build !linux

package postgres

import "syscall"

// setUserTimeout does nothing: only Linux knows a bound for each connection.
func setUserTimeout(string, string, syscall.RawConn) error { return nil }

//go:build !linux

package postgres

// thisProcess names the process that runs: not where nobody can tell that another one has ended for certain.
func thisProcess() process { return process{} }

func gone(process) bool { return false }

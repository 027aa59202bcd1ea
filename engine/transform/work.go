package transform

import "io"

// Work is a worker: it answers the jobs that come from in on out until in ends.
func Work(in io.Reader, out io.Writer) error { return nil }

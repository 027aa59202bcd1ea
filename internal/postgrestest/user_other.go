//go:build !unix

package postgrestest

import (
	"errors"
	"os/exec"
)

// asUser says that clusters are made on Unix alone.
func asUser(*exec.Cmd, ...string) error { return errors.New("a test cluster needs a Unix system") }

// kill has nothing to end.
func kill(*exec.Cmd) {}

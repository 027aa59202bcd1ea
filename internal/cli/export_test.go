package cli

import (
	"context"
	"os"

	"hookbolt/internal/dbfile"
)

// DieVariable makes a child process that reads a database end as one that a fault has ended.
const DieVariable = "HOOKBOLT_TEST_DIE"

func init() {
	if !dbfile.IsChild() || os.Getenv(DieVariable) == "" {
		return
	}
	for i := range commands {
		commands[i].run = func(context.Context, *Program, []string) error { panic("of the test") }
	}
}

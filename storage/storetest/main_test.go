package storetest_test

import (
	"os"
	"testing"

	"hookbolt/internal/memdir"
)

// TestMain keeps the files of the tests in memory: the suite kills no process and cuts no power.
func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	defer memdir.Use()()
	return m.Run()
}

package httpapi

import (
	"testing"

	"go.uber.org/goleak"

	"hookbolt/internal/teststore"
)

// TestMain fails the package if its tests leave a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(teststore.Main{M: m}) }

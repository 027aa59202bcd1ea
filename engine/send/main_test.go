package send

import (
	"net/netip"
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails the package if its tests leave a goroutine behind. The tests' machine has no public address: a look at a route would make
// a socket for an address outside of loopback, and what it finds depends on the machine.
func TestMain(m *testing.M) {
	isOwn = func(netip.Addr) (bool, error) { return false, nil }
	goleak.VerifyTestMain(m)
}

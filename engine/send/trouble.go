package send

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Trouble is a shortage of this machine that kept an attempt from being made; "" for none. Such an attempt says nothing about the endpoint.
type Trouble string

// The troubles.
const (
	TroubleDescriptors Trouble = "descriptors" // no file descriptor is left for a connection
	TroubleMemory      Trouble = "memory"      // the kernel has no memory or buffers for a connection
	TroublePorts       Trouble = "ports"       // no local port is left for a connection
	TroubleNetwork     Trouble = "network"     // the network is down: this machine has a route to nowhere
	TroubleResolver    Trouble = "resolver"    // no name server answers, whatever it is asked
	TroubleProcesses   Trouble = "processes"   // no process can be started that runs the programs of webhooks
)

// Troubles are all troubles.
var Troubles = []Trouble{TroubleDescriptors, TroubleMemory, TroublePorts, TroubleNetwork, TroubleResolver, TroubleProcesses}

// detail describes a trouble to people.
func (t Trouble) detail() string {
	switch t {
	case TroubleDescriptors:
		return "hookbolt has no file descriptor left for a connection"
	case TroubleMemory:
		return "this machine has no memory left for a connection"
	case TroublePorts:
		return "this machine has no local port left for a connection"
	case TroubleNetwork:
		return "the network of this machine is down"
	case TroubleProcesses:
		return "no process could be started that runs programs"
	}
	return "no name server of this machine answers"
}

// troubleErrors are the errors that only this machine can cause.
var troubleErrors = []struct {
	trouble Trouble
	errors  []syscall.Errno
}{
	{TroubleDescriptors, noDescriptors},
	{TroubleMemory, noMemory},
	{TroubleNetwork, networkDown},
}

// machine tells troubles of this machine from those of endpoints.
//
// Some errors have two causes, and are looked at twice. "Network unreachable" and an IPv6 address that cannot be assigned are the
// endpoint's as long as this machine has any route: its address is one that cannot be reached from here, and retrying forever would not
// help. A lookup that times out or fails is the endpoint's as long as a name server answers for the root: then its own name servers are
// at fault. "No route to host" and "connection refused" are the endpoint's always: a router or the endpoint says so.
type machine struct {
	resolver *net.Resolver // nil means the system's
	hasRoute func() bool   // whether this machine has a route to a public address; only tests replace it

	mu       sync.Mutex // guards what follows
	askedAt  time.Time  // when the name servers were last asked for the root
	answered bool       // whether one did
}

const (
	// rootTimeout bounds the question for the root. A name server that takes longer is of no use for an attempt either.
	rootTimeout = 3 * time.Second
	// rootValidFor is how long the answer to it is used, so that many attempts that fail together ask once.
	rootValidFor = 5 * time.Second
)

// trouble returns the trouble that is the cause of an attempt's error; "" if the error may be the endpoint's. lookingUp says that the
// attempt ended during the lookup of a name: at its timeout, net/http does not wait for the error of the lookup.
func (m *machine) trouble(ctx context.Context, err error, lookingUp bool) Trouble {
	for _, row := range troubleErrors {
		for _, errno := range row.errors {
			if errors.Is(err, errno) {
				return row.trouble
			}
		}
	}
	if lookup, ok := errors.AsType[*net.DNSError](err); ok {
		return m.lookupTrouble(ctx, lookup)
	}
	if lookingUp && errors.Is(err, context.DeadlineExceeded) && !m.nameServerAnswers(ctx) {
		return TroubleResolver
	}
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "dial" {
		return ""
	}
	switch {
	case errors.Is(err, noRoute), errors.Is(err, noLocalAddress) && !isIPv4(op.Addr):
		if !m.hasRoute() {
			return TroubleNetwork
		}
	case errors.Is(err, noLocalAddress), errors.Is(err, tryAgain):
		return TroublePorts // connect(2)
	}
	return ""
}

// lookupTrouble is trouble for a failed lookup. The net package exports only the texts of its causes.
func (m *machine) lookupTrouble(ctx context.Context, err *net.DNSError) Trouble {
	if err.IsNotFound || !err.IsTimeout && !err.IsTemporary && err.Server == "" {
		return "" // a name server has answered, or the name is none
	}
	for _, row := range troubleErrors[:2] {
		for _, errno := range row.errors {
			if strings.HasSuffix(err.Err, errno.Error()) {
				return row.trouble
			}
		}
	}
	if m.nameServerAnswers(ctx) {
		return ""
	}
	return TroubleResolver
}

// nameServerAnswers reports whether a name server answers for the root, which each of them knows. If ctx ends meanwhile, the answer says nothing,
// and is not used again.
func (m *machine) nameServerAnswers(ctx context.Context) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.askedAt.IsZero() && time.Since(m.askedAt) < rootValidFor {
		return m.answered
	}
	resolver := m.resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	asking, cancel := context.WithTimeout(ctx, rootTimeout)
	defer cancel()
	_, err := resolver.LookupNS(asking, ".")
	failed, ok := errors.AsType[*net.DNSError](err)
	answered := err == nil || ok && failed.IsNotFound
	if ctx.Err() == nil {
		m.answered, m.askedAt = answered, time.Now()
	}
	return answered
}

func isIPv4(a net.Addr) bool {
	if a == nil {
		return true
	}
	ap, err := netip.ParseAddrPort(a.String())
	return err != nil || ap.Addr().Unmap().Is4()
}

// hasRoute reports whether this machine has a route to a public address of either family. Connecting a UDP socket sends nothing. The
// addresses are those of root name servers, a.root-servers.net.
func hasRoute() bool {
	for _, address := range []string{"198.41.0.4:53", "[2001:503:ba3e::2:30]:53"} {
		conn, err := net.Dial("udp", address)
		if err == nil {
			conn.Close()
			return true
		}
	}
	return false
}

package torture

import "testing"

// sendFlock is engine/send's own tests with what it does about connections broken. They are fast, as they run in fake time.
var sendFlock = &flock{names: make(map[edit]string)}

func init() {
	const pool, wire = "engine/send/pool.go", "engine/send/wire.go"
	for _, m := range []struct {
		name  string
		edits []edit
	}{
		// A dead HTTP/2 connection is not looked for.
		{"no-ping", []edit{{file: "engine/send/transport.go", old: "SendPingTimeout: pingAfter,", new: `SendPingTimeout: mutated("no-ping", 0, pingAfter),`}}},
		// Connections are used again after a timeout.
		{"no-retire", []edit{{file: pool, old: "if h != nil && !c.retired &&", new: `if h != nil && !c.retired && !mutant("no-retire") &&`}}},
		// A timeout ends the other requests on the same connection.
		{"kills-others", []edit{{file: pool, old: "\t\tif c.requests == 0 {\n\t\t\tgo c.client.Close()\n\t\t}\n\t}\n\th.idle",
			new: "\t\tif c.requests == 0 || mutant(\"kills-others\") {\n\t\t\tgo c.client.Close()\n\t\t}\n\t}\n\th.idle"}}},
		// Idle connections are used again after a timeout on another one.
		{"idle-stays", []edit{
			{file: pool, old: "\tfor c := range h.all {\n\t\tc.retired = true\n",
				new: "\tfor c := range h.all {\n\t\tif mutant(\"idle-stays\") && c.requests == 0 {\n\t\t\tcontinue\n\t\t}\n\t\tc.retired = true\n"},
			{file: pool, old: "\th.idle, h.shared = nil, nil\n", new: "\tif h.shared = nil; !mutant(\"idle-stays\") {\n\t\th.idle = nil\n\t}\n"},
		}},
		// A request that a closed connection has swallowed is lost.
		{"never-again", []edit{{file: pool, old: "if want.fresh || reason == \"\"", new: "if want.fresh || mutant(\"never-again\") || reason == \"\""}}},
		// It is sent again on another connection that was kept.
		{"from-pool", []edit{{file: pool, old: "for !want.fresh {", new: "for !want.fresh || mutant(\"from-pool\") {"}}},
		// It is sent again although an answer has begun.
		{"after-a-byte", []edit{{file: pool, old: "|| t.answered() {", new: "|| t.answered() && !mutant(\"after-a-byte\") {"}}},
		// It is sent again although the connection was new.
		{"new-too", []edit{{file: pool, old: "\tcase !reused:\n", new: "\tcase !reused && !mutant(\"new-too\"):\n"}}},
		// It is sent again although the peer has reset the stream.
		{"any-reset", []edit{{file: pool, old: "return \"\" // the peer did", new: "return mutated(\"any-reset\", RepeatClosed, \"\") // the peer did"}}},
		// A peer that wants HTTP/1.1 is sent the request over HTTP/2 again.
		{"still-http2", []edit{{file: pool, old: "if reason == RepeatHTTP1 {", new: "if reason == RepeatHTTP1 && !mutant(\"still-http2\") {"}}},
		// A connection is kept after an answer with a length that cannot be.
		{"odd-length", []edit{{file: pool, old: "last: !mayFollow(resp) || t.lengthInInterim()", new: "last: !mutant(\"odd-length\") && (!mayFollow(resp) || t.lengthInInterim())"}}},
		// Bytes that nobody has asked for are handed to net/http.
		{"unasked", []edit{{file: wire, old: "if n > 0 && w.resting {", new: "if n > 0 && w.resting && !mutant(\"unasked\") {"}}},
		// It is sent again, and the trace does not tell.
		{"unnoted", []edit{{file: pool, old: "\t\tif !sent {\n", new: "\t\tif !sent || mutant(\"unnoted\") {\n"}}},
	} {
		sendFlock.shared(m.name, m.edits...)
	}
}

// The tests of engine/send notice each way in which it could lose attempts to its own connections, or hide what it does about them.
func TestConnectionsControl(t *testing.T) {
	experiment(t)
	wantCaught(t, sendFlock, "./engine/send",
		"Silent|Pings|Retire|ThatTimesOut|ClosedAs|SameRequest|NoRepeat|OneRepeat|HTTP2Ends|HTTP2Refused|NextAnswer|MayBeFollowed|TokenRequestIs|HTTP11")
}

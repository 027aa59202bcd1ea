// Package torture tortures hookbolt: it runs the real binary as child processes, under load, and does to it what the world does. It
// has tests only, and is no part of the binary.
//
//	go test ./torture -v -torture.short                 a minute or so, every experiment with few repetitions
//	go test ./torture -v -torture.long -timeout 3h      every experiment with its full count
//	go test ./torture -v -torture.long -run '^TestKill$' -torture.seed 17
//
// Without one of the two flags no experiment is run. Everything random comes from a seed, which is printed, and printed once more
// with the command to repeat the experiment when one fails. A seed repeats what was chosen, not how processes were scheduled.
//
// # How it judges
//
// A rig is one hookbolt under test. Producers post sessions to it; the ledger notes strictly what was acknowledged, and from it which
// deliveries must arrive, with what in their payloads. A receiver notes every request under its webhook-id. The books are closed at
// each cut, while no process runs: a copy of the database is checked whole, everything acknowledged must be in it, and the requests
// under each id are held against the attempts recorded for it. So it is known exactly what was in flight or answered and not yet
// recorded at the cut (B in the figures), that nothing else is repeated, and that nothing that was recorded as delivered is sent again.
//
// Power cuts, failing syncs and full disks happen on a file system of the tests' own, package lossyfs, which takes Linux, /dev/fuse and
// root. Where one of them is missing these experiments are skipped, and say so; with HOOKBOLT_REQUIRE_FUSE=1 they fail instead. After a
// power cut the disk is the truth about what was recorded: what a process had seen in its cache does not count.
//
// Every experiment has a failing control: a mutant, hookbolt built with one line of its source changed, that the same experiment must
// find guilty. A harness that sees nothing fails.
package torture

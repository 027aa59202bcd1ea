// Package torture tortures hookbolt: it runs the real binary as child processes, under load, and does to it what the world does. It
// has tests only, and is no part of the binary.
//
//	go test ./internal/torture -v -torture.short                 some minutes, every experiment with few repetitions
//	go test ./internal/torture -v -torture.long -timeout 3h      every experiment with its full count
//	go test ./internal/torture -v -torture.long -run '^TestKill$' -torture.seed 17
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
//
// # What each experiment proves
//
//	TestKill                 kill -9 at any moment, starts and stops included: nothing acknowledged is lost, nothing recorded as
//	                         delivered comes again, only what was unrecorded is repeated, under the same id and with the same bytes
//	TestTerminate            SIGTERM under load: nothing is lost and nothing at all is repeated; a second process on the same
//	                         database is sent away in one line
//	TestRequestsAreAttempts  an endpoint that breaks connections in every way gets exactly the requests that the log has as attempts;
//	                         one that closes idle connections may get fewer (its attempts failed before anything had left), never more
//	TestClock                the wall clock jumps, also over a restart: what is due by the new time is attempted soon, nothing is lost
//	TestDamage               bits flip, the file's end is missing: refused in one line, named by hookbolt check, or read as written
//	TestMisuse               slow and huge requests leave the latency of others, and the memory, as they are
//	TestManyDue              a start with a million due is quick, after a crash too, and the limits of attempts at once hold
//	TestReaders              long lists and backups are not felt by those who send events; the file does not grow for them; each
//	                         backup is clean and holds all that was acknowledged before it
//	TestPowerCut             the power fails under load: as kill -9, by what the disk has
//	TestFirstStartCut        the power fails while a database is made: what is left of it can be started on
//	TestSyncFailure          any fsync fails, then the power: nothing is acknowledged after the error, the process ends, nothing is lost
//	TestProgramKill          as TestKill, with programs in half of the webhooks, whose workers are killed, too: the same bytes and URL
//	                         each time, filtered sessions are not sent before a late lead lets them through, no worker outlives its parent
//	TestProgramLag           no test, but figures, with -torture.lag: the lag of webhooks alone, and beside 30 without programs, with hostile ones, and with long ones
//	TestFullDisk             the disk is full, then not: events are refused, deliveries go on, and all recovers by itself
//	TestCrashImages          every prefix of a recorded run's writes is a database from which nothing acknowledged is missing
//
// With the data in PostgreSQL, fsync on, and the same producers, ledger, receiver and books:
//
//	TestPostgresKill         kill -9 of hookbolt: as TestKill
//	TestPostgresServerKill   the server crashes, is stopped, or loses a process, and hookbolt goes on: nothing is lost, stored twice or repeated
//	TestPostgresCut          connections break in commits, without the answer: the same
//	TestPostgresLocks        others hold locks and cancel statements, and hookbolt is stopped in transactions: the same
//	TestPostgresFullDisk     the disk of the tables or of the log is full: events are refused by 503, then all goes on
//	TestPostgresPooler       PgBouncer in transaction mode is killed: the same; one before 1.21 is refused. HOOKBOLT_PGBOUNCER names the program
//	TestPostgresPromotion    the primary crashes and a standby is promoted: a synchronous one loses nothing, and what another one loses is told
//	TestPostgresRollingUpgrade  three members are replaced by a version with a further step of the schema, and back: nothing is lost or repeated
//	TestPostgresSettings     the role has settings of all kinds: hookbolt works with them, or says what is wrong
//
// With three processes on one database, each of which the system tells by its connections to the receiver, and producers that take them in turn. They go on while one is
// struck, so the books are closed once, at the end: all requests against all attempts in the log. See type fleet. These need Linux, and the
// short form makes only TestFleetKill, two others and two controls, which its seed draws:
//
//	TestFleetKill            kill -9 of one of them: its lanes go on within 12 s, both where the others see its process end and where they miss its beats
//	                         (in a namespace of process numbers of its own, which takes root); only what was unrecorded of it is repeated
//	TestFleetRestart         SIGTERM of one after another: its lanes go on within 3 s, nothing is repeated
//	TestFleetStop            one is stopped for longer than its lease: woken, it begins no attempt and records nothing, and one probe at a time is sent
//	TestFleetPartition       one is cut off from the database, silently or not: no delivery is attempted by two at once, and none by it after five seconds
//	TestFleetCut             their connections break in commits: as TestPostgresCut
//	TestFleetServerKill      the server crashes: as TestPostgresServerKill, and nobody is taken for dead
//	TestFleetSkew            their clocks differ: nobody is taken for dead, nothing is lost, repeated, or later than that
//	TestFleetSettings        a change at one that does not own the lane: nothing is sent the old way after its answer
//	TestFleetRun             all of it in one run of 20 minutes: each member is killed in turn, the database fails over, and a next version rolls through
//
// These need PostgreSQL, see package postgrestest.
//
// Latencies and starts are held to the table's figures in the long form, on a machine that does nothing else; the short form allows
// for others.
package torture

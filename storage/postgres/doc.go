// Package postgres keeps hookbolt's events, webhooks and delivery queue in a PostgreSQL database. It implements [engine.Store].
//
// The rules are in package engine, as pure functions. This package reads rows, asks them, and writes rows. It needs PostgreSQL 13 or later, and works
// behind PgBouncer 1.21 or later in transaction mode: it uses no LISTEN, no session locks, and no parameters at startup.
//
// # Tables
//
// Instants are Unix nanoseconds, 0 for the zero time. Columns that no query needs are together in a binary one (head, rest, body), which begins
// with the number of its format. Small or rare records are JSON. schema.go has the columns.
//
//	schema        the version of the layout, and the oldest version of hookbolt that may still write to it
//	members       a row for each process, with its beat, up to where it has read what others did, how much it has claimed, and which of its endpoints keep deliveries waiting
//	writers       a row for each goroutine that writes, of a member. It is the fence: without it nothing can be committed
//	batches       a row for each transaction, numbered by its writer, with what it changes in the counts, and in lanes of others
//	lanes         which member owns the lanes of a webhook; 0 stands for the background work
//	fleet         one row: the epoch of the webhooks, and a number that is raised when lanes change hands
//	webhooks      engine.Webhook; health has the engine.Health of those whose endpoint is not well
//	sessions      a session's head. no counts up; id is the only random key. Its first marks stand in the row, further ones in marks
//	events        the events of one request for a session, as they came, and their ids
//	deliveries    a delivery's state. id is a UUIDv7 that grows, so new rows come at the end of each index
//	payloads      the frozen bytes of a delivery, or the system event that they are built from
//	attempts      one attempt
//	queue         the waiting deliveries of each lane, by the time of their next attempt
//	exceptions    the failed, cancelled and filtered deliveries of each webhook
//	expiry        sessions and deliveries whose retention ends: one row for all of a batch
//	counts        the counts of each webhook, without those that the rows of batches still carry
//	jobs          cancellations, replays and erasures in progress
//	fan_outs      sessions whose deliveries are still to be made
//	request_keys  what requests with an idempotency key have done
//	history       what each process has counted in each minute of the last day
//	recent        the last attempts of each webhook, for the pages
//	sign_ins      browsers that have signed in to the pages, by hashes
//	copies        how far a copy into the database has come, until it is complete. Open refuses a database that has a row
//
// queue and exceptions stand beside deliveries in place of indexes on its columns: so most updates of a delivery touch no index. No row is updated by
// every transaction, because all would wait for it, and its dead versions would pile up while a snapshot is held.
//
// # Writing
//
// One goroutine, the writer, makes all changes over one connection. It takes the mutations that have gathered during the last commit, and
// makes them durable in one transaction of two round trips; then it answers all callers. There is no artificial delay: batches grow with the load.
//
// A mutation has two functions. needs names the rows that it will read. All that the mutations of a batch have named is read, and locked in the order
// of the keys, in the first round trip, with the BEGIN and the lock of the fence. needs is called again with what was read, and may name more; this
// takes a further round trip, which is rare. Then run decides and changes, in memory, one mutation after another; each sees what those before it have
// changed. What was not named is read when it is asked for. The second round trip writes all changed rows, a statement with lists for each
// table, and ends with the COMMIT.
//
// The batch is a unit of work, see type batch. Rows in it are values that nobody changes: who changes one puts a copy. Of a delivery only its row is put.
// Its place in the queue, its place among the exceptions, its entry of expiry and the counts follow from the row before and the row after, and are
// worked out when the batch is written.
//
// A mutation that walks (a step of the background work) reads by SQL of its own. SQL does not see what the batch has in memory, so such a
// mutation is the first one of its batch. What it finds by SQL it asks for again by key, which locks the row and shows it as it is.
//
// A mutation that fails, fails alone. If it had changed something, the changes of the whole batch are forgotten and the others run
// again, without a round trip; if one of them has sent SQL of its own, in another transaction.
//
// # Errors of a transaction
//
//	connection lost            connect again (after 10 ms, up to 1 s), settle the commit if it was sent, and begin anew
//	40001 40P01 55P03 23505    others were in the way: anew, five times, then each mutation alone, then engine.ErrTransient
//	57014, other 53            the same: a statement took too long, or there was no memory
//	42501 42P01 and the like   a right or a table is missing: each mutation alone; those that need it get engine.ErrTransient, until somebody mends that
//	53100                      engine.ErrFull
//	the fence is gone          the store has failed: another process is the writer
//	any other                  each mutation alone; the culprit gets the error
//
// A commit that was sent and not answered is settled by its row in batches, under its number. The writer inserts a row with that number that has no counts.
// The insert waits for a transaction that still goes on. If the row of the batch is there, it was committed. If not, the number is taken now, and
// a commit that arrives late fails on it. Nothing else is written before that.
//
// A commit that waits for a synchronous standby becomes visible when the wait is given up, because somebody has cancelled it or the connection has ended. The standby may
// not have it, so it counts as a commit without an answer, and it is settled by one that waits anew. Events that are there already are acknowledged by a commit, too.
//
// A database that is away is waited for, for Options.Patience since it was lost. Then the callers get engine.ErrAway, at once until it is back, and no attempt
// begins; see Mine. A goroutine connects meanwhile, so that nobody waits for attempts to connect; see type dialer. A mutation also waits no longer than
// that for the writer, behind others, and a transaction that takes longer is cut off. The log has a line when the database is away, and one when it is
// back. The process does not end with the database.
//
// A caller that was told that the outcome is unknown repeats its call. A step of an erasure would then find nothing of what it has erased, so its answer is
// kept; see type eraseStep. A request with a key is found by the key, and an attempt by its number.
//
// # Pages that cannot be read
//
// The server refuses a statement that meets a damaged page. A call for one record fails then, and so does one mutation of a batch. What walks reads around the
// page: smaller parts, each delivery alone, and what is behind the page; see passDamage. What was passed is named by Maintain.
//
// A step of the background work meets many tables, and changes rows that it has not read. If it fails, the next ones look at fewer records, until one that looks
// at a single record fails: this record is set aside for a day; see workAround. Tables would grow without end if one page stopped retention. Records whose row of
// expiry cannot be read are found by a sweep through their table. A cancellation that has passed something does not end, so that it is not sent, and begins
// anew after a day. A replay is postponed for a day, so that it hides no other job.
//
// # Processes
//
// One process has the database, unless Options.Shared says otherwise. Whoever opens it takes it over, in a transaction that waits for the transactions of the one
// before, keeps what its batch rows carry, and removes its writer. The one before fails with its next change: it stores nothing more, and should end. Claims are in
// the memory of the process; what it has claimed is due again for the next one.
//
// ClaimDue reads on a connection of its own, beside the writer. It may see the queue as it was before a commit that has ended a claim, so it claims nothing
// whose claim has ended since it began to read; see type look. It begins where the lane begins, and so does not read the entries of what has gone, which
// stay in the index while anybody holds an old snapshot; see type front. What it claims it reads a second time, all of one moment: a delivery that has
// moved meanwhile is given back.
//
// A caller may have been told that the outcome of its change is unknown, and then the change turns out to be stored. Watch reports what it has queued,
// ended and changed, as if another process had done it. The claims of such callers last, because they repeat their call: a repeated attempt is found by the
// number of attempts that the delivery had when it was claimed.
//
// # Several processes
//
// With Options.Shared, processes join one another. All take events in; the lanes of each webhook, and the background work, belong to one of them.
//
// Each process has a row in members, and raises its beat every Options.Beat over a connection of its own, with which it also polls what the others do. A watcher
// takes a process for dead that has not beaten for 8 beats of the watcher's clock in which it could read. The process itself begins no attempt once its last
// successful beat was begun 5 beats ago, and cuts off those in flight after 7. So no clock of another machine matters. Who is dead is taken over in one
// transaction: its writers are locked, which waits for their transactions; its batch rows go to writers of the one that takes over; its row is removed, and with
// it its writers. What it sends afterwards fails at the fence. Then it has lost all claims (engine.ErrLost), joins anew, and goes on taking events in.
//
// Which process should own the lanes of a webhook is worked out by all alike, by rendezvous hashing over the members that watch. A process gives up what another
// one should own, as soon as nothing of it is claimed, and takes what is free. lanes says who owns what; a foreign key frees the lanes of a member that is removed.
//
// Where events arrive, payloads that are due at once are frozen also for the lanes of others, in the transaction that stores the events: this spares the owner a
// transaction, and the session's events. Each member tells with its beats for which webhooks that would be too early; see impeded.go.
//
// Two versions may work together while a fleet is upgraded. A step of the schema may only add what older ones need not know: a table, a column with a default, a
// setting of a webhook, which older ones keep; see type unknown. A field of a binary column, of a job or of another record that older ones write again is none of
// these: they would refuse it or drop it. A version that needs more raises writableBy. Its first process shuts out the members that are older; see shutOut.
//
// Three things tell the others of a change:
//
//   - The epoch counts the changes of webhooks and of cancellations. Who changes them raises it first. Each transaction reads it as it begins, and reads the webhooks
//     again if it was raised: a transaction decides by nothing older than what was committed before it.
//   - The row of a batch says in which lanes of others it has queued something, and which of their deliveries it has ended. All tail the rows of all.
//   - A member's row says up to which epoch and which batches it has read. A change of a webhook, a cancellation and an erasure return when all members have, or are
//     dead. A cancellation is carried out only then, because its walk must come behind everything that was queued for the webhook as it was.
//
// The keeper removes a batch row when all members have read it.
//
// # Counts
//
// The row of a batch carries what the batch has changed in the counts. The keeper adds what these rows carry to the table counts every few
// seconds and removes them, except for the newest row of each writer, which may have to settle a commit. Stats reads both in one statement.
//
// # Background work
//
// Maintain does one bounded step of each kind of work: of a cancellation or a replay, of the retention of sessions, of that of deliveries, and of forgetting
// requests with keys. Each is a transaction of its own. A walk keeps its place in its job, or, for retention, by taking from the front of expiry what it is done
// with. An erasure searches on a connection for reading, a step for each call, and the writer removes what was found. Check compares all tables with each other.
//
// # Reading
//
// Readers have up to 8 connections. A method that needs several statements reads a snapshot. A list walks a primary key, or an index, from its cursor
// on, and bounds what it reads.
//
// People read the views, whose names begin with view_; see docs/sql.md.
//
// # Sessions of the server
//
// Each connection sets timeouts of its own after connecting: for a statement, for a lock, and for a transaction whose process was stopped in the middle
// of it. In transaction mode of PgBouncer these do not hold: the role must have them. Scans of whole tables and hash joins are turned off and plans are kept,
// because a plan that was made for an empty table would be used when it is large.
package postgres

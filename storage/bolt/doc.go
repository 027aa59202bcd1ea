// Package bolt keeps hookbolt's events, webhooks and delivery queue in one bbolt file. It implements [engine.Store].
//
// # Buckets
//
// All integers in keys are big-endian, so that keys sort as numbers do. Records that are written often have keys that grow. A random
// key would dirty a page of its own at each write, and pages are what a commit costs. S is the number of a session, D of a delivery, P of
// a payload. Each counts up from 1 (the bucket's own sequence), and no number is used twice.
//
//	bucket           key                                              value
//	meta             "schema", "nonce", "probe", "numbered"           u32 version; u32 nonce; time of the last readiness probe; S
//	webhooks         id(4)                                            engine.Webhook as JSON
//	session_numbers  session_id(16)                                   S(8), for the sessions up to "numbered" and some later ones.
//	                                                                  The only random keys; see numbers.
//	sessions         S(8)                                             head: identity, times, marks
//	events           S(8) n(4)                                        the events of one request for that session, as they came
//	deliveries       D(8)                                             the delivery's state
//	attempts         D(8) n(4)                                        one attempt
//	payloads         P(8)                                             the frozen bytes, in the order of freezing
//	queue            webhook(4) class(1) due(8) D(8)                  nothing. One lane for each webhook and class.
//	by_webhook       webhook(4) D(8)                                  nothing
//	exceptions       webhook(4) status(1) D(8)                        nothing. Failed, cancelled and filtered deliveries.
//	expiry           kind(1) time(8) number(8)                        more numbers, or nothing. Records whose retention may have ended.
//	jobs             number(8)                                        cancellations, replays and erasures in progress, as JSON
//	counts           webhook(4)                                       deliveries by status, and how many are due
//	health           webhook(4)                                       engine.Health, unless it is the zero value
//	marks            S(8) webhook(4) kind(1)                          the id of the session's delivery; of the first ones it stands in the head.
//	                                                                  The key of an update has D(8) at its end
//	fan_outs         number(8)                                        sessions whose deliveries are still to be made, and for which webhooks
//	request_keys     engine.OnceKey(32)                               engine.Done as JSON: what a request with an idempotency key has done
//	delivery_ids     delivery_id(16)                                  D(8), for deliveries that another store has made
//	request_times    time(8) engine.OnceKey(32)                       nothing. The order in which the requests are forgotten.
//
// due and time are Unix nanoseconds. class is 0 for ordinary deliveries and 1 for tests. Each value is sealed, except in session_numbers, in delivery_ids
// and where it is empty: a byte with the format's number, the body, and a CRC-32C over key and body (4 bytes). The checksum reveals silent
// damage. codec.go has the encodings. Small or rare records are JSON.
//
// An attempt is a record of its own and not part of the delivery's: otherwise a delivery that is retried by hand for weeks would rewrite
// all its attempts each time. A delivery's public id is a UUIDv7 with D in its free bits, so it needs no index.
//
// The store keeps the events of a session and a head, but not its folded state. A session is removed after its retention. The marks in its
// head prove that no second delivery is made, and are the index of deliveries by session.
//
// # Versions
//
// meta holds the version of the layout. Open migrates a database of an older version in one transaction, and refuses one of a newer
// version.
//
//	1  the first
//	2  has the bucket health; attempts have more fields at their end, which those of version 1 lack
//	3  a session's head has the size of its events at its end, which those of earlier versions lack
//	4  attempts have what they sent at their end, which those of earlier versions lack
//	5  new sessions have no entry in session_numbers yet, and meta has "numbered"; an entry of expiry may stand for several numbers
//	6  has deliveries of the kind operation
//	7  a delivery has the visitor of its session at its end, which those of earlier versions lack
//	8  has the buckets marks and fan_outs; a session's head has the number of its marks at its end, which those of earlier versions lack
//	9  attempts have why their request was sent once more at their end, which those of earlier versions lack
//	10 a session's head has its start at its end, and a delivery the instant of an incomplete one, how many events its payload was built from, how
//	   many were late, and what has superseded it; earlier versions lack all of them
//	11 a delivery has what the programs of its webhook have made at its end, and may be filtered; counts have the filtered ones, and those whose
//	   programs failed, at their end; attempts have the method of their request and the header that signed the body at
//	   their end; earlier versions lack all of them
//	12 has the bucket delivery_ids; a delivery that another store has made has its id at its end
//
// The buckets request_keys and request_times came later, without a new version: a start makes them where they are missing, and a version of
// the program that does not know them can open the file. It neither heeds nor removes what is in them, which the next start of a newer one
// does.
//
// # Erasure
//
// Erasing a session also erases the deliveries that its marks name. Deliveries may outlive their session. Those are found by the session or
// the visitor in their record, or by their payload; a delivery from before version 7 has its visitor only there. An erasure is a job from its
// first step to its last, so that the next start goes on with one that a crash has interrupted. bbolt frees pages but does not clear
// them. Erased data leaves the file when its pages are used again; the copy that Compact makes has none of it.
//
// People are searched in the text of the events: there is no index of addresses. A search decides by the text alone where it can, and parses the
// rest. Its steps are bounded by time.
//
// # Backups
//
// A backup is a copy of the file's pages as a read transaction sees them. It is written to a file beside the database and sent from there,
// so that a slow client holds no transaction. The copy has a name for a moment only, so that a crash leaves nothing behind. The first start
// on a backup scans for the free pages, as after a crash.
//
// # Writing
//
// One goroutine, the writer, makes all changes. It takes the mutations that have gathered during the last commit, applies them in one bbolt
// transaction, and answers all callers after the fsync (group commit). Batches grow with the load; where many come, it waits up to a millisecond for more (patience). A mutation
// that fails, fails alone. Large mutations, such as imports, wait behind all others, and a commit ends with a few of them. A commit is bounded
// by what it writes. A request that leads to many deliveries writes a fan-out in their place, and Watch makes them, one bounded step in a commit.
//
// A commit costs its pages: some 30 for 14 finished sessions with all their records, of which the values are a third. That is why keys
// grow, why a batch adds one entry to expiry, and why the one map with random keys is written later, in the order of its keys. The keys of the
// indexes begin with a webhook, so a batch puts them in their order when it ends.
//
// # Durability
//
// The store assumes that fsync makes durable what was written before it, and that a rename is durable once the directory is synced. A
// database is created as *.tmp, synced and renamed, and then its directory is synced. A crash leaves either no database or a complete one.
//
// When a commit fails, bbolt does not know what is on the disk, and another commit could destroy the file. So a failed commit stops the
// store: its callers get engine.ErrUnavailable, nothing is written any more, Failed is closed, and the process is expected to end. There is
// one exception. A commit that was refused for want of space before any of it could be seen fails only its callers, with engine.ErrFull:
// that is while bbolt enlarges the file or writes pages that nothing refers to yet. Before each open, the two meta pages are written again
// as they are read, and synced. After that the disk has what the process sees.
//
// Events are refused at a watermark before the disk is full, so that attempts can be recorded and old data removed. Free pages in the file
// count as room.
//
// # Damage
//
// A record that cannot be read is put aside, and whoever walks through records goes on behind it: it is not the end of the walk, nor what is
// searched for, nor an error of the whole. A damaged delivery stays claimed until the next start. Maintain names what was passed, each
// record once; it stays in the file for whoever examines it. Keys have no checksum, so a record must repeat what its key says, and a key of
// a wrong length is damage, too. A start is refused only if a webhook, the nonce or the version cannot be read. Counts are counted again. If an entry of
// expiry is damaged, a sweep finds the records whose retention has ended. If bbolt cannot read a page, the caller that needed it gets an
// error. In a commit this stops the store, as does any panic.
//
// # Opening
//
// bbolt's list of free pages is written only at a clean stop. The next start reads it at once. After a crash the start reads the whole file
// at the disk's speed and then scans it, about a second for each GB in memory. Commits are cheaper without the list.
package bolt

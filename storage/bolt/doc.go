// Package bolt keeps hookbolt's events, webhooks and delivery queue in one bbolt file. It implements [engine.Store].
//
// # Buckets
//
// All integers in keys are big-endian, so that keys sort as numbers do. What is written often has a key that grows: a random
// key dirties a page of its own for each write, and pages are what a commit costs. S is a session's number, D a delivery's, P a
// payload's; each counts up from 1 (the bucket's own sequence) and none is used twice.
//
//	bucket           key                                              value
//	meta             "schema", "nonce", "probe", "numbered"           u32 version; u32 nonce; time of the last readiness probe; S
//	webhooks         id(4)                                            engine.Webhook as JSON
//	session_numbers  session_id(16)                                   S(8), for the sessions up to "numbered", and some beyond. The
//	                                                                  only keys that are random; see numbers.
//	sessions         S(8)                                             head: identity, times, marks
//	events           S(8) n(4)                                        the events of one request for that session, as they came
//	deliveries       D(8)                                             the delivery's state
//	attempts         D(8) n(4)                                        one attempt
//	payloads         P(8)                                             the frozen bytes, in the order of freezing
//	queue            webhook(4) class(1) due(8) D(8)                  nothing. One lane for each webhook and class.
//	by_webhook       webhook(4) D(8)                                  nothing
//	exceptions       webhook(4) status(1) D(8)                        nothing. Failed and cancelled deliveries.
//	expiry           kind(1) time(8) number(8)                        more numbers, or nothing. What may be old enough to go.
//	jobs             number(8)                                        cancellations and replays on their way, as JSON
//	counts           webhook(4)                                       deliveries by status, and how many are due
//	health           webhook(4)                                       engine.Health, while the last attempt has failed
//
// due and time are Unix nanoseconds. class is 0 for ordinary deliveries and 1 for tests. Each value but those of
// session_numbers and the empty ones is sealed: a byte with its format's number, the body, and a CRC-32C over key and body
// (4 bytes), so that silent damage is noticed. codec.go has the encodings; what is small or rare is JSON.
//
// Attempts are records of their own, not part of the delivery's: a delivery that is retried by hand for weeks would rewrite
// them all each time. A delivery's public id is a UUIDv7 with D in its free bits, and needs no index.
//
// A session's state is never stored, only its events and a head; a session is erased after its retention. Its marks are the
// proof that no second delivery is made, and the index of deliveries by session.
//
// # Versions
//
// meta holds the layout's version. A database of an older one is brought up to date at its opening, in one transaction; one of a
// newer version is refused.
//
//	1  the first
//	2  has the bucket health; attempts have fields more at their end, which those of version 1 lack
//	3  a session's head has the size of its events at its end, which those of earlier versions lack
//	4  attempts have what they sent at their end, which those of earlier versions lack
//	5  new sessions have no entry in session_numbers yet, and meta has "numbered"; an entry of expiry may stand for several numbers
//	6  has deliveries of the kind operation
//	7  a delivery has the visitor of its session at its end, which those of earlier versions lack
//
// # Erasure
//
// A session that is erased takes its deliveries along, which its marks name. Deliveries that have outlived their session are found by
// the session or the visitor in their record; the visitor of one from before version 7 by its payload. bbolt frees the pages and does not clear them: what was
// erased is out of the file when its pages have been used again, or in the copy that Compact makes.
//
// # Backups
//
// A backup is the file's pages as a read transaction sees them, copied into a file beside it, which is what is sent: a client who reads
// slowly holds no transaction. The copy has a name for a moment only, so that nothing is left of it after a crash. As with a file after a
// crash, the start on it looks for the free pages once.
//
// # Writing
//
// Every change goes through one goroutine, the writer. It takes whatever has gathered while the last commit was on its way to
// the disk, applies it in one bbolt transaction, and answers all callers after the fsync (group commit). There is no
// artificial delay: the batch grows with the load by itself. A mutation that fails, fails alone. Large ones, such as imports, wait
// behind all others, and a commit ends with a few of them.
//
// What a commit costs is its pages: some 30 for 14 finished sessions with all that belongs to them, of which the values are a third.
// So keys grow, what a batch puts into expiry is one entry, and the one map with random keys is written in the order of its keys, later.
//
// # What is assumed of the disk, and what is done when it fails
//
// fsync makes durable what was written before it, and a rename is durable once its directory is synced. A database is made as
// *.tmp, synced, renamed, and its directory synced, so that a crash leaves either none or a whole one.
//
// When a commit fails, bbolt does not know what is on the disk, and going on could destroy the file. So a failed commit is
// fail-stop: its callers get engine.ErrUnavailable, nothing is written any more, and Failed is closed; the process is expected
// to end. Only one that was refused for want of space before anything of it could be seen, in growing the file or in writing pages
// that nothing refers to yet, fails its callers alone, with engine.ErrFull. Before the next open the two meta pages are written again as they are read and synced, so that what the process
// sees is what the disk has.
//
// So that attempts can be recorded and old data removed when the disk is nearly full, events are refused at a watermark before it is;
// what is free within the file counts as room.
//
// A record that cannot be read is set aside: its delivery stays claimed until the next start, and others go on. Keys have no checksum,
// so what a key leads to has to say the same. A page that bbolt cannot read is an error of whoever wanted it, or, in a commit,
// fail-stop.
//
// bbolt's list of free pages is written at a clean stop only: the next start reads it at once. After a crash the start scans
// the file for it instead, about a second for each GB that is in memory, after reading it through at the disk's speed; commits
// are cheaper for it in between.
package bolt

package postgres

import (
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A commit waits for the synchronous standbys. If its statement is cancelled meanwhile, by an administrator or a tool, the server gives the wait up and reports success,
// with a warning. Such a commit is on the primary, and a failover loses it: it is none that may be acknowledged.

// errUnreplicated is returned for a commit that the synchronous standbys may not have.
var errUnreplicated = errors.New("the wait for the synchronous standbys was cancelled")

// syncRepRoutine is where the server gives up the wait. The text of the warning is in the tongue of lc_messages.
const syncRepRoutine = "SyncRepWaitForLSN"

// unreplicatedKey marks a connection in its custom data.
const unreplicatedKey = "unreplicated"

func noteUnreplicated(conn *pgconn.PgConn, n *pgconn.Notice) {
	if n.Routine == syncRepRoutine {
		conn.CustomData()[unreplicatedKey] = true
	}
}

// isUnreplicated reports whether a wait for the standbys was given up on a connection. It is not used any more then.
func isUnreplicated(conn *pgx.Conn) bool { return conn.PgConn().CustomData()[unreplicatedKey] != nil }

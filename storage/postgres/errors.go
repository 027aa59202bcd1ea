package postgres

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// verdict says what becomes of a batch whose transaction has failed.
type verdict uint8

const (
	// lost: the connection broke. If the commit was sent, its batch row tells whether it was carried out.
	lost verdict = iota + 1
	// again: others were in the way. The batch begins anew.
	again
	// culprit: one of the mutations cannot be stored. Each begins anew, alone.
	culprit
	// missing: a right or a table is missing. What needs it fails until somebody mends that. Each mutation begins anew, alone.
	missing
	// full: the database has no room.
	full
	// fenced: this process is not the writer any more.
	fenced
)

// SQLSTATE codes.
const (
	codeForeignKey = "23503"
	codeUnique     = "23505"
	codeNoColumn   = "42703"
	codeLocked     = "55P03"
)

// missingCodes say that a right, a schema, a table, a column or a function is missing: somebody has taken it away, or restores it at the moment.
var missingCodes = []string{"42501", "3F000", "42P01", "42703", "42883"}

// judge returns what an error of a transaction means.
func judge(err error) verdict {
	switch {
	case errors.Is(err, errFenced):
		return fenced
	case errors.Is(err, errRolledBack):
		return again
	case isAway(err), errors.Is(err, errUnreplicated):
		return lost
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		if isLost(err) {
			return lost
		}
		return culprit // a value that cannot be encoded
	}
	switch {
	case pg.Code == codeForeignKey && pg.ConstraintName == "batches_writer_fkey":
		return fenced
	case pg.Code == "53100":
		return full
	case isLost(err):
		return lost
	case pg.Code == "40001", pg.Code == "40P01", pg.Code == "55P03", pg.Code == "57014", pg.Code == codeUnique,
		pg.Code[:2] == "53": // such as no memory
		return again
	case slices.Contains(missingCodes, pg.Code):
		return missing
	}
	return culprit
}

// isLost reports whether a connection is of no use any more, or none could be made: another one may work.
func isLost(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		_, isNet := errors.AsType[net.Error](err)
		_, isConnect := errors.AsType[*pgconn.ConnectError](err)
		return isNet || isConnect || errors.Is(err, net.ErrClosed) || errors.Is(err, pgconn.ErrConnClosed) || errors.Is(err, context.DeadlineExceeded) ||
			pgconn.Timeout(err) || isEOF(err)
	}
	severity := cmp.Or(pg.SeverityUnlocalized, pg.Severity) // the latter is in the tongue of lc_messages
	switch {
	case severity == "FATAL", severity == "PANIC", pg.Code[:2] == "08", pg.Code[:2] == "57" && pg.Code != "57014":
		return true
	case pg.Code == "25006", pg.Code == "53300": // a primary that is a standby now; no connection is free
		return true
	}
	return false
}

// passes reports whether an error of a start may pass without anybody's help: the server, its name or its address is not there yet.
func passes(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return strings.HasPrefix(pg.Code, "08") || strings.HasPrefix(pg.Code, "53") || strings.HasPrefix(pg.Code, "57") && pg.Code != "57014"
	}
	_, isTLS := errors.AsType[*tls.CertificateVerificationError](err)
	_, isParse := errors.AsType[*pgconn.ParseConfigError](err)
	return isLost(err) && !isTLS && !isParse
}

// errFenced is returned where the writer's row is missing.
var errFenced = errors.New("other processes have taken the lanes of this one over")

func isEOF(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

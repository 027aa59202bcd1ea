package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"hookbolt/internal/loopback"
)

// The versions of PostgreSQL that are known to work. A newer one is used, with a warning.
const (
	oldestServer = 13
	newestServer = 18
)

// CheckURL returns why url cannot be used as Options.URL: it is malformed, or it would let somebody in the network read or answer in the server's place.
// The error has no password.
func CheckURL(url string, insecure bool) error {
	_, err := parseURL(url, insecure)
	return err
}

// parseURL reads a URL, or a list of keys and values. What it does not say comes from PostgreSQL's environment variables, such as PGPASSFILE.
func parseURL(url string, insecure bool) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, urlError(err)
	}
	config.DialFunc = tcpDialer().DialContext
	if namesSeveral(config) { // the others are of no use, so nobody need say that
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	if insecure || isProtected(config.Host, config.TLSConfig != nil && !config.TLSConfig.InsecureSkipVerify) {
		for _, other := range config.Fallbacks {
			if !insecure && !isProtected(other.Host, other.TLSConfig != nil && !other.TLSConfig.InsecureSkipVerify) {
				return nil, unprotectedError(other.Host)
			}
		}
		return config, nil
	}
	return nil, unprotectedError(config.Host)
}

// namesSeveral reports whether there is more than one server.
func namesSeveral(config *pgx.ConnConfig) bool {
	return slices.ContainsFunc(config.Fallbacks, func(other *pgconn.FallbackConfig) bool { return other.Host != config.Host || other.Port != config.Port })
}

// isProtected reports whether nobody else can read a connection to a host, or answer in its place. verified tells whether TLS checks the host's name.
func isProtected(host string, verified bool) bool {
	return verified || strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || loopback.IsHost(host)
}

func unprotectedError(host string) error {
	return fmt.Errorf("the server %s is another machine, so the URL needs sslmode=verify-full (and sslrootcert=FILE for an authority of your own); "+
		"storage.postgres_insecure = true allows less", host)
}

// urlError tells what is wrong with a URL, without the URL: it may have a password, and what cannot be parsed cannot be masked safely.
func urlError(err error) error {
	const form = `must be a URL such as "postgres://user:password@host/database", with the special characters of the password as %XX`
	parse, ok := errors.AsType[*pgconn.ParseConfigError](err)
	if !ok {
		return errors.New(form)
	}
	url := parse.ConnString
	parse.ConnString = ""
	_, reason, _ := strings.Cut(parse.Error(), "``: ")
	for part := range strings.FieldsFuncSeq(url, func(r rune) bool { return strings.ContainsRune(" :/@?&='", r) }) {
		if len(part) > 3 && strings.Contains(reason, part) && !slices.Contains([]string{"postgres", "postgresql", "sslmode"}, part) {
			return errors.New(form)
		}
	}
	return fmt.Errorf("%s: %s", form, reason)
}

// server is what a start asks the server.
type server struct {
	version                       int
	encoding, synchronous         string
	fsync, inRecovery, isReadOnly bool
	user                          string
	isSuper                       bool
	pid                           uint32 // of the process that answers
	standbys                      string
}

// check refuses a server that would break a promise, and logs what somebody should know.
func (s *Store) check(ctx context.Context, conn *pgx.Conn) error {
	var v server
	err := conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int, current_setting('server_encoding'), current_setting('synchronous_commit'), "+
		"current_setting('fsync')::bool, pg_is_in_recovery(), current_setting('transaction_read_only')::bool, current_user::text, "+
		"current_setting('is_superuser')::bool, pg_backend_pid()::bigint, current_setting('synchronous_standby_names')").
		Scan(&v.version, &v.encoding, &v.synchronous, &v.fsync, &v.inRecovery, &v.isReadOnly, &v.user, &v.isSuper, &v.pid, &v.standbys)
	if err != nil {
		return fmt.Errorf("ask the server for its settings: %w", err)
	}
	role := pgx.Identifier{v.user}.Sanitize()
	switch major := v.version / 10000; {
	case major < oldestServer:
		return fmt.Errorf("the server is too old: its version is %d, and the oldest that works is %d", major, oldestServer)
	case major > newestServer:
		s.log.Warn("this version of PostgreSQL is newer than this hookbolt: it was not tried", "version", major, "newest_tried", newestServer)
	}
	switch {
	case v.encoding != "UTF8":
		return fmt.Errorf("the database has the encoding %s, and must have UTF8: CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0", v.encoding)
	case v.inRecovery:
		return errors.New("the server is a standby, which takes no writes: name the primary, or all servers")
	case v.isReadOnly:
		return fmt.Errorf("transactions are read only here: ALTER ROLE %s SET default_transaction_read_only = off", role)
	case v.synchronous == "off":
		return fmt.Errorf("%w: ALTER ROLE %s SET synchronous_commit = on", errAsynchronous, role)
	}
	if !v.fsync {
		s.log.Warn("fsync is off: if the database's machine crashes, events that were acknowledged are lost, or the whole database is")
	}
	s.log.Info("PostgreSQL", "server", conn.Config().Host, "version", v.version/10000, "schema", s.opts.Schema, "role", v.user, "synchronous_commit", v.synchronous,
		"synchronous_standby_names", v.standbys)
	if v.standbys != "" && v.synchronous == "local" {
		s.log.Warn("synchronous_commit is local: a 202 does not wait for the synchronous standbys, and a failover may lose events", "synchronous_standby_names", v.standbys)
	}
	if v.pid == conn.PgConn().PID() {
		return s.checkClock(ctx, conn)
	}
	// A pooler answers. What a session sets may hold for another client's transaction, so the role must have it.
	if err := s.checkRole(ctx, conn, role, v.isSuper); err != nil {
		return err
	}
	if err := s.checkPrepared(ctx); err != nil {
		return err
	}
	return s.checkClock(ctx, conn)
}

// errUnprepared is returned for a pooler that does not know what its clients have prepared.
var errUnprepared = errors.New("the connection goes through a pooler that loses prepared statements: it must be PgBouncer 1.21 or later with max_prepared_statements = 200, " +
	"or have pool_mode = session")

// checkPrepared makes sure that a statement which a client of a pooler has prepared over one connection to the server can be executed over another one: a second client
// holds the first one meanwhile. If there is no other one, nothing is found out, because the statement waits in vain.
func (s *Store) checkPrepared(ctx context.Context) error {
	const name = "hookbolt_check"
	client, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(client)
	if _, err := client.Prepare(ctx, name, "SELECT pg_backend_pid()::bigint"); err != nil {
		return err
	}
	other, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(other) // and its transaction ends
	var pid int64
	if _, err := other.Exec(ctx, "BEGIN"); err != nil {
		return err
	}
	if err := other.QueryRow(ctx, "SELECT pg_backend_pid()::bigint").Scan(&pid); err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	err = client.QueryRow(waiting, name).Scan(&pid)
	if waiting.Err() != nil && ctx.Err() == nil {
		return nil
	}
	return err
}

// asUnprepared is errUnprepared if an error says that a prepared statement is missing, or there already.
func asUnprepared(err error) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && (pg.Code == "26000" || pg.Code == "42P05") {
		return fmt.Errorf("%w (%v)", errUnprepared, err)
	}
	return err
}

// errAsynchronous is returned for a server that acknowledges a commit before it is on the disk.
var errAsynchronous = errors.New("synchronous_commit is off: a crash would lose events that were acknowledged")

// checkAgain is check for a connection that a running process makes for changes: somebody may have changed the role since.
func (s *Store) checkAgain(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, tripTimeout)
	defer cancel()
	var synchronous string
	var readOnly bool
	if err := conn.QueryRow(ctx, "SELECT current_setting('synchronous_commit'), current_setting('transaction_read_only')::bool").Scan(&synchronous, &readOnly); err != nil {
		return err
	}
	switch {
	case synchronous == "off":
		return errAsynchronous
	case readOnly:
		return &pgconn.PgError{Severity: "ERROR", Code: "25006", Message: "transactions are read only here"}
	}
	return nil
}

// atLeast and atMost bound a timeout that somebody else may have chosen for the role. settings has what hookbolt sets.
const (
	atLeast = time.Second
	atMost  = time.Minute
)

// checkRole makes sure that the role has the settings of a session. Behind a pooler, each transaction may have another session. It sets what the role
// lacks, unless the role is a superuser, which others use as well.
func (s *Store) checkRole(ctx context.Context, conn *pgx.Conn, role string, isSuper bool) error {
	var lacks []string
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		var value, unit string
		err := conn.QueryRow(ctx, "SELECT COALESCE(reset_val, ''), COALESCE(unit, '') FROM pg_catalog.pg_settings WHERE name = $1", name).Scan(&value, &unit)
		if err != nil {
			return fmt.Errorf("ask for %s of the role: %w", name, err)
		}
		if !suits(name, value, unit) {
			lacks = append(lacks, name)
		}
	}
	if len(lacks) == 0 {
		return nil
	}
	if !isSuper && s.setRole(ctx, conn, role, lacks) == nil {
		s.log.Info("the role has got settings that hookbolt needs behind a pooler", "role", role, "settings", lacks)
		return nil
	}
	return fmt.Errorf("the connection goes through a pooler, so the role must have timeouts and settings of its own; run: %s", strings.Join(RoleSettings(role, lacks...), "; "))
}

// suits reports whether a role's value of a setting will do.
func suits(name, value, unit string) bool {
	if !strings.HasSuffix(name, "_timeout") {
		return value == settings[name]
	}
	n, err := strconv.ParseInt(value, 10, 64)
	d := time.Duration(n) * time.Millisecond // the unit of all timeouts
	return err == nil && unit == "ms" && d >= atLeast && d <= atMost
}

// setRole gives the role settings. Processes that start at once would get in each other's way, so they take turns.
func (s *Store) setRole(ctx context.Context, conn *pgx.Conn, role string, names []string) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", migrateLock); err != nil {
			return err
		}
		for _, text := range RoleSettings(role, names...) {
			if _, err := tx.Exec(ctx, text); err != nil {
				return err
			}
		}
		return nil
	})
}

// RoleSettings returns the SQL that gives a role the settings of hookbolt's sessions, or those of them with the given names. role is quoted.
func RoleSettings(role string, names ...string) []string {
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if len(names) == 0 || slices.Contains(names, name) {
			texts = append(texts, fmt.Sprintf("ALTER ROLE %s SET %s = '%s'", role, name, settings[name]))
		}
	}
	return texts
}

const (
	// warnSkew is a difference of the clocks that is logged: due times shift by it when another machine takes over.
	warnSkew = time.Second
	// defaultMaxSkew is the difference from which on a store is not ready.
	defaultMaxSkew = time.Minute
	// skewInterval is how often the clocks are compared.
	skewInterval = 30 * time.Second
)

// checkClock compares the clock of this machine with that of the server, and remembers the difference.
func (s *Store) checkClock(ctx context.Context, conn *pgx.Conn) error {
	if s.opts.MaxSkew < 0 {
		return nil
	}
	began := time.Now()
	var server time.Time
	if err := conn.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&server); err != nil {
		return fmt.Errorf("ask for the server's time: %w", err)
	}
	trip := time.Since(began)
	skew := began.Add(trip / 2).Sub(server)
	if skew.Abs() <= trip/2 { // the trip took longer than the clocks can differ
		skew = 0
	}
	before := time.Duration(s.skew.Swap(int64(skew)))
	if skew.Abs() >= warnSkew && before.Abs() < warnSkew {
		s.log.Warn("the clocks of this machine and of the database differ; synchronize them", "by", skew.Round(time.Millisecond), "not_ready_from", cmp.Or(s.opts.MaxSkew, defaultMaxSkew))
	}
	return nil
}

// watchClock compares the clocks until the store is closed.
func (s *Store) watchClock() {
	ticker := time.NewTicker(skewInterval)
	defer ticker.Stop()
	for {
		select {
		case <-s.stopped:
			return
		case <-ticker.C:
		}
		ctx, cancel := context.WithTimeout(context.Background(), tripTimeout)
		_ = s.view(ctx, func(conn *pgx.Conn) error { return s.checkClock(ctx, conn) }) // a database that is away is told of elsewhere
		cancel()
	}
}

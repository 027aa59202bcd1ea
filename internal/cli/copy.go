package cli

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"time"

	"hookbolt/internal/config"
	"hookbolt/internal/dbfile"
	"hookbolt/internal/text"
	"hookbolt/storage"
)

// places reads operands that name where data is.
type places struct {
	settings *config.Loader
	schema   string
	insecure bool
}

func placeFlags(flags *flag.FlagSet) *places {
	l := &places{settings: &config.Loader{Environ: os.Environ()}}
	flags.StringVar(&l.settings.Path, "config", config.Variable(configVariable), "read the settings from `FILE`: \"postgres\" is the database that they name")
	flags.StringVar(&l.schema, "schema", "hookbolt", "the tables of a URL are in the schema `NAME`")
	flags.BoolVar(&l.insecure, "insecure", false, "allow a URL of another machine without sslmode=verify-full")
	return l
}

// fromSettings is the operand that stands for the database of the settings.
const fromSettings = "postgres"

// keyValue is how a list of keys and values begins that names a database.
var keyValue = regexp.MustCompile(`^(host|hostaddr|port|dbname|user|password|passfile|service|sslmode)\s*=`)

// place reads an operand.
func (l *places) place(operand string) (storage.Place, error) {
	switch {
	case operand == fromSettings:
		c, _, err := l.settings.Load()
		if err == nil && c.Storage.Driver != config.DriverPostgres {
			err = errors.New(`"postgres" stands for the database of the settings, and they name none: set storage.driver = "postgres" and storage.postgres_url in the file of -config`)
		}
		s := &c.Storage
		return storage.Place{Postgres: &storage.Postgres{URL: s.PostgresURL, Schema: s.PostgresSchema, Insecure: s.PostgresInsecure}}, err
	case strings.HasPrefix(operand, "postgres://"), strings.HasPrefix(operand, "postgresql://"), keyValue.MatchString(operand):
		if err := config.CheckPostgresName("-schema", l.schema); err != nil {
			return storage.Place{}, usageError{err}
		}
		return storage.Place{Postgres: &storage.Postgres{URL: operand, Schema: l.schema, Insecure: l.insecure}}, nil
	}
	return storage.Place{Path: operand}, nil
}

// copyStore is the command copy.
func copyStore(ctx context.Context, p *Program, args []string) error {
	flags := flag.NewFlagSet("copy", flag.ContinueOnError)
	l := placeFlags(flags)
	leaveOut := flags.Bool("leave-out-damaged", false, "copy what can be read of a source with damaged records, and name what is left out")
	operands, err := p.parseOperands(flags, args, "Copies all data from a file to PostgreSQL, or back. FROM and TO are each the path of a file, the URL of a database, or the word\n"+
		"\"postgres\": the database of the settings (-config, HOOKBOLT_STORAGE_POSTGRES_URL), so that no password is in the list of processes.\n"+
		"No hookbolt may run on FROM or TO. TO must hold nothing. A copy that was interrupted goes on when the command is repeated; until it\n"+
		"is complete, no hookbolt starts on TO. In the end both sides are read again and compared. FROM is not changed.", "FROM TO")
	if err != nil {
		return err
	}
	from, err := l.place(operands[0])
	if err != nil {
		return err
	}
	to, err := l.place(operands[1])
	if err != nil {
		return err
	}
	began := time.Now()
	if err := p.checkSource(ctx, from, *leaveOut); err != nil {
		return err
	}
	progress := newCopyProgress(p.Stderr)
	result, err := storage.Copy(ctx, from, to, storage.CopyOptions{LeaveOut: *leaveOut, Progress: progress.show, Log: slog.New(slog.DiscardHandler),
		Damaged: func(err error) { progress.line("hookbolt: left out: " + err.Error()) }})
	progress.end()
	if len(result) > 0 {
		fmt.Fprintf(p.Stdout, "%-12s %10s %10s  %-16s %s\n", "", "from", "to", "checksum from", "checksum to")
		for _, r := range result {
			fmt.Fprintf(p.Stdout, "%-12s %10d %10d  %-16s %s\n", r.Kind, r.From, r.To, r.FromSum, r.Sum)
		}
	}
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	_, err = fmt.Fprintf(p.Stdout, "ok: copied and compared in %s\n", time.Since(began).Round(time.Second))
	return err
}

// checkSource refuses a source that is damaged. It names each fault.
func (p *Program) checkSource(ctx context.Context, from storage.Place, leaveOut bool) error {
	var faults bytes.Buffer
	var err error
	if from.Postgres != nil {
		err = checkPostgres(ctx, &faults, *from.Postgres)
	} else {
		err = dbfile.Check(ctx, &faults, from.Path)
	}
	if err == nil {
		return nil
	}
	if faults.Len() == 0 { // it could not be checked
		return fmt.Errorf("copy: %w", err)
	}
	io.Copy(p.Stderr, &faults)
	if leaveOut {
		return nil
	}
	return fmt.Errorf("copy: %w: see above; -leave-out-damaged copies without them", storage.ErrCopyDamaged)
}

// checkPostgres writes what is wrong with a database, a line each, or that it is sound.
func checkPostgres(ctx context.Context, w io.Writer, database storage.Postgres) error {
	report, err := storage.CheckPostgres(ctx, database)
	if err != nil {
		return err
	}
	for _, v := range report.Violations {
		fmt.Fprintln(w, v)
	}
	if len(report.Violations) > 0 {
		return fmt.Errorf("check: the database is damaged (schema %s)", database.Schema)
	}
	_, err = fmt.Fprintf(w, "ok: %d sessions, %d deliveries, %d webhooks\n", report.Sessions, report.Deliveries, report.Webhooks)
	return err
}

// The intervals between two lines of progress.
const (
	linesEvery   = 10 * time.Second
	redrawsEvery = 200 * time.Millisecond
)

// copyProgress shows how far a copy is: on one line of a terminal, else a line each some seconds.
type copyProgress struct {
	w        io.Writer
	terminal bool
	stage    string
	began    time.Time // of the stage
	first    int64     // records that were done then
	shown    time.Time
	drawn    bool
}

func newCopyProgress(w io.Writer) *copyProgress {
	return &copyProgress{w: w, terminal: text.IsTerminal(w), shown: time.Now()}
}

func (p *copyProgress) show(stage string, done, total int64) {
	now := time.Now()
	if stage != p.stage {
		p.stage, p.began, p.first = stage, now, done
	}
	every := linesEvery
	if p.terminal {
		every = redrawsEvery
	}
	if now.Sub(p.shown) < every {
		return
	}
	p.shown = now
	line := fmt.Sprintf("%s: %d of %d", stage, done, total)
	if total > 0 {
		line += fmt.Sprintf(", %d %%", min(100, 100*done/total))
	}
	if took := now.Sub(p.began).Seconds(); took > 0.5 {
		line += fmt.Sprintf(", %.0f/s", float64(done-p.first)/took)
	}
	if p.terminal {
		fmt.Fprintf(p.w, "\r%-60s", line)
		p.drawn = true
		return
	}
	fmt.Fprintln(p.w, line)
}

// line writes a line of its own.
func (p *copyProgress) line(line string) {
	p.end()
	fmt.Fprintln(p.w, line)
}

// end ends the line that is redrawn.
func (p *copyProgress) end() {
	if p.drawn {
		fmt.Fprintf(p.w, "\r%-60s\r", "")
		p.drawn = false
	}
}

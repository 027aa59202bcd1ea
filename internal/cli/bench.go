package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"hookbolt/internal/bench"
	"hookbolt/internal/buildinfo"
	"hookbolt/internal/config"
)

// runBench is the command bench.
func runBench(ctx context.Context, p *Program, args []string) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	var o bench.Options
	benchFlags(flags, &o)
	delay := flags.Int64("delay", 0, "the webhooks' delay in `SECONDS`")
	path := flags.String("config", "", "run its own server with the settings of `FILE`, but for http.listen, storage.path and log")
	if err := p.parseFlags(flags, args, "Measures a server, its own child process on a new database unless -url is given: how many sessions it takes in and delivers,\n"+
		"how fast, and what that costs. Exits with 1 if a delivery is missing or came twice. Ctrl-C ends it early, with what it has."); err != nil {
		return err
	}
	o.Delay = time.Duration(*delay) * time.Second
	if o.URL != "" && *path != "" {
		return usageError{errors.New("bench: -config is for a server of bench's own: not with -url")}
	}
	if err := o.Validate(); err != nil {
		return usageError{fmt.Errorf("bench: %w", err)}
	}
	if o.URL == "" {
		if o.Token != "" {
			return usageError{errors.New("bench: -token goes with -url")}
		}
		if err := ownServer(&o, *path); err != nil {
			return err
		}
	} else if o.Token == "" {
		o.Token = os.Getenv(tokenVariable)
	}
	o.Command = commandLine(flags)
	v := buildinfo.Read()
	o.Version = v.Version + ", revision " + v.Revision
	if err := bench.Run(ctx, &o, p.Stdout, p.Stderr); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
}

// benchFlags adds the flags of bench that set options of a run.
func benchFlags(flags *flag.FlagSet, o *bench.Options) {
	flags.IntVar(&o.Connections, "connections", 32, "post over `N` connections, on each a request after the other")
	flags.IntVar(&o.Batch, "batch", 1, "put `N` sessions, of 5 events and about 1 KB each, into a request")
	flags.IntVar(&o.Webhooks, "webhooks", 1, "make `N` webhooks, each for a content of its own; sessions go round among them")
	flags.Float64Var(&o.Failing, "failing", 0, "the `SHARE` of webhooks, 0 to 1, whose endpoint always answers 500")
	flags.Float64Var(&o.Slow, "slow", 0, "the `SHARE` of webhooks whose endpoint is slow")
	flags.DurationVar(&o.SlowBy, "slow-by", 200*time.Millisecond, "how long a slow endpoint takes, as a `SPAN`")
	flags.Float64Var(&o.Rate, "rate", 0, "post `N` sessions a second at fixed instants; 0 measures full speed, and then half of it")
	flags.DurationVar(&o.Duration, "duration", 20*time.Second, "measure for a `SPAN`, for each load")
	flags.DurationVar(&o.Warmup, "warmup", 3*time.Second, "the `SPAN` before, which is not measured")
	flags.DurationVar(&o.Every, "every", 0, "print a line of figures each `SPAN` meanwhile, such as 1m")
	flags.DurationVar(&o.Relay, "relay", 5*time.Second, "measure a bare relay first, for a `SPAN`; 0 leaves it out")
	flags.IntVar(&o.Scheduled, "scheduled", 0, "first put in `N` sessions that are due in 30 days, and start the server anew")
	flags.IntVar(&o.ScheduledWebhooks, "scheduled-webhooks", 100, "the `N` webhooks that those are for")
	flags.BoolVar(&o.Crash, "crash", false, "kill the server before that start")
	flags.DurationVar(&o.Idle, "idle", 0, "look at the server for a `SPAN` while it has nothing to do")
	flags.IntVar(&o.Outage, "outage", 0, "at the end take in `N` sessions while every endpoint fails, and measure how they drain")
	flags.StringVar(&o.URL, "url", "", "measure the server that runs at `URL`, on this machine, in place of one of its own; its webhooks for every content get the sessions, too")
	flags.StringVar(&o.Token, "token", "", "its admin `TOKEN`, if it wants one; or HOOKBOLT_TOKEN in the environment")
	flags.StringVar(&o.Dir, "dir", "", "put its database under the folder `DIR`, on the disk that is to be measured")
	flags.BoolVar(&o.Keep, "keep", false, "leave the database there")
	flags.BoolVar(&o.JSON, "json", false, "print one JSON document")
}

// commandLine is the command with the flags that were set, for a report. It leaves out the token.
func commandLine(flags *flag.FlagSet) string {
	line := "hookbolt " + flags.Name()
	flags.Visit(func(f *flag.Flag) {
		value := f.Value.String()
		if f.Name == "token" {
			value = "…"
		}
		line += " -" + f.Name + "=" + value
	})
	return line
}

// ownServer prepares to run this program as a child process, with the settings of a file; "" for none.
func ownServer(o *bench.Options, path string) (err error) {
	if o.Executable, err = os.Executable(); err != nil {
		return err
	}
	// The child uses only the file: it must have its own address and database.
	o.Environ = slices.DeleteFunc(os.Environ(), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return config.IsVariable(name)
	})
	settings := make(map[string]any)
	if path != "" {
		cfg, _, err := (&config.Loader{Path: path}).Load() // names what is wrong with it
		if err != nil {
			return err
		}
		if len(cfg.HTTP.AdminTokens) > 0 {
			o.Token = cfg.HTTP.AdminTokens[0]
		}
		if _, err := toml.DecodeFile(path, &settings); err != nil {
			return err
		}
	}
	o.Config = func(database string) (string, error) { return ownConfig(settings, database) }
	return nil
}

// ownConfig returns the text of a configuration with the settings that bench needs: its own address and database, and a log that
// shows when the server is ready. Webhooks allow endpoints on loopback themselves.
func ownConfig(settings map[string]any, database string) (string, error) {
	section := func(name string) map[string]any {
		s, ok := settings[name].(map[string]any)
		if !ok {
			s = make(map[string]any)
			settings[name] = s
		}
		return s
	}
	section("http")["listen"] = "127.0.0.1:0"
	for _, name := range []string{"tls_cert_file", "tls_key_file"} { // the load is plain HTTP
		delete(section("http"), name)
	}
	for _, name := range []string{"operations_url", "operations_secret", "operations_secret_file"} { // endpoints that fail on purpose are no trouble
		delete(section("delivery"), name)
	}
	section("storage")["path"] = database
	settings["log"] = map[string]any{"level": "info", "format": "text"}
	var text strings.Builder
	err := toml.NewEncoder(&text).Encode(settings)
	return text.String(), err
}

// benchRelay is the command that bench runs for comparison; see bench.Relay. It is not for people.
func benchRelay(ctx context.Context, p *Program, args []string) error {
	to, err := p.parseOperands(flag.NewFlagSet("bench-relay", flag.ContinueOnError), args,
		"Passes the bodies of requests on, with no storage: the scale that \"hookbolt bench\" measures by, which runs it.", "URL")
	if err != nil {
		return err
	}
	return bench.Relay(ctx, to[0], p.Stderr)
}

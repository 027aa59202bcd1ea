package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"hookbolt/internal/bench"
	"hookbolt/internal/buildinfo"
	"hookbolt/internal/config"
	"hookbolt/internal/server"
	"hookbolt/storage/postgres"
)

// runBench is the command bench.
func runBench(ctx context.Context, p *Program, args []string) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	var o bench.Options
	benchFlags(flags, &o)
	delay := flags.Int64("delay", 0, "set the webhooks' delay to `SECONDS`")
	program := flags.String("transform", "", "give the webhooks the transform in `FILE`, a program in jq that gives an object")
	relayBody := flags.String("relay-body", "", "post the text of `FILE` to -relay-url, with the session's JSON in the place of {{session}}")
	path := flags.String("config", "", "start the server with the settings of `FILE`; http.listen, http.shutdown_delay, storage.path, storage.postgres_schema, log, and with -tls delivery.ca_file are ignored")
	if err := p.parseFlags(flags, args, "Measures how many sessions a server accepts and delivers, how fast, and at what cost. It starts a server of its own, as a child\n"+
		"process with a new database, or a new schema if FILE has storage.driver = \"postgres\"; -url measures a running server instead. Ctrl-C ends it early; the results so far are printed.\n"+
		"The exit code is 1 if a delivery is missing or arrived more than once."); err != nil {
		return err
	}
	o.Delay = time.Duration(*delay) * time.Second
	if err := readTargets(&o, *path); err != nil {
		return usageError{fmt.Errorf("bench: %w", err)}
	}
	for _, file := range []textFile{{"transform", *program, &o.Transform}, {"relay-body", *relayBody, &o.RelayBody}} {
		if err := file.read(); err != nil {
			return usageError{fmt.Errorf("bench: %w", err)}
		}
	}
	if err := o.Validate(); err != nil {
		return usageError{fmt.Errorf("bench: %w", err)}
	}
	if o.URL == "" {
		if o.Token != "" {
			return usageError{errors.New("bench: -token can only be used with -url")}
		}
		if err := ownServer(&o, *path); err != nil {
			return err
		}
		if o.Processes > 1 && o.Database == "" {
			return usageError{errors.New("bench: -processes needs a -config whose storage.driver is \"postgres\": a file belongs to one process")}
		}
	} else if o.Token == "" {
		o.Token = config.Variable(tokenVariable)
	}
	o.Command = commandLine(flags)
	v := buildinfo.Read()
	o.Version = v.Version + ", revision " + v.Revision
	if err := bench.Run(ctx, &o, p.Stdout, p.Stderr); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
}

// readTargets reads the URLs of what is measured in place of a server that bench starts with the configuration at path; "" for none.
func readTargets(o *bench.Options, path string) error {
	for _, target := range []struct {
		flag string
		url  *string
	}{{"url", &o.URL}, {"relay-url", &o.RelayURL}} {
		if *target.url == "" {
			continue
		}
		if path != "" {
			return fmt.Errorf("-config cannot be used with -%s: it is for the server that bench starts", target.flag)
		}
		u, err := serverURL(*target.url)
		if err != nil {
			return fmt.Errorf("-%s %w", target.flag, err)
		}
		*target.url = u.String()
	}
	return nil
}

// textFile is a flag that names a file, and where its text goes. The path is "" if the flag was not set.
type textFile struct {
	flag, path string
	text       *string
}

func (f *textFile) read() error {
	if f.path == "" {
		return nil
	}
	text, err := os.ReadFile(f.path)
	if err != nil {
		return fmt.Errorf("-%s: %w", f.flag, err)
	}
	*f.text = string(text)
	return nil
}

// benchFlags adds the flags of bench that set options of a run.
func benchFlags(flags *flag.FlagSet, o *bench.Options) {
	flags.IntVar(&o.Connections, "connections", 32, "post over `N` connections, one request at a time on each")
	flags.IntVar(&o.Batch, "batch", 1, "post `N` sessions in a request, each of 5 events and about 1 KB")
	flags.IntVar(&o.Processes, "processes", 1, "start `N` processes of the server on one database, which takes storage.driver = \"postgres\" in the file of -config, and post to all alike")
	flags.IntVar(&o.Webhooks, "webhooks", 1, "create `N` webhooks, each for its own content; the sessions are spread over them evenly")
	flags.Float64Var(&o.Failing, "failing", 0, "let the endpoints of a `SHARE` of the webhooks, 0 to 1, always answer 500")
	flags.Float64Var(&o.Slow, "slow", 0, "let the endpoints of a `SHARE` of the webhooks, 0 to 1, answer slowly")
	flags.DurationVar(&o.SlowBy, "slow-by", 200*time.Millisecond, "let a slow endpoint answer after `DURATION`")
	flags.Float64Var(&o.Rate, "rate", 0, "post `N` sessions a second at fixed times; 0 measures full speed, and then half of it")
	flags.DurationVar(&o.Duration, "duration", 20*time.Second, "measure each load for `DURATION`")
	flags.DurationVar(&o.Warmup, "warmup", 3*time.Second, "apply each load for `DURATION` before it is measured")
	flags.DurationVar(&o.Every, "every", 0, "print a line of figures every `DURATION` of a load, such as 1m; 0 prints none")
	flags.StringVar(&o.TLS, "tls", "", "let the endpoints speak HTTPS, over HTTP of `VERSION` 1.1 or 2")
	flags.StringVar(&o.RelayURL, "relay-url", "", "measure another sender: whatever turns one POST of JSON to `URL` into one POST to -endpoint")
	flags.StringVar(&o.Endpoint, "endpoint", "", "wait at `HOST:PORT` for what the sender of -relay-url sends, under any path")
	flags.Func("relay-header", "send the header `NAME: VALUE` to -relay-url, such as its API key; may be repeated", func(text string) error {
		name, value, ok := strings.Cut(text, ":")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return errors.New("want NAME: VALUE")
		}
		if o.RelayHeader == nil {
			o.RelayHeader = make(http.Header)
		}
		o.RelayHeader.Add(name, strings.TrimSpace(value))
		return nil
	})
	flags.DurationVar(&o.Relay, "relay", 5*time.Second, "measure a bare relay first, for `DURATION`; 0 skips it")
	flags.IntVar(&o.Scheduled, "scheduled", 0, "first post `N` sessions that are due in 30 days, and restart the server")
	flags.IntVar(&o.ScheduledWebhooks, "scheduled-webhooks", 100, "spread the sessions of -scheduled over `N` webhooks")
	flags.BoolVar(&o.Crash, "crash", false, "kill the server before the restart of -scheduled")
	flags.DurationVar(&o.Idle, "idle", 0, "measure the idle server for `DURATION`; 0 skips it")
	flags.IntVar(&o.Outage, "outage", 0, "at the end post `N` sessions while every endpoint fails, and measure how the backlog drains")
	flags.StringVar(&o.URL, "url", "", "measure the running server at `URL`, on this machine; its own webhooks for every content get the sessions, too")
	flags.StringVar(&o.Token, "token", "", "send this admin `TOKEN` to the server of -url; or set HOOKBOLT_TOKEN")
	flags.StringVar(&o.Dir, "dir", "", "create the database in the directory `DIR`, on the disk to measure")
	flags.BoolVar(&o.Keep, "keep", false, "keep the database after the run")
	flags.BoolVar(&o.JSON, "json", false, "print the results as one JSON document")
}

// commandLine is the command with the flags that were set, for a report. It leaves out the token and headers, which may have one.
func commandLine(flags *flag.FlagSet) string {
	line := "hookbolt " + flags.Name()
	flags.Visit(func(f *flag.Flag) {
		value := f.Value.String()
		if f.Name == "token" || f.Name == "relay-header" {
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
			_, o.Token = config.SplitToken(cfg.HTTP.AdminTokens[0])
		}
		if _, err := toml.DecodeFile(path, &settings); err != nil {
			return err
		}
		if cfg.Storage.Driver == config.DriverPostgres {
			ownSchema(o, settings, &cfg.Storage)
		}
	}
	o.TunedEnviron = server.BusyEnviron()
	o.Config = func(database, caFile string) (string, error) { return ownConfig(settings, database, caFile) }
	return nil
}

// ownSchema gives the run a schema of its own in the database of a configuration: another hookbolt may work in the schema that is configured.
func ownSchema(o *bench.Options, settings map[string]any, storage *config.Storage) {
	name := "hookbolt_bench_" + strings.ToLower(rand.Text()[:10])
	s := settings["storage"].(map[string]any) // it has the driver
	s["postgres_schema"] = name
	o.Database = fmt.Sprintf("PostgreSQL, schema %s; its CPU and disk are not in the figures", name)
	o.Drop = func(ctx context.Context) error {
		return postgres.DropSchema(ctx, postgres.Options{URL: storage.PostgresURL, Schema: name, Insecure: storage.PostgresInsecure})
	}
}

// ownConfig returns the text of a configuration with the settings that bench needs: its own address and database, and a log that
// shows when the server is ready. Webhooks allow endpoints on loopback themselves. caFile has the certificate of endpoints; "" for none.
func ownConfig(settings map[string]any, database, caFile string) (string, error) {
	section := func(name string) map[string]any {
		s, ok := settings[name].(map[string]any)
		if !ok {
			s = make(map[string]any)
			settings[name] = s
		}
		return s
	}
	section("http")["listen"] = "127.0.0.1:0"
	section("http")["shutdown_delay"] = "0s"                         // there is no balancer
	for _, name := range []string{"tls_cert_file", "tls_key_file"} { // the load is plain HTTP
		delete(section("http"), name)
	}
	// Endpoints that fail on purpose are no trouble.
	maps.DeleteFunc(section("delivery"), func(name string, _ any) bool { return strings.HasPrefix(name, "operations_") })
	if caFile != "" {
		section("delivery")["ca_file"] = caFile
	}
	section("storage")["path"] = database
	settings["log"] = map[string]any{"level": "info", "format": "text"}
	var text strings.Builder
	err := toml.NewEncoder(&text).Encode(settings)
	return text.String(), err
}

// benchRelay is the command that bench runs for comparison; see bench.Relay. It is not for people.
func benchRelay(ctx context.Context, p *Program, args []string) error {
	flags := flag.NewFlagSet("bench-relay", flag.ContinueOnError)
	caFile := flags.String("ca", "", "trust the certificates in `FILE`, in PEM, in place of the system's")
	to, err := p.parseOperands(flags, args, "Passes the bodies of requests on, with no storage: the scale that \"hookbolt bench\" measures by, which runs it.", "URL")
	if err != nil {
		return err
	}
	return bench.Relay(ctx, to[0], *caFile, p.Stderr)
}

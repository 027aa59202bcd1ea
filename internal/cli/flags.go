package cli

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"hookbolt/engine/send"
	"hookbolt/internal/client"
	"hookbolt/internal/config"
)

// The environment variables that commands read, beside those of settings.
const (
	configVariable = "HOOKBOLT_CONFIG" // names the configuration file where no flag does
	urlVariable    = "HOOKBOLT_URL"    // where a running server is, for commands that call it
	tokenVariable  = "HOOKBOLT_TOKEN"  // the token that they send to it
)

// parseFlags reads a command's flags. If they ask for help, it prints about and the flags, and returns flag.ErrHelp.
func (p *Program) parseFlags(flags *flag.FlagSet, args []string, about string) error {
	_, err := p.parseOperands(flags, args, about, "")
	return err
}

// parseOperands is parseFlags for a command with operands, such as "FILE OUT". It returns them.
func (p *Program) parseOperands(flags *flag.FlagSet, args []string, about, operands string) ([]string, error) {
	flags.SetOutput(io.Discard) // Run reports the error
	flags.Usage = func() {}
	err := flags.Parse(args)
	want := len(strings.Fields(operands))
	switch {
	case err != nil:
	case flags.NArg() > want:
		err = fmt.Errorf("unexpected argument %q", flags.Arg(want))
	case flags.NArg() < want:
		err = fmt.Errorf("expects %s", operands)
	}
	switch {
	case err == nil:
		return flags.Args(), nil
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(p.Stdout, "Usage: hookbolt %s %s\n\n%s\n\n", flags.Name(), cmp.Or(operands, "[flags]"), about)
		flags.SetOutput(p.Stdout)
		flags.PrintDefaults()
		return nil, flag.ErrHelp
	}
	if operands != "" {
		return nil, usageError{fmt.Errorf("%s: %w; usage: hookbolt %[1]s %[3]s", flags.Name(), err, operands)}
	}
	return nil, usageError{fmt.Errorf("%s: %w; \"hookbolt help %[1]s\" lists the flags", flags.Name(), err)}
}

// settingsFlags adds the flags of the commands that read settings. Its Loader is valid once the flags are parsed.
func settingsFlags(flags *flag.FlagSet) *config.Loader {
	l := &config.Loader{Environ: os.Environ()}
	flags.StringVar(&l.Path, "config", config.Variable(configVariable), "read the settings from `FILE` (config.example.toml lists them all)")
	flags.Func("allow", "allow endpoints in `NETWORK`, such as 127.0.0.0/8 or 10.1.2.3; may be repeated", func(text string) error {
		var n config.Network
		if err := n.UnmarshalText([]byte(text)); err != nil {
			return err
		}
		l.Allow = append(l.Allow, n)
		return nil
	})
	return l
}

// clientFlags adds the flags of the commands that call a running server. Call the function that it returns once they are parsed: it
// creates the client, which the caller closes.
func clientFlags(flags *flag.FlagSet) func() (*client.Client, error) {
	base := flags.String("url", cmp.Or(config.Variable(urlVariable), "http://127.0.0.1:8080"), "call the server at `URL`; or set HOOKBOLT_URL")
	tokenFile := flags.String("token-file", "", "read the admin token from the first line of `FILE`; or set HOOKBOLT_TOKEN")
	return func() (*client.Client, error) {
		u, err := serverURL(*base)
		if err == nil && (u.RawQuery != "" || u.ForceQuery) {
			err = errors.New("must not have a query: paths of the API are appended to it")
		}
		if err != nil {
			return nil, usageError{fmt.Errorf("%s: -url %w", flags.Name(), err)}
		}
		token := config.Variable(tokenVariable)
		if *tokenFile != "" {
			if token, err = config.ReadToken(*tokenFile); err != nil { // the server's own http.admin_tokens_file will do
				return nil, fmt.Errorf("-token-file: %w", err)
			}
		}
		return client.New(u.String(), token), nil
	}
}

// serverURL reads the URL of a running server by the rules for the URLs of endpoints.
func serverURL(raw string) (*url.URL, error) {
	canonical, err := send.CanonicalURL(raw)
	if err != nil {
		return nil, err
	}
	return url.Parse(canonical)
}

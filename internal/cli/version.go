package cli

import (
	"context"
	"flag"
	"fmt"
	"runtime"

	"hookbolt/internal/buildinfo"
)

func printVersion(_ context.Context, p *Program, args []string) error {
	if err := p.parseFlags(flag.NewFlagSet("version", flag.ContinueOnError), args, "Prints the version, the revision and the platform of this build."); err != nil {
		return err
	}
	v := buildinfo.Read()
	_, err := fmt.Fprintf(p.Stdout, "hookbolt %s, revision %s, %s %s/%s\n", v.Version, v.Revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

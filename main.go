// hookbolt turns the sessions of interactive content into signed webhooks.
//
// Package main is the process: signals, the exit code, and the files that are part of the program. What it does is in internal/cli.
package main

import (
	"context"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"os/signal"
	"syscall"

	"hookbolt/internal/cli"
)

//go:embed testdata/sessions/*.ndjson
var testdata embed.FS

func main() { os.Exit(run()) }

func run() int {
	// net/http's client prints what an endpoint sends unasked with the standard logger: text of strangers, which may repeat a
	// visitor's data, past log.format and log.level. Nothing else uses that logger.
	log.SetOutput(io.Discard)
	sessions, err := fs.Sub(testdata, "testdata/sessions")
	if err != nil {
		panic(err) // the name of the folder is invalid
	}
	p := cli.Program{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Sessions: sessions}
	return p.Run(untilSignal(), os.Args[1:])
}

// untilSignal returns a context that ends with SIGINT or SIGTERM, whose name is its cause. A second signal ends the process at once.
func untilSignal() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		cancel(fmt.Errorf("signal: %s", <-signals))
		<-signals
		fmt.Fprintln(os.Stderr, "hookbolt: second signal: stopping at once")
		os.Exit(cli.ExitFailure)
	}()
	return ctx
}

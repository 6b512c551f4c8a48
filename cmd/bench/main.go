// Command bench measures the broker beside the servers it stands on, in one run
// and interleaved, so that what else the machine does falls on all alike.
//
//	go run ./cmd/bench
//
// Every server is a child process with one processor (GOMAXPROCS=1), pinned to one
// where the machine has taskset, so that requests per second are per core. Load comes
// from wrk where it is installed and fits, and otherwise from a small generator of
// its own: vegeta's library makes a goroutine and a net/http request for each shot,
// which costs more than the server that is measured. Ratios are medians over rounds.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

// commands is the command line.
type commands struct {
	JSON    bool          `name:"json" help:"Print one JSON document."`
	SVG     string        `name:"svg" help:"Draw the ratios into this file." placeholder:"FILE"`
	Rounds  int           `help:"Rounds, of which the medians are printed." default:"5"`
	Time    time.Duration `help:"Of each server in each round." default:"2s"`
	Conns   int           `help:"Connections." default:"32"`
	NoWrk   bool          `name:"no-wrk" help:"Load with the own generator, even where wrk is installed."`
	Profile string        `help:"Write the CPU profile of each server into this folder." placeholder:"FOLDER" type:"existingdir"`

	Hit     hitCmd     `cmd:"" default:"withargs" help:"Hits: bare Echo, bare net/http, the broker with everything on, and with each part off in turn."`
	Refused refusedCmd `cmd:"" help:"Tokens that are refused, beside hits."`
	Cold    coldCmd    `cmd:"" help:"Many subjects at once that nobody has asked for yet, before an STS that takes 50 ms; then before one that throttles."`
	Beside  besideCmd  `cmd:"" help:"Hits beside new subjects, beside a flood of bad tokens, and mixed with misses."`
	Peers   peersCmd   `cmd:"" help:"The same job in Express: with a cache, and with a call to STS for each request. It needs Node.js and npm."`
	Memory  memoryCmd  `cmd:"" help:"Live heap for each cached subject, the memory of its token included."`
	Start   startCmd   `cmd:"" help:"From the start of the built program to ready, and its memory then."`
	Child   childCmd   `cmd:"" hidden:""`

	Simulate simulateCmd `cmd:"" help:"A day of many users and replicas, by the real cache on a clock of its own: what STS is asked with and without a shared cache."`
}

// bench is what a command has to work with.
type bench struct {
	*commands
	ctx    context.Context //nolint:containedctx // a command's whole life
	stdout io.Writer
	stderr io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var c commands
	exited := false
	parser, err := kong.New(&c, kong.Name("bench"), kong.Writers(stdout, stderr), kong.Exit(func(int) { exited = true }),
		kong.Description("Measures the broker beside the servers it stands on. On a busy machine only the ratios say something."))
	if err != nil {
		return err
	}
	command, err := parser.Parse(args)
	if err != nil || exited {
		return err
	}
	if c.Rounds < 1 || c.Conns < 1 || c.Time <= 0 {
		return errors.New("rounds, connections and time must be positive")
	}
	return command.Run(&bench{commands: &c, ctx: ctx, stdout: stdout, stderr: stderr})
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// print writes a report as it was asked for.
func (b *bench) print(r report) error {
	if b.SVG != "" {
		if err := os.WriteFile(b.SVG, []byte(r.svg()), 0o600); err != nil {
			return err
		}
	}
	if b.JSON {
		return printJSON(b.stdout, r)
	}
	_, err := io.WriteString(b.stdout, r.text())
	return err
}

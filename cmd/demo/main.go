// Command demo tells the broker's whole story on one machine: a page, a local
// Auth0, a local AWS that enforces, and the broker between them, in one process,
// on loopback.
//
//	go run ./cmd/demo
//
// With --config it runs the same page and the broker for a real tenant.
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

	"github.com/alecthomas/kong"

	"credential-broker/broker/brokertest"
)

// The modes of web_identity, as the configuration names them.
const (
	modeMinted    = "minted"
	modeForwarded = "forwarded"
)

// options are the command line.
type options struct {
	JSON     bool   `name:"json" help:"Once all is ready, print one line of JSON with the addresses on standard output, and nothing else there."`
	Headless bool   `help:"Leave the page out. Without this, Node.js is needed once, to build it."`
	Build    bool   `help:"Build the page, if it is not built, and stop."`
	Mode     string `help:"What STS is shown: a token that the broker mints, or the caller's own (${enum})." enum:"minted,forwarded" default:"minted"`
	Broker   string `help:"Address of the broker; port 0 takes any free one." default:"127.0.0.1:8080"`
	Issuer   string `help:"Address of the local Auth0." default:"127.0.0.1:9400"`
	AWS      string `name:"aws" help:"Address of the local AWS." default:"127.0.0.1:9000"`
	Page     string `help:"Address of the page." default:"127.0.0.1:3000"`

	Config       string `help:"Instead of the demo's own world: the broker and the page for the real tenant and bucket of this file, the service's own configuration." placeholder:"FILE" type:"existingfile"`
	ClientID     string `name:"client-id" help:"With --config: the client ID of the page's Auth0 application."`
	Organization string `help:"With --config: the Auth0 organization to sign in to; empty: Auth0 decides."`
	S3           string `name:"s3" help:"With --config: address of an S3-compatible server; empty: AWS."`

	change func(*brokertest.AWSConfig) // tests: break the account before it is made
	log    io.Writer                   // of the broker's log and audit records
	dist   string                      // the built page
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the command: 0 when it was stopped, 1 when it failed, 2 when it was
// called wrongly.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o := options{log: stderr}
	exited := false
	parser, err := kong.New(&o, kong.Name("demo"), kong.Writers(stdout, stderr), kong.Exit(func(int) { exited = true }),
		kong.Description("A page, a local Auth0, a local AWS that enforces, and the broker between them. For this machine only: it listens on loopback."))
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "demo:", err)
		return 2
	}
	if _, err := parser.Parse(args); exited { // -h
		return 0
	} else if err != nil {
		_, _ = fmt.Fprintln(stderr, "demo:", err)
		return 2
	}
	if err := tell(ctx, o, stdout, stderr); err != nil {
		_, _ = fmt.Fprintln(stderr, "demo:", err)
		return 1
	}
	return 0
}

// tell runs the story until ctx ends or a part of it fails.
func tell(ctx context.Context, o options, stdout, stderr io.Writer) (err error) {
	if !o.Headless || o.Build {
		if o.dist, err = buildPage(ctx, stderr); err != nil {
			return err
		}
	}
	if o.Build {
		return nil
	}
	s, err := start(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if o.JSON {
		err = json.NewEncoder(stdout).Encode(s)
	} else {
		err = introduce(stdout, s)
	}
	if err != nil {
		return err
	}
	return s.Wait(ctx)
}

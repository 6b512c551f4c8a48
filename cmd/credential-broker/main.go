// Command credential-broker gives callers with a token temporary AWS credentials
// that are confined to their tenant's prefix.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/telemetry"
	"credential-broker/cmd/credential-broker/commandline"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/cmd/credential-broker/doctor"
	"credential-broker/cmd/credential-broker/serve"
)

// version is set by the linker: -X main.version=v1.2.3.
var version = ""

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // at run time
	exitUsage  = 2 // the command line or the configuration
)

// commands is the command line.
type commands struct {
	Config      string         `help:"The configuration file." env:"BROKER_CONFIG" default:"/etc/credential-broker/config.yaml" type:"path"`
	Serve       serveCmd       `cmd:"" help:"Run the broker."`
	Check       checkCmd       `cmd:"" help:"Read the configuration and print every problem in it; exit 2 if there is one."`
	Schema      schemaCmd      `cmd:"" help:"Print the JSON Schema of the configuration file, or of an audit record."`
	Doctor      doctorCmd      `cmd:"" help:"Prove on the running account that tenants are apart: the real exchange, every way out of its scope, and the way round the broker. It holds the broker's signing key in mode minted, so it runs where that may be. Exit 0 if everything is proved, 1 if not."`
	Probe       probeCmd       `cmd:"" help:"Ask a running broker what callers ask, for a cron job or a sidecar: a good token must get credentials that work, a token for another audience none, and another tenant's object must stay shut. It leaves nothing behind, and reads no configuration file. Exit 1 if a check does not hold."`
	Explain     explainCmd     `cmd:"" help:"Say what a token is answered, and why: claims, each grant, tenant, scope, session policy. It asks no STS and gives no credentials. Exit 1 where the request is refused."`
	Test        testCmd        `cmd:"" help:"Hold the configuration against cases in files: claims and a request, and the scope or the code that has to come of them. Exit 1 where one does not hold."`
	Whois       whoisCmd       `cmd:"" help:"Say who it was: from what CloudTrail or S3's access log holds to the caller, by the audit records. Exit 1 where nobody is found."`
	IAM         iamCmd         `cmd:"" name:"iam" help:"Print the AWS side of the configuration as JSON: OIDC providers, and each role's trust policy and own policy."`
	Agent       agentCmd       `cmd:"" help:"Get credentials from a broker for the AWS SDKs on this machine, and serve them on a loopback address (AWS_CONTAINER_CREDENTIALS_FULL_URI). It reads no configuration file."`
	Process     processCmd     `cmd:"" help:"Get credentials from a broker once, for credential_process. It reads no configuration file, and keeps nothing."`
	Healthcheck healthcheckCmd `cmd:"" help:"Ask the running broker whether it is ready; exit 1 if it is not."`
	Version     versionCmd     `cmd:"" help:"Print the version."`
}

type (
	serveCmd struct{}
	checkCmd struct{}
	iamCmd   struct {
		DenySessionsBefore string `help:"Print the policy that ends the sessions issued before this time (RFC 3339, or now) instead, with the roles to attach it to: STS cannot recall them." placeholder:"TIME"`
		Subject            string `help:"With --deny-sessions-before: of this subject only."`
		Tenant             string `help:"With --deny-sessions-before: in this tenant only."`
	}
	doctorCmd struct {
		TokenFile      string        `help:"A caller's access token." required:"" placeholder:"FILE"`
		OtherTokenFile string        `help:"A token of the same log-in for another audience, with the same tags: mode forwarded needs one to be proved." placeholder:"FILE"`
		Grant          string        `help:"The one grant to examine; the exit code speaks of no other. Without it, one of each role is examined."`
		Tenant         string        `help:"The tenant, for a grant that lets the request name it."`
		OtherTenant    string        `help:"Another tenant that exists: needed where each tenant has a bucket."`
		OtherObject    string        `help:"An object of another tenant that is there: needed where the doctor can put none, as in mode forwarded." placeholder:"s3://BUCKET/KEY"`
		SourceIP       string        `name:"source-ip" help:"The address from which S3 sees this machine, for a grant that binds it."`
		Object         string        `help:"The key of an object inside, for a grant that reads and neither lists nor writes." placeholder:"KEY"`
		S3Endpoint     string        `name:"s3-endpoint" help:"An S3 that is not AWS's, addressed path-style." placeholder:"URL"`
		Timeout        time.Duration `help:"Of the whole examination: some 1,000 requests for a role, one after the other." default:"15m"`
		JSON           bool          `name:"json" help:"Print one JSON document."`
	}
	healthcheckCmd struct {
		URL string `help:"Ask here instead of where the configuration says."`
	}
	versionCmd struct{}
)

// world is what a command sees of the process.
type world struct {
	ctx            context.Context //nolint:containedctx // a command's whole life
	config         string
	lookup         func(string) (string, bool)
	stdout, stderr io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	code := run(ctx, os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the program. It returns its exit code.
func run(ctx context.Context, args []string, lookup func(string) (string, bool), stdout, stderr io.Writer) int {
	var c commands
	command, err := theCommandLine(lookup).Parse(&c, args)
	var help commandline.Help
	if errors.As(err, &help) {
		_, _ = fmt.Fprint(stdout, help.Text)
		return exitOK
	}
	if err != nil {
		return fail(stderr, usageError{err})
	}
	runs, ok := command.(interface{ Run(w *world) error })
	if !ok {
		return fail(stderr, fmt.Errorf("shouldn't happen: %T is no command", command))
	}
	err = runs.Run(&world{ctx, c.Config, lookup, stdout, stderr})
	return fail(stderr, err)
}

func theCommandLine(lookup func(string) (string, bool)) commandline.Program {
	return commandline.Program{
		Name: "credential-broker", Description: "Temporary AWS credentials, confined to a tenant's prefix, for callers with a token.", Lookup: lookup,
	}
}

// usageError is the caller's or the operator's mistake.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

// fail prints the error, if there is one, and chooses the exit code.
func fail(stderr io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	var problems config.Problems
	var usage usageError
	switch {
	case errors.As(err, &problems):
		_, _ = fmt.Fprintln(stderr, problems)
		_, _ = fmt.Fprintf(stderr, "credential-broker: %d problem(s) in the configuration\n", len(problems))
		return exitUsage
	case errors.As(err, &usage):
		_, _ = fmt.Fprintln(stderr, "credential-broker:", err)
		return exitUsage
	default:
		_, _ = fmt.Fprintln(stderr, "credential-broker:", err)
		return exitFailed
	}
}

// read reads the configuration.
func (w *world) read() (config.Config, error) {
	data, err := os.ReadFile(w.config)
	if err != nil {
		return config.Config{}, usageError{fmt.Errorf("read the configuration: %w", err)}
	}
	return config.Parse(w.config, data, w.lookup)
}

// lastLines bounds how long an end waits for who reads the log: a healthy one takes
// milliseconds.
const lastLines = time.Second

// Run serves until the process is told to stop, and reads the configuration again
// when it changes or when the process is sent SIGHUP.
func (serveCmd) Run(w *world) error {
	cfg, err := w.read()
	if err != nil {
		return err
	}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	signal.Ignore(syscall.SIGPIPE) // who no longer reads the records ends readiness, and not the process
	lines := telemetry.NewLines(w.stderr)
	defer lines.Close(lastLines)
	log := slog.New(telemetry.LogHandler(lines))
	if limit := memoryLimit(os.DirFS("/sys")); limit > 0 && debug.SetMemoryLimit(-1) == math.MaxInt64 { // GOMEMLIMIT is the operator's word
		debug.SetMemoryLimit(limit)
		log.LogAttrs(w.ctx, slog.LevelInfo, "memory limit taken from the container", slog.Int64("bytes", limit))
	}
	for _, note := range cfg.Notes {
		log.LogAttrs(w.ctx, slog.LevelWarn, note)
	}
	service, err := serve.New(cfg, serve.Options{
		Stdout: w.stdout, Log: log, Load: w.read, Hangup: hangup, Watch: w.config, Notice: serve.Notice, Build: build(), Lookup: w.lookup,
	})
	if err != nil {
		return err
	}
	return service.Run(w.ctx)
}

// Run reads the configuration and says that it is good.
func (checkCmd) Run(w *world) error {
	cfg, err := w.read()
	if err != nil {
		return err
	}
	for _, note := range cfg.Notes {
		_, _ = fmt.Fprintln(w.stdout, "note:", note)
	}
	_, err = fmt.Fprintf(w.stdout, "%s: ok, %d grant(s), revision %s\n", w.config, len(cfg.Grants), cfg.Revision)
	return err
}

// errNotProved ends a doctor whose report has said what is wrong.
var errNotProved = errors.New("not everything is proved")

// Run examines the account.
func (c doctorCmd) Run(w *world) error {
	cfg, err := w.read()
	if err != nil {
		return err
	}
	o := doctor.Options{
		Grant: c.Grant, Tenant: c.Tenant, OtherTenant: c.OtherTenant, SourceIP: c.SourceIP, Object: c.Object, S3Endpoint: c.S3Endpoint, Timeout: c.Timeout,
	}
	if o.OtherObject, err = doctor.ParseObjectName(c.OtherObject); err != nil {
		return usageError{err}
	}
	if o.Token, err = readToken(c.TokenFile); err != nil {
		return usageError{err}
	}
	if c.OtherTokenFile != "" {
		if o.OtherToken, err = readToken(c.OtherTokenFile); err != nil {
			return usageError{err}
		}
	}
	if !c.JSON {
		o.Found = func(f doctor.Finding) { doctor.Print(w.stdout, f) }
	}
	report := doctor.Examine(w.ctx, cfg, o)
	if c.JSON {
		out := json.NewEncoder(w.stdout)
		out.SetIndent("", "  ")
		if err := out.Encode(report); err != nil {
			return err
		}
	} else {
		doctor.Sum(w.stdout, report)
	}
	if !report.OK {
		return errNotProved
	}
	return nil
}

// readFile reads a file, or standard input for "-".
func readFile(path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(os.Stdin)
	}
	return os.ReadFile(path) //nolint:gosec // the operator names the file
}

// readToken reads a file with one token, and perhaps a newline.
func readToken(path string) (broker.Secret, error) {
	data, err := readFile(path)
	if err != nil {
		return broker.Secret{}, fmt.Errorf("read token: %w", err)
	}
	return broker.NewSecret(strings.TrimSpace(string(data))), nil
}

// healthcheckTimeout fits a container engine's usual 5 s and less.
const healthcheckTimeout = 3 * time.Second

// Run asks the admin port of this machine whether the broker is ready.
func (h healthcheckCmd) Run(w *world) error {
	address := h.URL
	if address == "" {
		cfg, err := w.read()
		if err != nil {
			return err
		}
		host, port, err := net.SplitHostPort(cfg.AdminListen)
		if err != nil {
			return err
		}
		if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
			host = "127.0.0.1"
		}
		address = "http://" + net.JoinHostPort(host, port) + "/readyz"
	}
	ctx, cancel := context.WithTimeout(w.ctx, healthcheckTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return usageError{err}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, body)
	}
	_, err = fmt.Fprintf(w.stdout, "%s\n", body)
	return err
}

// Run prints what was built, from which commit, with which Go.
func (versionCmd) Run(w *world) error {
	b := build()
	_, err := fmt.Fprintf(w.stdout, "credential-broker %s (commit %s, %s)\n", b.Version, b.Revision, b.Go)
	return err
}

func build() serve.Build {
	b := serve.Build{Version: version, Revision: "unknown", Go: "unknown"}
	if info, ok := debug.ReadBuildInfo(); ok {
		b.Go = info.GoVersion
		if b.Version == "" {
			b.Version = info.Main.Version
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				b.Revision = s.Value
			}
		}
	}
	return b
}

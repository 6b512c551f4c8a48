package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/labstack/echo/v4"

	"credential-broker/broker/httpapi"
	"credential-broker/broker/telemetry"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/cmd/credential-broker/serve"
)

// The kinds of servers.
const (
	kindEcho    = "echo"    // one handler that sends as many bytes as a hit
	kindLimited = "limited" // the same behind the timeouts that the broker has
	kindHTTP    = "net/http"
	kindBroker  = "broker" // the service, as it is shipped
	kindParts   = "parts"  // its parts, with some left out
)

// The parts that can be left out. What keeps tenants apart is not among them.
const (
	partLog     = "event log"
	partMetrics = "metrics"
	partLimits  = "limits"
	partAudit   = "audit file" // the record is made all the same, and goes nowhere
)

// spec says what a child serves.
type spec struct {
	Name, Kind   string
	Off          []string // parts
	Config       string   // of the broker, as text
	Log          string   // file of the event log
	Entries      int
	STSPerSecond int
	Failures     int    // of an address, a minute; 0: any number
	Traces       string // where spans are sent; empty: nowhere
	Processors   int
	// Program, if set, is run in place of this one. It speaks as a child does.
	Program []string `json:"-"`
}

type childCmd struct {
	Spec string `arg:""`
}

// usage is what a child says of itself.
type usage struct {
	CPU     time.Duration // user and system, all threads
	RSS     int64         // bytes
	Heap    uint64        // live, after a collection, where that was asked for
	Mallocs uint64
}

// Run serves until its standard input ends, and answers a line there with one.
func (c childCmd) Run(b *bench) error {
	var s spec
	if err := json.Unmarshal([]byte(c.Spec), &s); err != nil {
		return err
	}
	if s.Processors > 0 {
		runtime.GOMAXPROCS(s.Processors)
	}
	address, err := s.start(b.ctx)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintln(b.stdout, address)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case "profile":
			f, err := os.Create(rest) //nolint:gosec // whoever runs it names the file
			if err != nil {
				return err
			}
			if err := pprof.StartCPUProfile(f); err != nil {
				return err
			}
		case "profiled":
			pprof.StopCPUProfile()
		case "collect":
			debug.FreeOSMemory()
		}
		if err := json.NewEncoder(b.stdout).Encode(measure()); err != nil {
			return err
		}
	}
	return nil
}

// measure asks the system and the runtime.
func measure() usage {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r) // of oneself it cannot fail
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u := usage{CPU: time.Duration(r.Utime.Nano() + r.Stime.Nano()), Heap: m.HeapAlloc, Mallocs: m.Mallocs}
	if data, err := os.ReadFile("/proc/self/statm"); err == nil {
		if fields := strings.Fields(string(data)); len(fields) > 1 {
			pages, _ := strconv.ParseInt(fields[1], 10, 64)
			u.RSS = pages * int64(os.Getpagesize())
		}
	}
	return u
}

// start begins to serve and returns the address.
func (s spec) start(ctx context.Context) (string, error) {
	switch s.Kind {
	case kindEcho, kindLimited, kindHTTP:
		return s.bare(ctx)
	case kindBroker:
		return s.service(ctx)
	case kindParts:
		return s.parts(ctx)
	default:
		return "", fmt.Errorf("no kind of server: %q", s.Kind)
	}
}

// answerBytes is how long a hit's answer is, nearly.
const answerBytes = 1500

// bare serves a fixed answer, by the code of the servers alone.
func (s spec) bare(ctx context.Context) (string, error) {
	body := []byte(`{"x":"` + strings.Repeat("x", answerBytes) + `"}`)
	var h http.Handler
	if s.Kind == kindHTTP {
		mux := http.NewServeMux()
		mux.HandleFunc("GET /v1/credentials", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(body)
		})
		h = mux
	} else {
		e := echo.New()
		e.HideBanner, e.HidePort = true, true
		e.GET("/v1/credentials", func(c echo.Context) error { return c.Blob(http.StatusOK, "application/json", body) })
		h = e
	}
	server := &http.Server{Handler: h} //nolint:gosec // bare: without timeouts, as who starts with Echo has it
	if s.Kind == kindLimited {
		server = httpapi.NewServer(h, slog.New(slog.DiscardHandler))
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() { _ = server.Serve(l) }() // to the end of the process
	return l.Addr().String(), nil
}

// service serves the broker as `credential-broker serve` does.
func (s spec) service(ctx context.Context) (string, error) {
	cfg, err := config.Parse("bench.yaml", []byte(s.Config), os.LookupEnv)
	if err != nil {
		return "", err
	}
	ready := make(chan struct{})
	o := serve.Options{Ready: func() { close(ready) }}
	if s.Traces != "" {
		o.Lookup = os.LookupEnv
	}
	if s.Log != "" {
		if o.Log, err = eventLog(s.Log); err != nil {
			return "", err
		}
	}
	service, err := serve.New(cfg, o)
	if err != nil {
		return "", err
	}
	ended := make(chan error, 1)
	go func() { ended <- service.Run(ctx) }()
	select {
	case <-ready:
		return service.Addr().String(), nil
	case err := <-ended:
		return "", errors.Join(errors.New("the service has ended"), err)
	}
}

// eventLog is the service's, into a file.
func eventLog(path string) (*slog.Logger, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // in a folder of our own
	if err != nil {
		return nil, err
	}
	return slog.New(telemetry.LogHandler(telemetry.NewLines(f))), nil
}

// child is a server in a process of its own.
type child struct {
	spec
	address string
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
}

// startChild starts this program once more, as a server, on the first processor.
func startChild(ctx context.Context, s spec, stderr io.Writer) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	args := []string{self, "child", string(text)}
	if len(s.Program) > 0 {
		args = s.Program
	}
	if s.Processors == 1 {
		args = slices.Concat(pinned(0), args)
	}
	c := &child{spec: s, cmd: exec.CommandContext(ctx, args[0], args[1:]...)} //nolint:gosec // ourselves
	c.cmd.Stderr = stderr
	if s.Traces != "" {
		c.cmd.Env = append(os.Environ(), "OTEL_EXPORTER_OTLP_ENDPOINT="+s.Traces, "OTEL_TRACES_SAMPLER=parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG=0.01")
	}
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := c.out.ReadString('\n')
	if err != nil {
		_ = c.cmd.Wait()
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	c.address = strings.TrimSpace(line)
	return c, nil
}

// pinned is what goes before a command that is to have one processor.
func pinned(processor int) []string {
	taskset, err := exec.LookPath("taskset")
	if err != nil || runtime.NumCPU() < 2 {
		return nil
	}
	return []string{taskset, "-c", strconv.Itoa(processor)}
}

// say sends a word, and returns how the child stands.
func (c *child) say(words ...string) (usage, error) {
	var u usage
	if _, err := fmt.Fprintln(c.in, strings.Join(words, " ")); err != nil {
		return u, err
	}
	line, err := c.out.ReadBytes('\n')
	if err != nil {
		return u, fmt.Errorf("%s: %w", c.Name, err)
	}
	return u, json.Unmarshal(line, &u)
}

// stop ends the child.
func (c *child) stop() {
	_ = c.in.Close()
	_ = c.cmd.Wait()
}

// profiled runs f under the child's profiler, if somebody wants its profile.
func (c *child) profiled(folder string, f func() error) error {
	if folder == "" {
		return f()
	}
	name := strings.NewReplacer(" ", "-", "/", "-").Replace(c.Name)
	if _, err := c.say("profile", filepath.Join(folder, name+".pprof")); err != nil {
		return err
	}
	err := f()
	_, stopped := c.say("profiled")
	return errors.Join(err, stopped)
}

package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"

	"credential-broker/broker"
	"credential-broker/cmd/credential-broker/config"
)

// memoryCmd is in the help of commands.
type memoryCmd struct {
	Subjects int `help:"How many." default:"1000000"`
}

// discarded is an answer that nobody reads.
type discarded struct {
	h      http.Header
	status int
}

func (d *discarded) Header() http.Header         { return d.h }
func (d *discarded) Write(p []byte) (int, error) { return len(p), nil }
func (d *discarded) WriteHeader(status int)      { d.status = status }

// answers are STS's, from memory and as long as its own are: it is the broker that is
// weighed, which holds a copy of the texts, and a million calls would take an hour.
type answers struct{}

func (answers) Issue(_ context.Context, o broker.Order) (broker.Credentials, error) {
	var random [930]byte
	_, _ = rand.Read(random[:])
	text := base64.StdEncoding.EncodeToString(random[:])
	now := time.Now()
	return broker.Credentials{
		AccessKeyID: "ASIA" + strings.ToUpper(hex.EncodeToString(random[:8])), SecretAccessKey: broker.NewSecret(text[1200:]), SessionToken: broker.NewSecret(text[:1200]),
		IssuedAt: now, Expiration: now.Add(o.Lifetime), SessionName: o.SessionName, Scope: o.Scope, Source: broker.FromSTS,
	}, nil
}

// Run fills the parts, in this process and without a network, and weighs what lives.
// Each subject has a token of its own.
func (m memoryCmd) Run(b *bench) error {
	w, err := newWorld(b.ctx)
	if err != nil {
		return err
	}
	defer w.close()
	cfg, err := config.Parse("bench.yaml", []byte(w.config(spec{Name: "memory", Entries: m.Subjects, STSPerSecond: 1_000_000})), os.LookupEnv)
	if err != nil {
		return err
	}
	p, err := newParts(b.ctx, cfg)
	if err != nil {
		return err
	}
	p.sts = answers{}
	h, err := spec{}.handler(cfg, p, broker.NewAuditLog(io.Discard), nil)
	if err != nil {
		return err
	}
	live := func() float64 {
		runtime.GC()
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return float64(s.HeapAlloc)
	}
	before, begin := live(), time.Now()
	answer, tokenBytes := &discarded{h: http.Header{}}, 0
	for i := range m.Subjects {
		token, err := w.quickToken(w.claims(i, i))
		if err != nil {
			return err
		}
		tokenBytes = len(token)
		r, err := http.NewRequestWithContext(b.ctx, http.MethodGet, "/v1/credentials", nil)
		if err != nil {
			return err
		}
		r.RemoteAddr = "192.0.2.1:1234"
		r.Header.Set("Authorization", "Bearer "+token)
		clear(answer.h)
		h.ServeHTTP(answer, r)
		if answer.status != http.StatusOK {
			return fmt.Errorf("subject %d: %d", i, answer.status)
		}
	}
	if b.Profile != "" {
		runtime.GC()
		f, err := os.Create(filepath.Join(b.Profile, "memory.pprof"))
		if err != nil {
			return err
		}
		if err := errors.Join(pprof.WriteHeapProfile(f), f.Close()); err != nil {
			return err
		}
	}
	each := (live() - before) / float64(m.Subjects)
	runtime.KeepAlive(h)
	return b.print(report{Title: "Memory", Notes: []string{fmt.Sprintf(
		"%d subjects of 100 tenants in %s: %.0f bytes of live heap each (%.2f KiB), with its counters, a session token of 1,200 bytes, and the memory of its own token of %d bytes (ES256, which is quicker to sign)",
		m.Subjects, time.Since(begin).Round(time.Second), each, each/1024, tokenBytes)}})
}

// startCmd is in the help of commands.
type startCmd struct{}

// Run builds the program as it is shipped, and starts it again and again.
func (startCmd) Run(b *bench) error {
	w, err := newWorld(b.ctx)
	if err != nil {
		return err
	}
	defer w.close()
	program, file := filepath.Join(w.folder, "credential-broker"), filepath.Join(w.folder, "config.yaml")
	build := exec.CommandContext(b.ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "credential-broker/cmd/credential-broker") //nolint:gosec // our own words
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = b.stderr
	if err := build.Run(); err != nil {
		return err
	}
	if err := os.WriteFile(file, []byte(w.config(spec{Name: "start", Entries: 100_000, STSPerSecond: 20})), 0o600); err != nil {
		return err
	}
	var took, rss []float64
	for range 4 * b.Rounds {
		t, memory, err := startOnce(b, program, file)
		if err != nil {
			return err
		}
		took, rss = append(took, t), append(rss, memory)
	}
	return b.print(report{Title: "Start", Notes: []string{fmt.Sprintf("from the start of the process to ready, keys on loopback: %.1f ms; resident memory then: %.1f MB (medians of %d)",
		median(took), median(rss), len(took))}})
}

// startOnce starts the program and ends it when it is ready.
func startOnce(b *bench, program, file string) (milliseconds, megabytes float64, err error) {
	cmd := exec.CommandContext(b.ctx, program, "serve", "--config", file) //nolint:gosec // what was just built
	log, err := cmd.StderrPipe()
	if err != nil {
		return 0, 0, err
	}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	for lines := bufio.NewScanner(log); lines.Scan(); {
		if strings.Contains(lines.Text(), `"msg":"ready"`) {
			milliseconds = float64(time.Since(begin)) / float64(time.Millisecond)
			data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", cmd.Process.Pid))
			if err != nil {
				return milliseconds, 0, nil // not Linux
			}
			pages, err := strconv.ParseFloat(strings.Fields(string(data))[1], 64)
			return milliseconds, pages * float64(os.Getpagesize()) / 1e6, err
		}
	}
	return 0, 0, fmt.Errorf("%s has not become ready", program)
}

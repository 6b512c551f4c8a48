package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// peersCmd is in the help of commands.
type peersCmd struct {
	Subjects int `help:"Of whom each asks in turn." default:"1000"`
}

// peersFolder is where the other servers are written, from the repository's root.
const peersFolder = "cmd/bench/peers"

// Run measures the broker beside what it replaces.
func (c peersCmd) Run(b *bench) error {
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			_, _ = fmt.Fprintf(b.stderr, "NOT RUN: the peers: they need %s (Node.js 20 or newer, npm with it), and it is not here\n", tool)
			return nil
		}
	}
	folder, err := b.installPeers()
	if err != nil {
		return err
	}
	w, err := newWorld(b.ctx)
	if err != nil {
		return err
	}
	defer w.close()
	w.stsTakes = stsTakes
	tokens, err := w.tokens(c.Subjects)
	if err != nil {
		return err
	}
	all := requests(tokens, "Origin: "+origin)
	express := func(which string) (spec, error) {
		config, err := json.Marshal(map[string]string{
			"issuer": w.base + "/", "jwks": w.base + "/.well-known/jwks.json", "audience": audience, "region": "eu-west-1", "role": role, "sts": w.base,
		})
		return spec{Program: []string{"env", "NODE_ENV=production", "NODE_NO_WARNINGS=1", "node", filepath.Join(folder, "servers.mjs"), which, string(config)}}, err
	}
	cache, err := express("cache")
	if err != nil {
		return err
	}
	article, err := express("article")
	if err != nil {
		return err
	}
	rows, err := b.compete(w, []contest{
		{name: "broker, everything on", spec: spec{Kind: kindBroker, Entries: 2 * c.Subjects, STSPerSecond: 1_000_000}, load: all},
		{name: "Express 5, express-oauth2-jwt-bearer, a Map", spec: cache, load: all},
		{name: "Express 5, fromWebToken at each request", spec: article, load: all, warm: all[:min(b.Conns, len(all))]},
	})
	if err != nil {
		return err
	}
	notes := []string{"", "The broker's requests per second, and its CPU a request, against:"}
	for _, r := range rows[1:] {
		notes = append(notes, fmt.Sprintf("  %-48s %.1f ×, 1/%.1f", r.Name, 1/r.Ratio, 1/r.CPURatio))
	}
	return b.print(report{
		Title: fmt.Sprintf("The same job in Express: %d subjects, STS at %s", c.Subjects, stsTakes), Where: where(b.Rounds, b.Time, b.tool()) + ", Node " + nodeVersion(b.ctx), Rows: rows, Notes: notes,
	})
}

func nodeVersion(ctx context.Context) string {
	out, _ := exec.CommandContext(ctx, "node", "--version").Output() // what cannot be told is left out
	return strings.TrimSpace(string(out))
}

// installPeers installs what the lock file names, unless it is there, and returns the
// folder.
func (b *bench) installPeers() (string, error) {
	folder, err := findPeers()
	if err != nil {
		return "", err
	}
	lock, err := os.Stat(filepath.Join(folder, "package-lock.json"))
	if err != nil {
		return "", err
	}
	// npm writes it last of all.
	if installed, err := os.Stat(filepath.Join(folder, "node_modules", ".package-lock.json")); err == nil && !installed.ModTime().Before(lock.ModTime()) {
		return folder, nil
	}
	_, _ = fmt.Fprintln(b.stderr, "bench: npm ci, once: 25 MB")
	cmd := exec.CommandContext(b.ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
	cmd.Dir, cmd.Stdout, cmd.Stderr = folder, b.stderr, b.stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("install the peers: npm ci in %s: %w", folder, err)
	}
	return folder, nil
}

// findPeers looks from the working folder upwards, and then where this program was
// compiled.
func findPeers() (string, error) {
	holds := func(folder string) bool {
		_, err := os.Stat(filepath.Join(folder, "package-lock.json"))
		return err == nil
	}
	at, err := os.Getwd()
	for err == nil {
		if folder := filepath.Join(at, filepath.FromSlash(peersFolder)); holds(folder) {
			return folder, nil
		}
		if filepath.Dir(at) == at {
			break
		}
		at = filepath.Dir(at)
	}
	if _, file, _, ok := runtime.Caller(0); ok {
		if folder := filepath.Join(filepath.Dir(file), "peers"); holds(folder) {
			return folder, nil
		}
	}
	return "", errors.New("the other servers (" + peersFolder + ") are not here: run it inside the repository")
}

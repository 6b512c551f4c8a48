package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// builder makes the page out of its sources, once, and again when they have changed.
type builder struct {
	web    string    // cmd/demo/web
	stderr io.Writer // where progress is shown
	node   string    // programs, as found by look-up
	npm    string
}

// errInstall says that npm did not install what the page is made of.
var errInstall = errors.New("install the page's packages")

// sources is where the page is written, from the repository's root.
const sources = "cmd/demo/web"

// findSources looks from the working folder upwards, and then where this program
// was compiled.
func findSources() (string, error) {
	holds := func(folder string) bool {
		_, err := os.Stat(filepath.Join(folder, "package-lock.json"))
		return err == nil
	}
	folder, err := os.Getwd()
	for err == nil {
		if web := filepath.Join(folder, filepath.FromSlash(sources)); holds(web) {
			return web, nil
		}
		parent := filepath.Dir(folder)
		if parent == folder {
			break
		}
		folder = parent
	}
	if _, file, _, ok := runtime.Caller(0); ok {
		if web := filepath.Join(filepath.Dir(file), "web"); holds(web) {
			return web, nil
		}
	}
	return "", fmt.Errorf("the page's sources (%s) are not here: run the demo inside the repository, or without the page: --headless", sources)
}

// buildPage returns the folder with the built page.
func buildPage(ctx context.Context, stderr io.Writer) (string, error) {
	web, err := findSources()
	if err != nil {
		return "", err
	}
	b := builder{web: web, stderr: stderr, node: "node", npm: "npm"}
	return b.build(ctx)
}

// marker is the file in what was built, or installed, that says from what.
const marker = ".made-from"

// build reuses what was made from the same sources.
func (b builder) build(ctx context.Context) (string, error) {
	dist, modules := filepath.Join(b.web, "dist"), filepath.Join(b.web, "node_modules")
	digest, err := b.digest("")
	if err != nil {
		return "", err
	}
	if made(dist, digest) {
		return dist, nil
	}
	if err := b.checkNode(ctx); err != nil {
		return "", err
	}
	begin := time.Now()
	lock, err := b.digest("package-lock.json")
	if err != nil {
		return "", err
	}
	if !made(modules, lock) {
		b.say("building the page, step 1 of 2: npm ci (once; about a minute, 150 MB)")
		err := b.run(ctx, b.npm, "ci", "--no-audit", "--no-fund", "--loglevel=error")
		if err == nil {
			err = mark(modules, lock)
		}
		if err != nil {
			return "", fmt.Errorf("%w: %w (is the npm registry reachable? without the page: --headless)", errInstall, err)
		}
	}
	b.say("building the page, step 2 of 2: vite build")
	if err := b.bundle(ctx, dist, digest); err != nil {
		return "", fmt.Errorf("build the page: %w", err)
	}
	b.say("the page is built (%s)", time.Since(begin).Round(time.Second))
	return dist, nil
}

// bundle builds beside and moves in whole: two demos that start at once do not mix.
func (b builder) bundle(ctx context.Context, dist, digest string) error {
	fresh, err := os.MkdirTemp(b.web, "dist-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(fresh) }() // moved, unless something failed
	vite := filepath.Join("node_modules", "vite", "bin", "vite.js")
	if err := b.run(ctx, b.node, vite, "build", "--outDir", filepath.Base(fresh), "--emptyOutDir", "--logLevel", "error"); err != nil {
		return err
	}
	if err := errors.Join(mark(fresh, digest), os.Chmod(fresh, 0o755), os.RemoveAll(dist)); err != nil { //nolint:gosec // it is no secret
		return err
	}
	if err := os.Rename(fresh, dist); err != nil && !made(dist, digest) { // another demo may have been quicker
		return err
	}
	return nil
}

func (b builder) say(format string, args ...any) {
	_, _ = fmt.Fprintf(b.stderr, "demo: "+format+"\n", args...)
}

// run shows what the program says as progress; standard output stays free.
func (b builder) run(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // npm and node, with arguments of ours
	cmd.Dir, cmd.Stdout, cmd.Stderr = b.web, b.stderr, b.stderr
	return cmd.Run()
}

// checkNode wants the version that Vite wants: 20.19, 22.12 or newer.
// https://vite.dev/guide/#scaffolding-your-first-vite-project
func (b builder) checkNode(ctx context.Context) error {
	const remedy = "\n  install Node.js 22 or newer, npm with it: https://nodejs.org/en/download, or your system's own package" +
		"\n  (Debian 13, Ubuntu 25.04: apt-get install nodejs npm; macOS: brew install node; Windows: winget install OpenJS.NodeJS)" +
		"\n  or leave the page out: go run ./cmd/demo --headless"
	out, err := exec.CommandContext(ctx, b.node, "--version").Output() //nolint:gosec // node
	if err != nil {
		return fmt.Errorf("the page needs Node.js to be built, and it cannot be run: %w%s", err, remedy)
	}
	version := strings.TrimSpace(string(out))
	if !newEnough(version) {
		return fmt.Errorf("the page needs Node.js 20.19, 22.12 or newer to be built, and this is %s%s", version, remedy)
	}
	if _, err := exec.LookPath(b.npm); err != nil {
		return fmt.Errorf("the page needs npm to be built: %w%s", err, remedy)
	}
	return nil
}

func newEnough(version string) bool {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	if len(parts) < 3 {
		return false
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	if err1 != nil || err2 != nil {
		return false
	}
	return major == 20 && minor >= 19 || major == 22 && minor >= 12 || major > 22
}

func made(folder, digest string) bool {
	text, err := os.ReadFile(filepath.Join(folder, marker)) //nolint:gosec // in the repository
	return err == nil && string(text) == digest
}

func mark(folder, digest string) error {
	return os.WriteFile(filepath.Join(folder, marker), []byte(digest), 0o644) //nolint:gosec // it is no secret
}

// digest names the content of one source, or with no name of all that the page is
// made from: its folder, without what was made or is only for tests, and the
// helper that it takes from this repository.
func (b builder) digest(name string) (string, error) {
	files := []string{filepath.Join(b.web, name)}
	if name == "" {
		files = []string{filepath.Join(b.web, "..", "..", "..", "broker", "client", "client.js")}
		err := filepath.WalkDir(b.web, func(file string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && (d.Name() == "node_modules" || d.Name() == "e2e" || strings.HasPrefix(d.Name(), "dist")):
				return fs.SkipDir
			case d.Type().IsRegular():
				files = append(files, file)
			}
			return nil
		})
		if err != nil {
			return "", fmt.Errorf("read the page's sources: %w", err)
		}
	}
	slices.Sort(files)
	sum := sha256.New()
	for _, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // in the repository
		if err != nil {
			return "", fmt.Errorf("read the page's sources: %w", err)
		}
		relative, err := filepath.Rel(b.web, file)
		if err != nil {
			return "", fmt.Errorf("read the page's sources: %w", err)
		}
		_, _ = fmt.Fprintf(sum, "%s %d\n", filepath.ToSlash(relative), len(text)) // hash.Hash never returns an error
		_, _ = sum.Write(text)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

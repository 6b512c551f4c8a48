package main

import (
	"context"
	"encoding/json"
	"fmt"
	"go/build"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxMemory bounds what a mutant's tests may reserve, in KiB: a loop that lost
// its end would otherwise take the machine with it.
const maxMemory = 2 << 20

// tester runs the tests of mutants, in a folder of its own beside the tree.
type tester struct {
	root    string // absolute: an overlay names files so
	scratch string
	timeout time.Duration
}

func newTester(root string, timeout time.Duration) (*tester, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	scratch, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return nil, err
	}
	return &tester{root: root, scratch: scratch, timeout: timeout}, nil
}

func (t *tester) close() { _ = os.RemoveAll(t.scratch) }

// testAll tests the mutants, so many at a time, and notes their fates. The tests
// must pass without a mutant, before and after.
func (t *tester) testAll(ctx context.Context, of target, mutants []*mutant, jobs int, progress io.Writer) error {
	if len(mutants) == 0 {
		return nil
	}
	if err := t.pass(ctx, of); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	queue := make(chan *mutant)
	var said sync.Mutex
	var workers sync.WaitGroup
	for i := range jobs {
		workers.Go(func() {
			for m := range queue {
				began := time.Now()
				fate, err := t.testOne(ctx, of, m, filepath.Join(t.scratch, fmt.Sprint(i)))
				if err != nil {
					cancel(err)
					continue
				}
				m.fate = fate
				said.Lock()
				_, _ = fmt.Fprintf(progress, "%-8s %5.1f s  %s\n", fate, time.Since(began).Seconds(), m)
				said.Unlock()
			}
		})
	}
	for _, m := range mutants {
		select {
		case queue <- m:
		case <-ctx.Done():
		}
	}
	close(queue)
	workers.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return t.pass(ctx, of) // or what failed may have failed without a mutant
}

// pass reports an error if the tests do not pass as it is.
func (t *tester) pass(ctx context.Context, of target) error {
	fate, out, err := t.test(ctx, of, "")
	if err != nil {
		return err
	}
	if fate != survived {
		return fmt.Errorf("the tests of %s fail without a mutant:\n%s", of.dir, out)
	}
	return nil
}

func (f fate) String() string {
	return [...]string{"untested", "killed", "no build", "SURVIVED"}[f]
}

// testOne tests the first variant of the mutant that compiles.
func (t *tester) testOne(ctx context.Context, of target, m *mutant, dir string) (fate, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return untested, err
	}
	changed, overlay := filepath.Join(dir, "mutant.go"), filepath.Join(dir, "overlay.json")
	original := filepath.Join(t.root, filepath.FromSlash(m.file))
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {original: changed}})
	if err != nil {
		return untested, err
	}
	if err := os.WriteFile(overlay, replace, 0o600); err != nil {
		return untested, err
	}
	for _, edits := range m.variants {
		if err := os.WriteFile(changed, m.apply(edits), 0o600); err != nil {
			return untested, err
		}
		if fate, _, err := t.test(ctx, of, overlay); err != nil || fate != unbuildable {
			return fate, err
		}
	}
	return unbuildable, nil
}

// test runs the tests until one fails, and returns what was printed.
func (t *tester) test(ctx context.Context, of target, overlay string) (fate, string, error) {
	for _, dir := range of.tests {
		args, err := t.arguments(dir, overlay)
		if err != nil {
			return untested, "", err
		}
		cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // the developer names the package
		cmd.Dir = t.root
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // go test hands it on
		cmd.WaitDelay = 10 * time.Second
		out, err := cmd.CombinedOutput()
		switch {
		case ctx.Err() != nil:
			return untested, "", context.Cause(ctx)
		case err == nil:
			continue
		case cmd.ProcessState == nil:
			return untested, "", fmt.Errorf("run go: %w", err)
		case strings.Contains(string(out), "[build failed]") || strings.Contains(string(out), "[setup failed]"):
			return unbuildable, string(out), nil
		default:
			return killed, string(out), nil
		}
	}
	return survived, "", nil
}

func (t *tester) arguments(dir, overlay string) ([]string, error) {
	args := []string{"test", "-count=1", "-vet=off", "-short", "-failfast", "-timeout", t.timeout.String()}
	args = append(args, "-exec", fmt.Sprintf(`sh -c 'ulimit -v %d; exec "$0" "$@"'`, maxMemory))
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	args = append(args, "./"+dir)
	pkg, err := build.ImportDir(filepath.Join(t.root, filepath.FromSlash(dir)), 0)
	if err != nil {
		return nil, fmt.Errorf("test %s: %w", dir, err)
	}
	if slices.Contains(slices.Concat(pkg.TestImports, pkg.XTestImports), "pgregory.net/rapid") {
		// The same cases each time, nothing written into the tree, and no search
		// for the smallest one that fails.
		args = append(args, "-rapid.seed=1", "-rapid.nofailfile", "-rapid.shrinktime=0s")
	}
	return args, nil
}

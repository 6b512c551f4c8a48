package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// workshop is a page of one source, and a node and an npm that only note what
// they are asked for.
type workshop struct {
	builder
	progress *bytes.Buffer
	calls    string // file: what node and npm were asked for
}

func newWorkshop(t *testing.T) workshop {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the stand-ins for node and npm are shell scripts")
	}
	root := t.TempDir()
	w := workshop{progress: &bytes.Buffer{}, calls: filepath.Join(root, "calls")}
	w.builder = builder{
		web: filepath.Join(root, "cmd", "demo", "web"), stderr: w.progress, node: filepath.Join(root, "node"), npm: filepath.Join(root, "npm"),
	}
	w.write(t, "src/app.ts", "1")
	w.write(t, "package-lock.json", "{}")
	w.write(t, "../../../broker/client/client.js", "1")
	w.program(t, w.node, `[ "$1" = --version ] && echo v22.12.0 && exit; echo vite >>`+w.calls+`; mkdir -p "$4"; echo page >"$4/index.html"`)
	w.program(t, w.npm, `echo npm "$1" >>`+w.calls+`; mkdir -p node_modules; echo "added 96 packages"`)
	return w
}

func (w workshop) write(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join(w.web, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (w workshop) program(t *testing.T, file, script string) {
	t.Helper()
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}

// built runs the build and returns what it called.
func (w workshop) built(t *testing.T) string {
	t.Helper()
	dist, err := w.build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(dist, "index.html")); err != nil || string(text) != "page\n" {
		t.Errorf("%q, %v", text, err)
	}
	calls, err := os.ReadFile(w.calls)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	_ = os.Remove(w.calls)
	return strings.ReplaceAll(strings.TrimSpace(string(calls)), "\n", ", ")
}

func TestThePageIsBuiltOnceAndAgainWhenItsSourcesChange(t *testing.T) {
	w := newWorkshop(t)
	for _, step := range []struct{ name, change, text, want string }{
		{"first", "", "", "npm ci, vite"},
		{"again", "", "", ""},
		{"a source", "src/app.ts", "2", "vite"},
		{"a source more", "src/more.ts", "", "vite"},
		{"the helper", "../../../broker/client/client.js", "2", "vite"},
		{"what is only for tests", "e2e/x.test.mjs", "2", ""},
		{"a package", "package-lock.json", `{"x":1}`, "npm ci, vite"},
		{"again", "", "", ""},
	} {
		if step.change != "" {
			w.write(t, step.change, step.text)
		}
		if got := w.built(t); got != step.want {
			t.Errorf("%s: %q, want %q", step.name, got, step.want)
		}
	}
	for _, want := range []string{"step 1 of 2: npm ci", "added 96 packages", "step 2 of 2: vite build", "the page is built"} {
		if !strings.Contains(w.progress.String(), want) {
			t.Errorf("the progress lacks %q: %s", want, w.progress)
		}
	}
	// What was built needs no Node any more.
	w.node, w.npm = "no-node", "no-npm"
	w.built(t)
}

func TestWhatIsMissingForThePageIsSaid(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(t *testing.T, w *workshop)
		says   string
	}{
		"no node":    {func(_ *testing.T, w *workshop) { w.node = "no-node" }, "needs Node.js"},
		"no npm":     {func(_ *testing.T, w *workshop) { w.npm = "no-npm" }, "needs npm"},
		"an old one": {func(t *testing.T, w *workshop) { w.program(t, w.node, "echo v18.20.4") }, "this is v18.20.4"},
	} {
		w := newWorkshop(t)
		tc.change(t, &w)
		_, err := w.build(t.Context())
		if err == nil {
			t.Errorf("%s: it is built", name)
			continue
		}
		for _, want := range []string{tc.says, "https://nodejs.org", "apt-get install nodejs npm", "go run ./cmd/demo --headless"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v lacks %q", name, err, want)
			}
		}
	}
}

func TestABuildThatFailsLeavesWhatWasThere(t *testing.T) {
	w := newWorkshop(t)
	w.built(t)
	w.program(t, w.node, `[ "$1" = --version ] && echo v22.12.0 && exit; mkdir -p "$4"; exit 1`)
	w.write(t, "src/app.ts", "2")
	if _, err := w.build(t.Context()); err == nil || !strings.Contains(err.Error(), "build the page") {
		t.Errorf("got %v", err)
	}
	left, err := filepath.Glob(filepath.Join(w.web, "dist*"))
	if err != nil || len(left) != 1 {
		t.Errorf("left: %q, %v", left, err)
	}
	w.program(t, w.npm, "exit 1")
	w.write(t, "package-lock.json", "2")
	if _, err := w.build(t.Context()); !errors.Is(err, errInstall) || !strings.Contains(err.Error(), "registry") {
		t.Errorf("got %v", err)
	}
}

func TestWhichNodeIsNewEnough(t *testing.T) {
	for version, want := range map[string]bool{
		"v20.19.0": true, "v20.20.2": true, "v22.12.0": true, "v23.0.0": true, "v26.1.0": true,
		"v18.20.4": false, "v20.18.9": false, "v21.7.3": false, "v22.11.0": false, "": false, "v22": false, "vx.y.z": false,
	} {
		if got := newEnough(version); got != want {
			t.Errorf("%q: %t", version, got)
		}
	}
}

func TestTheSourcesAreFoundFromAnywhereInTheRepository(t *testing.T) {
	want, err := filepath.Abs("web")
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{".", "web/src", "../..", t.TempDir()} { // the last by where this was compiled
		t.Chdir(folder)
		if got, err := findSources(); err != nil || got != want {
			t.Errorf("from %s: %s, %v", folder, got, err)
		}
	}
}

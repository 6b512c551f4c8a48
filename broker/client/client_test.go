package client_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"credential-broker/broker/client"
)

const (
	// patience is some ten times what any of the tools takes.
	patience = 3 * time.Minute
	// maxMinified and maxCompressed bound what a page pays for the helper, as a
	// bundler and a web server deliver it: 2 kB on the wire.
	maxMinified   = 3840
	maxCompressed = 2048
)

func read(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestWhatIsServedIsTheFile(t *testing.T) {
	want := read(t, "client.js")
	got := client.JS()
	if string(got) != want || want == "" {
		t.Errorf("%d bytes, the file has %d", len(got), len(want))
	}
	clear(got)
	if string(client.JS()) != want {
		t.Error("what a caller does to its copy changes the next one")
	}
}

func TestThePackageIsWholeAndNeedsNoOther(t *testing.T) {
	var p struct {
		Name, Type, License, Types            string
		SideEffects                           *bool
		Exports                               map[string]json.RawMessage
		Files                                 []string
		Dependencies, PeerDependencies        map[string]string
		OptionalDependencies, DevDependencies map[string]string
		Scripts                               map[string]string
	}
	if err := json.Unmarshal([]byte(read(t, "package.json")), &p); err != nil {
		t.Fatal(err)
	}
	if p.Name != "credential-broker-client" || p.Type != "module" || p.License != "Apache-2.0" || p.SideEffects == nil || *p.SideEffects {
		t.Errorf("%+v", p)
	}
	if len(p.Dependencies)+len(p.PeerDependencies)+len(p.OptionalDependencies) != 0 {
		t.Errorf("it needs %v %v %v", p.Dependencies, p.PeerDependencies, p.OptionalDependencies)
	}
	var entry struct{ Types, Default string }
	if err := json.Unmarshal(p.Exports["."], &entry); err != nil {
		t.Fatal(err)
	}
	if entry.Types != "./client.d.ts" || entry.Default != "./client.js" || p.Types != entry.Types {
		t.Errorf("exports %+v", entry)
	}
	want := []string{"client.js", "client.d.ts", "README.md"}
	if !slices.Equal(p.Files, want) {
		t.Errorf("files %v, want %v", p.Files, want)
	}
	for _, name := range want {
		if _, err := os.Stat(name); err != nil {
			t.Error(err)
		}
	}
	for name, version := range p.DevDependencies {
		if !regexp.MustCompile(`^\d+\.\d+\.\d+$`).MatchString(version) {
			t.Errorf("%s is not pinned: %s", name, version)
		}
	}
	for name := range p.Scripts {
		if name != "test" && name != "types" {
			t.Errorf("the script %s would run on installation, or builds something", name)
		}
	}
}

// Secrets are in memory alone: the helper knows none of the places where a page
// can leave them. Comments are left out; they may name what is not done.
func TestTheHelperLeavesNothingBehind(t *testing.T) {
	code := regexp.MustCompile(`/\*(?s:.*?)\*/|(?m:(^|\s)//.*$)`).ReplaceAllString(read(t, "client.js"), "")
	if !strings.Contains(code, "export function brokerCredentials") {
		t.Fatal("there is no code left")
	}
	for _, place := range []string{
		"console", "localStorage", "sessionStorage", "indexedDB", "document", "caches", "cookie", "window", "history", "postMessage",
		"BroadcastChannel", "sendBeacon", "WebSocket", "import(", "import ", "eval", "Function(",
	} {
		if strings.Contains(code, place) {
			t.Errorf("the helper uses %s", place)
		}
	}
}

// tool runs Node.js on what `make client` has installed. Where that is not there
// the test is skipped; with CI=true in the environment it fails instead, so that
// a green run means that the helper was tried.
func tool(t *testing.T, args ...string) []byte {
	t.Helper()
	node, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat(filepath.Join("node_modules", ".package-lock.json"))
	}
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatalf("what tries the browser helper is not here; `make client` installs it: %v", err)
	}
	if err != nil {
		t.Skip("what tries the browser helper is not here; `make client` installs it, for Node.js")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out, log bytes.Buffer
	cmd := exec.CommandContext(ctx, node, args...)
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		t.Fatalf("node %s: %v\n%s%s", strings.Join(args, " "), err, &out, &log)
	}
	return out.Bytes()
}

func TestEachRuleOfTheHelperIsHeld(t *testing.T) {
	out := tool(t, "--test", "--test-reporter=tap")
	pass := regexp.MustCompile(`(?m)^# pass (\d+)$`).FindSubmatch(out)
	if pass == nil || string(pass[1]) == "0" {
		t.Fatalf("nothing was tried:\n%s", out)
	}
	if skipped := regexp.MustCompile(`(?m)^# (skipped|todo) 0$`).FindAll(out, -1); len(skipped) != 2 {
		t.Errorf("not all was tried:\n%s", out)
	}
	t.Logf("%s tests", pass[1])
}

func TestTheTypesAreWhatTheLibrariesTake(t *testing.T) {
	tsc := filepath.Join("node_modules", "typescript", "bin", "tsc")
	tool(t, tsc)
	// By itself as well, since the libraries' own files are not checked above, and
	// ours is of their kind.
	tool(t, tsc, "--ignoreConfig", "--strict", "--noEmit", "--target", "es2022", "--types", "", "client.d.ts")
}

func TestTheHelperIsSmall(t *testing.T) {
	minified := tool(t, "--input-type=module", "--eval", `
		import { readFileSync } from "node:fs"
		import { transformSync } from "esbuild"
		process.stdout.write(transformSync(readFileSync("client.js"), { minify: true, format: "esm", target: "es2022" }).code)`)
	var wire bytes.Buffer
	w, _ := gzip.NewWriterLevel(&wire, gzip.BestCompression)
	if _, err := w.Write(minified); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes minified, %d compressed", len(minified), wire.Len())
	if len(minified) < 1000 || len(minified) > maxMinified || wire.Len() > maxCompressed {
		t.Errorf("%d bytes minified and %d compressed, at most %d and %d", len(minified), wire.Len(), maxMinified, maxCompressed)
	}
}

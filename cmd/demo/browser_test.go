package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"credential-broker/broker/brokertest"
)

// browserTools finds what the page's own tests need, or skips; in CI nothing is skipped.
func browserTools(t *testing.T) (chromium string) {
	t.Helper()
	missing := ""
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing = tool
		}
	}
	for _, name := range []string{os.Getenv("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			chromium = path
			break
		}
	}
	if chromium == "" {
		missing = "chromium (apt-get install chromium, or name one in CHROMIUM)"
	}
	switch {
	case missing == "":
	case os.Getenv("CI") == "true":
		t.Fatalf("the page is not tested without %s; .ci/run installs it", missing)
	default:
		t.Skipf("the page is not tested: there is no %s", missing)
	}
	return chromium
}

// outage takes the broker of a story away and brings it back, under the same address.
type outage struct {
	*story
	mu sync.Mutex
}

func (o *outage) stop(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stopBroker()
	for ctx.Err() == nil {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", strings.TrimPrefix(o.Broker, "http://"))
		if err != nil {
			return nil // nobody listens
		}
		_ = c.Close()
		select { // the service says to nobody that it has let go of its port
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return context.Cause(ctx)
}

func (o *outage) start(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	l, err := brokertest.Listen(ctx, strings.TrimPrefix(o.Broker, "http://"))
	if err != nil {
		return err
	}
	return o.startBroker(context.WithoutCancel(ctx), l, options{log: io.Discard})
}

// ServeHTTP is what the tests in the browser call: POST /broker/stop and /broker/start.
func (o *outage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	err := errors.New("unknown: " + r.URL.Path)
	switch r.URL.Path {
	case "/broker/stop":
		err = o.stop(r.Context())
	case "/broker/start":
		err = o.start(r.Context())
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// The page in a real browser, against the real parts: cmd/demo/web/e2e says what.
// Screenshots go to $SHOTS, or else below the system's folder for what is
// temporary: CI keeps them.
func TestThePageInABrowser(t *testing.T) {
	if testing.Short() && os.Getenv("CI") != "true" {
		t.Skip("the page takes minutes in a browser: without -short")
	}
	chromium := browserTools(t)
	dist, err := buildPage(t.Context(), t.Output())
	if errors.Is(err, errInstall) && os.Getenv("CI") != "true" {
		t.Skipf("the page is not tested: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	web := filepath.Dir(dist)
	if out, err := command(t, web, "node", filepath.Join("node_modules", "typescript", "bin", "tsc")).CombinedOutput(); err != nil {
		t.Errorf("the page's types: %v\n%s", err, out)
	}
	long, short := withPage(t, dist, 0), &outage{story: withPage(t, dist, 12*time.Second)}
	t.Cleanup(func() { short.stopBroker() })
	control := httptest.NewServer(short)
	t.Cleanup(control.Close)

	shots := os.Getenv("SHOTS")
	if shots == "" {
		shots = filepath.Join(os.TempDir(), "credential-broker-screenshots")
	}
	tests, err := filepath.Glob(filepath.Join(web, "e2e", "*.test.mjs"))
	if err != nil || len(tests) < 3 {
		t.Fatalf("%d tests, %v", len(tests), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 9*time.Minute) // takes one or two; a machine may be busy, and go test waits for ten
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", append([]string{"--test", "--test-reporter=spec", "--test-concurrency=2"}, tests...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = web, t.Output(), t.Output()
	cmd.Env = append(os.Environ(), "STORY="+asJSON(t, long), "SHORT="+asJSON(t, short.story), "CONTROL="+control.URL, "CHROMIUM="+chromium, "SHOTS="+shots)
	if err := cmd.Run(); err != nil {
		t.Errorf("the tests in the browser: %v", err)
	}
	t.Logf("screenshots: %s", shots)
}

func command(t *testing.T, dir, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	return cmd
}

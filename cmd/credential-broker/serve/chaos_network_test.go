package serve_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"credential-broker/broker/brokertest"
)

// toxiproxyFile is what `make peers` builds.
const toxiproxyFile = "toxiproxy-2.5.0"

// findToxiproxy returns the binary's path, or skips the test and says why; with
// CI=true the test fails instead.
func findToxiproxy(t *testing.T) string {
	t.Helper()
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(home, ".cache")
	}
	path := filepath.Join(cache, "credential-broker", "peers", toxiproxyFile)
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("toxiproxy is not here; `make peers` builds it")
		}
		t.Skip("toxiproxy is not here; `make peers` builds it")
	}
	return path
}

// upstream is a server on one address, which can be away for a while.
type upstream struct {
	handler http.Handler
	address string // with any free port, until it has been up once

	mu   sync.Mutex // guards what follows
	down context.CancelFunc
	done chan struct{}
}

// up listens. Its port may have gone to somebody else's connection meanwhile, which
// does not last.
func (u *upstream) up(ctx context.Context) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	var l net.Listener
	err := eventually(ctx, func() (err error) {
		l, err = brokertest.Listen(ctx, u.address)
		return err
	})
	if err != nil {
		return err
	}
	u.address = l.Addr().String()
	ctx, u.down = context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	u.done = done
	go func() {
		defer close(done)
		_ = brokertest.Serve(ctx, l, u.handler)
	}()
	return nil
}

// away closes the port and cuts every connection.
func (u *upstream) away() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.down()
	<-u.done
}

// eventually tries until it works or ctx ends. It waits in real time, since what
// it waits for are other processes and the kernel.
func eventually(ctx context.Context, try func() error) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("%w, at last: %w", ctx.Err(), err)
		}
	}
}

// link is a connection that can be disturbed: whoever dials listen is passed on.
type link struct {
	Name     string `json:"name"`
	Listen   string `json:"listen"`
	Upstream string `json:"upstream"`
}

// network is toxiproxy, as a process of its own: what it leaves behind is not
// counted, and when it is stuck it can be killed.
type network struct {
	binary string
	client *http.Client
	api    string
	links  []*link
	toxics []string // paths of those that are in force

	process *exec.Cmd
	stdin   io.Closer // once it is closed, the process ends
	killed  int       // times that it was stuck, or gone
}

// together runs a program that ends with its parent: at the latest when the parent's
// end of a pipe is closed, however that came about.
const together = `"$0" "$@" & child=$!; read -r _; kill -9 $child; wait $child 2>/dev/null; exit 0`

// start runs the process and opens every link.
func (n *network) start(ctx context.Context) error {
	l, err := brokertest.Listen(ctx, "127.0.0.1:0")
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(l.Addr().String())
	if err := errors.Join(err, l.Close()); err != nil { // free, as far as can be known
		return err
	}
	n.api = "http://" + net.JoinHostPort(host, port)
	n.process = exec.Command("sh", "-c", together, n.binary, "-host", host, "-port", port)
	n.process.Env = []string{"LOG_LEVEL=fatal", "PATH=" + os.Getenv("PATH")}
	if n.stdin, err = n.process.StdinPipe(); err != nil {
		return err
	}
	if err := n.process.Start(); err != nil {
		return err
	}
	if err := eventually(ctx, func() error { return n.call(ctx, http.MethodGet, "/version", nil, nil) }); err != nil {
		return err
	}
	for _, l := range n.links {
		if err := eventually(ctx, func() error { return n.call(ctx, http.MethodPost, "/proxies", l, l) }); err != nil {
			return fmt.Errorf("open link %s: %w", l.Name, err)
		}
	}
	return nil
}

// stop ends the process and, with it, every connection.
func (n *network) stop() error {
	n.client.CloseIdleConnections()
	n.toxics = nil
	return errors.Join(n.stdin.Close(), n.process.Wait())
}

// call asks the process. It locks up, or ends, when a connection that it disturbs is
// closed at the wrong moment, so that its answer is not waited for long.
func (n *network) call(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, method, n.api+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	response, err := n.client.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %d %s", method, path, response.StatusCode, answer)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}

// toxic is what is done to a part of the connections of a link, to those that are
// open already too.
type toxic struct {
	Type       string           `json:"type"`
	Stream     string           `json:"stream"` // "upstream" is what the dialler sends
	Toxicity   float64          `json:"toxicity"`
	Attributes map[string]int64 `json:"attributes"`
}

// disturb puts toxics into force.
func (n *network) disturb(ctx context.Context, name string, toxics ...toxic) error {
	for _, t := range toxics {
		path := "/proxies/" + name + "/toxics"
		if err := n.call(ctx, http.MethodPost, path, t, nil); err != nil {
			return n.revive(ctx, err)
		}
		n.toxics = append(n.toxics, path+"/"+t.Type+"_"+t.Stream)
	}
	return nil
}

// calm takes all of them away.
func (n *network) calm(ctx context.Context) error {
	for _, path := range n.toxics {
		if err := n.call(ctx, http.MethodDelete, path, nil, nil); err != nil {
			return n.revive(ctx, err)
		}
	}
	n.toxics = nil
	return nil
}

// revive starts another process, on the same addresses, where the one that there is
// locks up or has ended. To the broker the whole network has failed for a moment.
func (n *network) revive(ctx context.Context, why error) error {
	if ctx.Err() != nil {
		return why
	}
	n.killed++
	return errors.Join(n.stop(), n.start(ctx))
}

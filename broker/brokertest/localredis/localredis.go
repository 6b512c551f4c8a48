// Package localredis runs Debian's redis-server on loopback for tests.
package localredis

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Server is a Redis that runs, or can again, at one address.
type Server struct {
	Port int

	t    testing.TB
	name string
	args []string

	mu  sync.Mutex
	cmd *exec.Cmd
}

// Need skips a test where there is no Redis, and fails it where there must be one.
func Need(t testing.TB) {
	t.Helper()
	for _, name := range []string{"redis-server", "redis-cli", "redis-sentinel"} {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%v: apt-get install redis-server redis-sentinel", err)
			}
			t.Skipf("%v: apt-get install redis-server redis-sentinel", err)
		}
	}
}

// Start starts a Redis that keeps nothing on disk; what else it should do is said as
// on its command line.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	return start(t, "redis-server", append([]string{"--save", "", "--appendonly", "no"}, args...))
}

// StartSentinel starts a sentinel with a configuration file's lines.
func StartSentinel(t testing.TB, lines ...string) *Server {
	t.Helper()
	file := t.TempDir() + "/sentinel.conf"
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return start(t, "redis-sentinel", []string{file})
}

func start(t testing.TB, name string, args []string) *Server {
	t.Helper()
	Need(t)
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, name: name, Port: l.Addr().(*net.TCPAddr).Port}
	_ = l.Close()
	s.args = append(args, "--port", strconv.Itoa(s.Port), "--bind", "127.0.0.1", "--dir", t.TempDir())
	t.Cleanup(s.Kill)
	s.Again()
	return s
}

// Again starts it once more at the same address, and returns when it takes
// connections.
func (s *Server) Again() {
	s.t.Helper()
	cmd := exec.CommandContext(context.Background(), s.name, s.args...) //nolint:gosec // a test's own
	cmd.SysProcAttr = DieTogether()
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	s.cmd = cmd
	s.mu.Unlock()
	var said strings.Builder
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), "Ready to accept connections") || strings.Contains(lines.Text(), "Sentinel ID is") {
			go func() {
				for lines.Scan() { // or it would stop when the pipe is full
				}
			}()
			return
		}
	}
	s.t.Fatalf("%s did not start:\n%s", s.name, said.String())
}

// Kill ends it as a crash would.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
}

// Stop has it say nothing until Continue, with its connections open.
func (s *Server) Stop() { s.signal(syscall.SIGSTOP) }

// Continue lets it go on.
func (s *Server) Continue() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Error(err)
	}
}

// URL is where it is, with a query such as "?master_set=m".
func (s *Server) URL(query string) string {
	return fmt.Sprintf("redis://127.0.0.1:%d/%s", s.Port, query)
}

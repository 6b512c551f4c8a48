package localredis

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"testing"
)

// Wire stands between somebody and a Server. It can be cut, which both ends see, and
// held, which nobody sees: what is sent does not come, until it does.
type Wire struct {
	listener net.Listener
	to       string

	mu     sync.Mutex
	cut    bool
	open   chan struct{} // closed while what is sent comes
	conns  []net.Conn
	copies sync.WaitGroup
}

// Wire returns one to the server. It is gone when the test ends.
func (s *Server) Wire(t testing.TB) *Wire {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &Wire{listener: l, to: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)), open: make(chan struct{})}
	close(w.open)
	w.copies.Go(w.accept)
	t.Cleanup(func() {
		_ = l.Close()
		w.Mend()
		w.Cut()
		w.copies.Wait()
	})
	return w
}

func (w *Wire) accept() {
	for {
		in, err := w.listener.Accept()
		if err != nil {
			return
		}
		w.copies.Go(func() { w.connect(in) })
	}
}

func (w *Wire) connect(in net.Conn) {
	out, err := new(net.Dialer).DialContext(context.Background(), "tcp", w.to)
	if err != nil {
		_ = in.Close()
		return
	}
	w.mu.Lock()
	if w.cut {
		w.mu.Unlock()
		_, _ = in.Close(), out.Close()
		return
	}
	w.conns = append(w.conns, in, out)
	w.mu.Unlock()
	w.copies.Go(func() { w.copy(in, out) })
	w.copy(out, in)
}

func (w *Wire) copy(to, from net.Conn) {
	defer func() { _ = to.Close() }()
	var buffer [32 << 10]byte
	for {
		n, err := from.Read(buffer[:])
		w.mu.Lock()
		open := w.open
		w.mu.Unlock()
		<-open
		if _, failed := to.Write(buffer[:n]); failed != nil || err != nil {
			_ = from.Close()
			return
		}
	}
}

// Cut ends all connections, and new ones at once, until Mend.
func (w *Wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = true
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.conns = nil
}

// Hold keeps what is sent, in both directions, until Mend.
func (w *Wire) Hold() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.open:
		w.open = make(chan struct{})
	default:
	}
}

// Mend ends what Cut or Hold began.
func (w *Wire) Mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = false
	select {
	case <-w.open:
	default:
		close(w.open)
	}
}

// URL is where it begins.
func (w *Wire) URL() string { return fmt.Sprintf("redis://%s/", w.listener.Addr()) }

package httpapi_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"credential-broker/broker/httpapi"
)

// pipes is a network in a bubble of time: a listener whose connections are pipes.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// dial returns a connection, or nil if nobody takes it within a second.
func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client
	case <-time.After(time.Second):
		return nil
	}
}

// inServer runs a test with the API behind its server, in a bubble of time.
func inServer(t *testing.T, test func(*testing.T, *harness, *pipes)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h, p := newHarness(t, nil), newPipes()
		server := httpapi.NewServer(h.api.Handler(), slog.New(slog.DiscardHandler))
		done := make(chan error, 1)
		go func() { done <- server.Serve(httpapi.Limit(p)) }()
		test(t, h, p)
		_ = server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		<-time.After(time.Second) // net/http lets a connection that it has refused linger
	})
}

// send writes a piece every so often until the other side has had enough, and
// returns the status of its answer, 0 for none, and how long that took.
func send(c net.Conn, pieces func(int) string, every time.Duration) (int, time.Duration) {
	began := time.Now()
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		for i := 0; ctx.Err() == nil; i++ {
			if _, err := io.WriteString(c, pieces(i)); err != nil {
				return
			}
			select {
			case <-time.After(every):
			case <-ctx.Done():
			}
		}
	}()
	defer func() { stop(); _ = c.Close() }()
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, time.Since(began)
	}
	defer response.Body.Close()
	return response.StatusCode, time.Since(began)
}

const head = "POST /v1/credentials HTTP/1.1\r\nHost: broker\r\nAuthorization: Bearer " + token + "\r\n"

// Threat case DS14, the slow ones.
func TestNobodyHoldsAConnectionByBeingSlow(t *testing.T) {
	inServer(t, func(t *testing.T, h *harness, p *pipes) {
		status, took := send(p.dial(), func(i int) string {
			if i == 0 {
				return head
			}
			return "X: y\r\n"
		}, time.Second)
		if took != 5*time.Second || status == http.StatusOK || h.calls != 0 {
			t.Errorf("slow headers: %d after %s", status, took)
		}
		status, took = send(p.dial(), func(i int) string {
			if i == 0 {
				return head + "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n"
			}
			return " "
		}, time.Second)
		if took != 10*time.Second || status == http.StatusOK || h.calls != 0 {
			t.Errorf("a slow body: %d after %s", status, took)
		}
		idle := p.dial()
		began := time.Now()
		if _, err := io.WriteString(idle, "GET /healthz HTTP/1.1\r\nHost: broker\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(idle)
		if response, err := http.ReadResponse(in, nil); err != nil || response.StatusCode != 200 {
			t.Fatalf("%v, %v", response, err)
		} else if _, err := io.Copy(io.Discard, response.Body); err != nil {
			t.Fatal(err)
		}
		if _, err := in.ReadByte(); err == nil || time.Since(began) != 60*time.Second {
			t.Errorf("an idle connection: %v after %s", err, time.Since(began))
		}
	})
}

// Threat case DS14, the many.
func TestConnectionsAreBounded(t *testing.T) {
	inServer(t, func(t *testing.T, _ *harness, p *pipes) {
		var held []net.Conn
		for range 4096 {
			c := p.dial()
			if c == nil {
				t.Fatalf("%d connections, and no more", len(held))
			}
			held = append(held, c)
		}
		if p.dial() != nil {
			t.Fatal("one more than the bound")
		}
		_ = held[0].Close()
		synctest.Wait()
		c := p.dial()
		if c == nil {
			t.Fatal("a place that is free again is not given")
		}
		for _, c := range append(held, c) {
			_ = c.Close()
		}
	})
}

// Threat case DS16.
func TestALongHeaderIsRefusedBeforeItIsHeld(t *testing.T) {
	inServer(t, func(t *testing.T, h *harness, p *pipes) {
		long := "GET /v1/credentials HTTP/1.1\r\nHost: broker\r\nAuthorization: " + strings.Repeat("Bearer ", 1<<20/7) + "\r\n\r\n"
		var read atomic.Int64
		status, _ := send(p.dial(), func(i int) string {
			piece := long[min(len(long), i<<10):min(len(long), (i+1)<<10)]
			read.Add(int64(len(piece)))
			return piece
		}, 0)
		if status != http.StatusRequestHeaderFieldsTooLarge || h.calls != 0 || read.Load() > 64<<10 {
			t.Errorf("%d after %d bytes", status, read.Load())
		}
		status, _ = send(p.dial(), func(i int) string {
			return map[int]string{0: head + "X-Long: " + strings.Repeat("x", 30<<10) + "\r\nContent-Length: 0\r\n\r\n"}[i]
		}, time.Second)
		if status != http.StatusOK {
			t.Errorf("a header of 30 kB: %d", status)
		}
	})
}

// Threat case DS15: there are no streams to reset.
func TestHTTP2IsNotSpoken(t *testing.T) {
	inServer(t, func(t *testing.T, h *harness, p *pipes) {
		for name, preface := range map[string]string{
			"by prior knowledge": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
			"by upgrade":         "GET /healthz HTTP/1.1\r\nHost: broker\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
		} {
			status, _ := send(p.dial(), func(i int) string { return map[int]string{0: preface}[i] }, time.Second)
			if status == http.StatusSwitchingProtocols || status == 0 {
				t.Errorf("%s: %d", name, status)
			}
		}
		if s := httpapi.NewServer(h.api.Handler(), slog.Default()); s.Protocols == nil || s.Protocols.String() != "{HTTP1}" {
			t.Errorf("speaks %v", fmt.Sprint(s.Protocols))
		}
	})
}

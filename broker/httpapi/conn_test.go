package httpapi_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"credential-broker/broker/httpapi"
)

// step is one thing that happens to a connection, some time after the last.
type step struct {
	after time.Duration
	what  string        // read, write, feed, drain or leave (the other side), or a deadline: in, out, both
	until time.Duration // of a deadline: from now on; 0: none, below: it has passed
}

func (s step) String() string { return fmt.Sprintf("%s %s %s", s.after, s.what, s.until) }

// story plays the steps and returns what came of each read and write, and when.
func story(t *testing.T, steps []step, make func(net.Conn) net.Conn) string {
	t.Helper()
	var in, out []string
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		c := make(near)
		began := time.Now()
		reads, writes := newQueue(), newQueue() // one of each at a time, as net/http has it
		feed, drain := newQueue(), newQueue()
		said := func(what string, n int, err error) string {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				err = os.ErrDeadlineExceeded
			}
			if errors.Is(err, io.ErrClosedPipe) { // a pipe's deadlines fail when the other side has left
				err = io.EOF
			}
			return fmt.Sprintf("%s %d %v after %s\n", what, n, err, time.Since(began))
		}
		for _, s := range steps {
			<-time.After(s.after)
			var at time.Time
			if s.until != 0 {
				at = time.Now().Add(s.until)
			}
			var err error
			switch s.what {
			case "read":
				reads.put(func() {
					n, err := c.Read(two())
					in = append(in, said("read", n, err))
				})
			case "write":
				writes.put(func() {
					n, err := c.Write([]byte("abc"))
					out = append(out, said("write", n, err))
				})
			case "feed":
				feed.put(func() { _, _ = far.Write([]byte("x")) })
			case "drain":
				drain.put(func() { _, _ = io.ReadFull(far, two()) })
			case "leave":
				err = far.Close()
			case "in":
				err = c.SetReadDeadline(at)
			case "out":
				err = c.SetWriteDeadline(at)
			default:
				err = c.SetDeadline(at)
			}
			if err != nil && !errors.Is(err, io.ErrClosedPipe) {
				t.Error(err)
			}
			synctest.Wait()
		}
		<-time.After(time.Hour)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		for _, q := range []*queue{reads, writes, feed, drain} {
			q.end()
		}
	})
	return strings.Join(slices.Concat(in, out), "")
}

func two() []byte { return make([]byte, 2) }

// queue does one thing after another.
type queue struct {
	todo  chan func()
	ended chan struct{}
}

func newQueue() *queue {
	q := &queue{make(chan func(), 1000), make(chan struct{})}
	go func() {
		defer close(q.ended)
		for f := range q.todo {
			f()
		}
	}()
	return q
}

func (q *queue) put(f func()) { q.todo <- f }

func (q *queue) end() {
	close(q.todo)
	<-q.ended
}

func same(c net.Conn) net.Conn { return c }

// What is waited for ends when it would with deadlines that are set at once, whatever
// happens in what order.
func TestPatientDeadlinesAreMet(t *testing.T) {
	const s = time.Second
	for name, steps := range map[string][]step{
		"near":                          {{0, "in", 3 * s}, {0, "read", 0}},
		"far":                           {{0, "in", 33 * s}, {0, "read", 0}},
		"none":                          {{0, "read", 0}},
		"passed":                        {{0, "in", -s}, {0, "read", 0}, {s, "in", 0}, {0, "feed", 0}, {0, "read", 0}},
		"passed before it is waited":    {{0, "in", s}, {2 * s, "read", 0}},
		"passed, once known":            {{0, "in", 2 * s}, {0, "feed", 0}, {0, "read", 0}, {3 * s, "read", 0}},
		"later, while it is waited":     {{0, "in", 3 * s}, {0, "read", 0}, {s, "in", 33 * s}},
		"sooner, while it is waited":    {{0, "in", 33 * s}, {0, "read", 0}, {s, "in", 3 * s}},
		"now, while it is waited":       {{0, "in", 33 * s}, {0, "read", 0}, {s, "in", -s}, {s, "in", 0}, {0, "feed", 0}, {0, "read", 0}},
		"now, where there was none":     {{0, "read", 0}, {s, "in", -s}, {s, "in", 0}, {0, "feed", 0}, {0, "read", 0}},
		"withdrawn, while it is waited": {{0, "in", 3 * s}, {0, "read", 0}, {s, "in", 0}, {9 * s, "feed", 0}},
		"withdrawn after it was met":    {{0, "in", s}, {0, "read", 0}, {2 * s, "in", 0}, {0, "read", 0}, {9 * s, "feed", 0}},
		"moved after it was met":        {{0, "in", s}, {0, "read", 0}, {2 * s, "in", 9 * s}, {0, "read", 0}},
		"of a write":                    {{0, "out", 9 * s}, {0, "write", 0}},
		"of a write, in its middle":     {{0, "out", 9 * s}, {0, "write", 0}, {s, "drain", 0}},
		"of a write, when it is moved":  {{0, "out", 3 * s}, {0, "write", 0}, {s, "drain", 0}, {s, "out", 33 * s}, {7 * s, "drain", 0}},
		"of who is left":                {{0, "in", 9 * s}, {0, "out", 9 * s}, {0, "read", 0}, {0, "write", 0}, {s, "leave", 0}, {0, "read", 0}, {0, "write", 0}},
		"of both":                       {{0, "both", 9 * s}, {0, "write", 0}, {0, "read", 0}, {s, "both", 20 * s}},
		"of a read alone":               {{0, "in", 9 * s}, {0, "write", 0}, {0, "read", 0}},
		"of a write alone":              {{0, "out", 9 * s}, {0, "write", 0}, {0, "read", 0}},
	} {
		if got, want := story(t, steps, httpapi.Patient), story(t, steps, same); got != want {
			t.Errorf("%s: got\n%swant\n%s", name, got, want)
		}
	}
}

func TestPatientDeadlinesAreMetInAnyOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := make([]step, rapid.IntRange(1, 30).Draw(rt, "steps"))
		for i := range steps {
			// Deadlines are of odd milliseconds, so that nothing else happens at the same time.
			steps[i] = step{
				after: 2 * time.Millisecond * time.Duration(rapid.SampledFrom([]int{0, 1, 500, 2000, 5000}).Draw(rt, "after")),
				what:  rapid.SampledFrom([]string{"read", "write", "feed", "drain", "in", "in", "out", "out", "both"}).Draw(rt, "what"),
				until: time.Millisecond * time.Duration(rapid.SampledFrom([]int{0, -1, 1, 999, 4999, 5001, 9999, 60001}).Draw(rt, "until")),
			}
		}
		if got, want := story(t, steps, httpapi.Patient), story(t, steps, same); got != want {
			rt.Fatalf("%v:\ngot\n%swant\n%s", steps, got, want)
		}
	})
}

// telling counts the deadlines that it is told.
type telling struct {
	net.Conn
	told int
}

func (c *telling) SetReadDeadline(t time.Time) error {
	c.told++
	return c.Conn.SetReadDeadline(t)
}

func (c *telling) SetWriteDeadline(t time.Time) error {
	c.told++
	return c.Conn.SetWriteDeadline(t)
}

// What net/http does for each request on a connection tells it nothing but, every five
// seconds, that it is still there.
func TestPatientDeadlinesCostNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		below := &telling{Conn: near}
		c := httpapi.Patient(below)
		set := func(set func(time.Time) error, d time.Duration) {
			var at time.Time
			if d != 0 {
				at = time.Now().Add(d)
			}
			if err := set(at); err != nil {
				t.Fatal(err)
			}
		}
		const requests, seconds = 100, 10
		for range requests {
			set(c.SetReadDeadline, 60*time.Second)
			go far.Write([]byte("x"))
			if n, err := c.Read(two()); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			set(c.SetReadDeadline, 5*time.Second)
			go far.Write([]byte("x"))
			if n, err := c.Read(two()); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			set(c.SetWriteDeadline, 15*time.Second)
			set(c.SetReadDeadline, 10*time.Second)
			set(c.SetReadDeadline, 0)
			set(c.SetReadDeadline, -time.Hour)
			if _, err := c.Read(two()); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
			set(c.SetReadDeadline, 0)
			go io.ReadFull(far, two())
			if _, err := io.Copy(c, bytes.NewReader(two())); err != nil {
				t.Fatal(err)
			}
			set(c.SetWriteDeadline, 0)
			<-time.After(seconds * time.Second / requests)
		}
		if most := 2 * (seconds/5 + 1); below.told > most {
			t.Errorf("told %d times, at most %d in %d seconds", below.told, most, seconds)
		}
	})
}

// fixed says the same at each read.
type fixed struct {
	net.Conn
	n     int
	err   error
	reads int
}

func (c *fixed) Read([]byte) (int, error)        { c.reads++; return c.n, c.err }
func (c *fixed) SetReadDeadline(time.Time) error { return nil }

// What came together with a deadline that was not the one that is wanted is not lost, and
// what is no deadline's doing is not tried again.
func TestPatientConnectionsSayWhatIsSaid(t *testing.T) {
	for _, tc := range []struct {
		n         int
		err, want error
	}{{1, os.ErrDeadlineExceeded, nil}, {0, io.EOF, io.EOF}, {1, io.EOF, io.EOF}} {
		below := &fixed{n: tc.n, err: tc.err}
		if n, err := httpapi.Patient(below).Read(two()); n != tc.n || !errors.Is(err, tc.want) || below.reads != 1 {
			t.Errorf("%d, %v: read %d, %v in %d reads", tc.n, tc.err, n, err, below.reads)
		}
	}
}

// Nor is it told of a deadline that is moved away while it is waited for.
func TestPatientDeadlinesThatAreMovedAwayCostNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		below := &telling{Conn: near}
		c := httpapi.Patient(below)
		if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() {
			_, err := c.Read(two())
			done <- err
		}()
		synctest.Wait() // it waits
		for _, at := range []time.Time{time.Now().Add(2 * time.Second), {}} {
			if err := c.SetReadDeadline(at); err != nil {
				t.Error(err)
			}
		}
		if below.told != 1 {
			t.Errorf("told %d times", below.told)
		}
		if _, err := far.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

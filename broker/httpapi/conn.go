package httpapi

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// patient is a connection whose deadlines cost nothing as long as they are not met.
// net/http moves a connection's eight times for each request, which is a twentieth of
// what a hit costs. Here a deadline is a note, that the connection below is told of only
// where its own is later: where that is earlier, it goes off in vain some time, and is
// set anew. What is waited for ends at its deadline, as ever.
type patient struct {
	net.Conn
	in, out deadline
}

func newPatient(c net.Conn) *patient {
	p := &patient{Conn: c}
	p.in.tell, p.out.tell = c.SetReadDeadline, c.SetWriteDeadline
	return p
}

// Read implements net.Conn. A read of one byte is how net/http listens, while a request
// is answered, whether the caller has gone. Most are answered before that would be of
// use to anybody, and so it is put off for a moment, and with it a call to the system
// for each request.
func (p *patient) Read(b []byte) (n int, err error) {
	if len(b) == 1 {
		p.in.linger(moment)
	}
	for again := true; again; {
		if err := p.in.begin(); err != nil {
			return 0, err
		}
		n, err = p.Conn.Read(b)
		again, err = p.in.end(err)
		again = again && n == 0
	}
	return n, err
}

// Write implements net.Conn.
func (p *patient) Write(b []byte) (n int, err error) {
	for again := true; again; {
		if err := p.out.begin(); err != nil {
			return n, err
		}
		var more int
		more, err = p.Conn.Write(b[n:])
		n += more
		again, err = p.out.end(err)
	}
	return n, err
}

// SetDeadline implements net.Conn.
func (p *patient) SetDeadline(t time.Time) error {
	return errors.Join(p.in.set(t), p.out.set(t))
}

// SetReadDeadline implements net.Conn.
func (p *patient) SetReadDeadline(t time.Time) error { return p.in.set(t) }

// SetWriteDeadline implements net.Conn.
func (p *patient) SetWriteDeadline(t time.Time) error { return p.out.set(t) }

// moment is long for a hit and short for whoever asks STS for somebody who has gone.
const moment = 10 * time.Millisecond

// deadline is one of a connection's two.
type deadline struct {
	tell func(time.Time) error // the connection below

	mu    sync.Mutex    // guards what follows
	want  time.Time     // zero: none
	told  time.Time     // what the connection below has; zero: none
	busy  int           // how many reads, or writes, are under way
	moved chan struct{} // capacity 1: tells who lingers; nil: nobody does
	spare chan struct{} // moved, when nobody does
	over  *time.Timer   // of who lingers; nil: nobody did yet
}

// linger waits for a while, or until the deadline is moved. One may linger at a time;
// another goes on at once.
func (d *deadline) linger(while time.Duration) {
	d.mu.Lock()
	if d.moved != nil || !d.want.IsZero() && !time.Now().Before(d.want) {
		d.mu.Unlock()
		return
	}
	if d.over == nil {
		d.over, d.spare = time.NewTimer(while), make(chan struct{}, 1)
	} else {
		d.over.Reset(while)
	}
	d.moved = d.spare
	moved, over := d.moved, d.over
	d.mu.Unlock()
	select {
	case <-moved:
	case <-over.C:
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.moved = nil
	select {
	case <-moved: // at the same moment
	default:
	}
}

// set moves it. Whoever waits under one that is later is told.
func (d *deadline) set(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.want = t
	if d.moved != nil {
		select {
		case d.moved <- struct{}{}:
		default:
		}
	}
	if d.busy > 0 && d.late() {
		return d.arm()
	}
	return nil
}

// late reports whether the connection below would wait for too long.
func (d *deadline) late() bool {
	return !d.want.IsZero() && (d.told.IsZero() || d.want.Before(d.told))
}

// begin is called before it is waited. It returns an error where that would be too late.
func (d *deadline) begin() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.late() {
		if !time.Now().Before(d.want) {
			return os.ErrDeadlineExceeded
		}
		if err := d.arm(); err != nil {
			return err
		}
	}
	d.busy++
	return nil
}

// end is called after it was waited, with what came of it. It reports whether it is to
// be done again, since the deadline was not the one that is wanted.
func (d *deadline) end(err error) (again bool, _ error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.busy--
	if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
		return false, err
	}
	if !d.want.IsZero() && !time.Now().Before(d.want) {
		return false, err
	}
	if told := d.arm(); told != nil {
		return false, told
	}
	return true, nil
}

// arm tells the connection below what is wanted.
func (d *deadline) arm() error {
	d.told = d.want
	return d.tell(d.want)
}

// patience makes a listener's connections patient.
type patience struct{ net.Listener }

// Accept implements net.Listener.
func (p patience) Accept() (net.Conn, error) {
	c, err := p.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newPatient(c), nil
}

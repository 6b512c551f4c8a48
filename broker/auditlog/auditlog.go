// Package auditlog keeps audit records as JSON lines in a file that survives the
// rotation of logs, in a named pipe, or on standard output.
//
// A record is handed to the operating system before its decision is released. One
// goroutine writes, so that a destination that takes nothing more, such as a pipe
// that nobody reads, holds up that one and nobody else: whoever waits for a record
// waits for a bounded time and is then refused. Records that wait together are
// written together.
//
// It is not synced to the disk: a record outlives the process, and not a machine
// that loses its power.
package auditlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"credential-broker/broker"
)

const (
	// defaultWait is how long a record may take. A healthy disk under load takes some
	// tenths of a second at times; botocore waits 2 s for the whole answer.
	defaultWait = time.Second
	// maxWaiting bounds the records that wait, at under 1 kB each. More than that in
	// one second is more than the broker answers.
	maxWaiting = 1024
	// maxBatch bounds what is written at once: a pipe holds 64 KiB on Linux.
	maxBatch = 64
	// retryEvery is how often a destination that failed is tried again.
	retryEvery = time.Second
)

// Config says where the records go: Path or Writer is needed, and not both.
type Config struct {
	Path       string        // a file or a named pipe; a file is made if there is none
	Writer     io.Writer     // used by one goroutine at a time; may block
	Wait       time.Duration // for one record; 0: a second
	Pseudonyms *Pseudonyms   // nil: subjects and addresses as they are
	Log        *slog.Logger  // nil: nowhere
	Observe    func(error)   // told what came of each record; nil: nobody. It must not block
}

// Log keeps records. It is safe for concurrent use.
type Log struct {
	cfg    Config
	to     destination
	queue  chan *entry
	spare  sync.Pool // of *entry: nobody has one of them any more
	room   []*entry  // of run alone: for what it writes
	text   []byte    // likewise
	stop   chan struct{}
	ended  chan struct{} // closed when nothing is written any more
	closed sync.Once
	reopen atomic.Bool

	mu    sync.Mutex // guards what follows
	err   error      // of the last write; nil: it worked, or there was none
	began time.Time  // of the write under way; zero: there is none
	lost  int        // decisions that were refused for want of a record, since the last that tells of them
	since time.Time  // when the first of them was
}

var _ broker.Auditor = (*Log)(nil)

// entry is a record on its way. It is used again for another when run has said what
// came of it, and has so let go of it.
type entry struct {
	line     []byte
	state    atomic.Int32 // waiting, then taken or abandoned, once
	done     chan error   // capacity 1
	patience *time.Timer  // stopped while nobody waits
}

const (
	waiting int32 = iota
	taken
	abandoned
)

// destination is what lines are written to.
type destination interface {
	// Write writes what it can; of a part that it wrote before an error it says how
	// long that is. With again it looks for its file anew first.
	write(p []byte, again bool) (int, error)
	io.Closer
}

// Open opens the destination and begins to write. Close ends it.
func Open(cfg Config) (*Log, error) {
	if (cfg.Path == "") == (cfg.Writer == nil) {
		return nil, errors.New("open audit log: either a path or a writer is needed")
	}
	if cfg.Wait <= 0 {
		cfg.Wait = defaultWait
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Observe == nil {
		cfg.Observe = func(error) {}
	}
	l := &Log{cfg: cfg, to: &stream{w: cfg.Writer}, queue: make(chan *entry, maxWaiting), stop: make(chan struct{}), ended: make(chan struct{})}
	if cfg.Path != "" {
		f := &file{path: cfg.Path}
		if err := f.open(); err != nil {
			return nil, fmt.Errorf("open audit log: %w", err)
		}
		l.to = f
	}
	go l.run()
	return l, nil
}

// Record implements broker.Auditor: it returns nil when the operating system has
// the whole line. After an error the record may be there all the same, of a
// decision that was not released; never the other way round. It does not end with
// ctx: that a caller has gone is no reason for a gap.
func (l *Log) Record(_ context.Context, r broker.Record) error {
	err := l.record(r)
	l.cfg.Observe(err)
	return err
}

func (l *Log) record(r broker.Record) error {
	l.cfg.Pseudonyms.apply(&r)
	e := l.entry()
	var err error
	if e.line, err = r.AppendLine(e.line[:0]); err != nil {
		l.spare.Put(e)
		return err
	}
	select {
	case l.queue <- e:
	default:
		l.lose(1)
		l.spare.Put(e)
		return fmt.Errorf("write audit record: %d records wait already", maxWaiting)
	}
	e.patience.Reset(l.cfg.Wait)
	select {
	case err := <-e.done:
		e.patience.Stop()
		l.spare.Put(e) // the last that is done with it: another may have it from here on
		return err
	case <-l.ended:
		e.patience.Stop()
	case <-e.patience.C:
	}
	if e.state.CompareAndSwap(waiting, abandoned) {
		l.lose(1)
	}
	select {
	case err := <-e.done: // it came at the same moment
		return err
	default:
		return fmt.Errorf("write audit record: not within %s", l.cfg.Wait)
	}
}

// entry returns one that nobody has.
func (l *Log) entry() *entry {
	if e, ok := l.spare.Get().(*entry); ok {
		e.state.Store(waiting)
		return e
	}
	e := &entry{line: make([]byte, 0, 1024), done: make(chan error, 1), patience: time.NewTimer(l.cfg.Wait)} // a record has 700 to 900 bytes
	e.patience.Stop()
	return e
}

// Ready returns nil while records can be written: the last could, and the one
// under way is not late.
func (l *Log) Ready() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.err != nil:
		return fmt.Errorf("audit records cannot be written: %w", l.err)
	case !l.began.IsZero() && time.Since(l.began) >= l.cfg.Wait:
		return errors.New("audit records cannot be written: what they go to takes nothing more")
	}
	return nil
}

// Reopen has the file opened anew before the next record. It is not needed for
// rotation, which is seen without it.
func (l *Log) Reopen() { l.reopen.Store(true) }

// Close writes what waits and closes what Open opened. It does not wait for a
// destination that takes nothing more.
func (l *Log) Close() error {
	var err error
	l.closed.Do(func() {
		close(l.stop)
		patience := time.NewTimer(l.cfg.Wait)
		defer patience.Stop()
		select {
		case <-l.ended:
			err = l.to.Close()
		case <-patience.C:
			err = errors.New("close audit log: a write goes on")
		}
	})
	return err
}

// run writes until it is stopped.
func (l *Log) run() {
	defer close(l.ended)
	for {
		var again <-chan time.Time
		if l.owes() {
			again = time.After(retryEvery)
		}
		select {
		case e := <-l.queue:
			runtime.Gosched() // whoever is about to have a record written does so first: one write for all of them
			l.write(e)
		case <-again:
			l.write(nil)
		case <-l.stop:
			for {
				select {
				case e := <-l.queue:
					l.write(e)
				default:
					return
				}
			}
		}
	}
}

// owes reports whether decisions are without a record.
func (l *Log) owes() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost > 0
}

// lose counts decisions that were refused because their records were not written.
func (l *Log) lose(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost == 0 {
		l.since = time.Now()
	}
	l.lost += n
}

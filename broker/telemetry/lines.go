package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"time"
)

// maxUnwritten bounds the lines that wait to be written: some 2,500 of a request's,
// which is what a disk that stands still for a tenth of a second leaves.
const maxUnwritten = 1 << 20

// Lines writes lines to another writer in the background, so that a request waits
// neither for its line nor for who does not read them: those that come while one write
// is under way go out together with the next. What would be more than a mebibyte is left
// out, and the next line says how many were. It is for the event log, of which a process
// that is killed loses the last few lines; audit records do not go this way. It is safe
// for concurrent use, and takes whole lines only.
type Lines struct {
	w     io.Writer
	wake  chan struct{} // capacity 1
	ended chan struct{} // closed when the last line is written

	mu      sync.Mutex // guards what follows
	waiting []byte
	lost    int // lines that were left out, since the last that tells of them
	closed  bool
}

// NewLines begins to write to w. Close ends it.
func NewLines(w io.Writer) *Lines {
	l := &Lines{w: w, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	go l.run()
	return l
}

// Write implements io.Writer. It never fails: as with slog, there is nobody to tell.
func (l *Lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return len(line), nil
	case len(l.waiting)+len(line) > maxUnwritten:
		l.lost++
	default:
		l.waiting = append(l.waiting, line...)
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return len(line), nil
}

// Close writes what waits, for at most the time given, and takes nothing more.
func (l *Lines) Close(patience time.Duration) {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.wake)
	}
	l.mu.Unlock()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-l.ended:
	case <-late.C:
	}
}

func (l *Lines) run() {
	defer close(l.ended)
	var spare []byte
	for range l.wake {
		runtime.Gosched() // whoever is about to write a line does so first
		spare = l.flush(spare)
	}
	l.flush(spare)
}

// flush writes what waits, while what comes goes into the room that is given. It
// returns the room of what it wrote.
func (l *Lines) flush(room []byte) []byte {
	l.mu.Lock()
	text, lost := l.waiting, l.lost
	l.waiting, l.lost = room[:0], 0
	l.mu.Unlock()
	if lost > 0 {
		text = append(text, fmt.Sprintf(`{"time":%q,"level":%q,"msg":"lines of this log were left out","lines":%d}`+"\n", time.Now().Format(time.RFC3339Nano), slog.LevelWarn, lost)...)
	}
	if len(text) == 0 {
		return text
	}
	_, _ = l.w.Write(text) // as slog does: there is nobody to tell
	return text
}

package auditlog

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// stream is a writer that is there, such as standard output.
type stream struct {
	w io.Writer
	lines
}

func (s *stream) write(p []byte, _ bool) (int, error) { return s.lines.write(s.w, p) }

// Close does nothing: who opened the writer closes it.
func (s *stream) Close() error { return nil }

// lines knows whether what was written ends with a line.
type lines struct{ torn bool }

// write writes p, on a new line if the one before was torn off. It returns how
// much of p was written.
func (t *lines) write(w io.Writer, p []byte) (int, error) {
	text := p
	if t.torn {
		text = append([]byte{'\n'}, p...)
	}
	n, err := w.Write(text)
	if n < len(text) && err == nil {
		err = io.ErrShortWrite
	}
	if n > 0 {
		t.torn = text[n-1] != '\n'
	}
	return max(0, n-(len(text)-len(p))), err
}

// file is a file under a path, or a named pipe. Whoever rotates it may rename it
// or take it away and make another (logrotate's create), which is opened with the
// next line; or copy and truncate it (copytruncate): lines are appended to where
// the end is then.
type file struct {
	path string
	f    *os.File
	was  os.FileInfo // f, when it was opened
	lines
}

// write writes p to what is under the path now.
func (f *file) write(p []byte, again bool) (int, error) {
	if again || f.f == nil || f.moved() {
		if err := f.open(); err != nil && !f.kept() {
			return 0, err
		}
	}
	n, err := f.lines.write(f.f, p)
	if err != nil { // a pipe whose reader went away takes nothing more until it is opened anew
		_ = f.f.Close() // it is broken already
		f.f = nil
	}
	return n, err
}

// moved reports whether another file is under the path, or none. It is asked
// before each write, at under a microsecond: a rotated file that is compressed
// right away would lose what is written to it afterwards.
func (f *file) moved() bool {
	return !same(f.path, f.was)
}

// kept reports whether the file that is open is still one that somebody can read,
// under whatever name: between the renaming and the making of a new one, and
// where the broker may not make it, lines go there.
func (f *file) kept() bool {
	if f.f == nil {
		return false
	}
	info, err := f.f.Stat()
	return err == nil && linked(info)
}

// Close closes the file.
func (f *file) Close() error {
	if f.f == nil {
		return nil
	}
	return f.f.Close()
}

// open opens what is under the path, and makes it where there is nothing. The
// file that was open stays so if that fails. A named pipe without a reader is an
// error, and not something to wait for (O_NONBLOCK).
func (f *file) open() error {
	opened, err := os.OpenFile(f.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY|syscall.O_NONBLOCK, 0o600)
	if errors.Is(err, syscall.ENXIO) {
		return fmt.Errorf("%s: nobody reads the pipe", f.path)
	}
	if err != nil {
		return err
	}
	was, err := opened.Stat()
	if err != nil {
		_ = opened.Close() // nothing was written
		return err
	}
	if f.f != nil {
		_ = f.f.Close() // every line was written
	}
	f.f, f.was = opened, was
	f.torn = torn(f.path, f.torn)
	return nil
}

// torn reports whether the file ends in the middle of a line, as after a crash or
// on a disk that was full. Where that cannot be read, it is as it was before.
func torn(path string, before bool) bool {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return before
	}
	if info.Size() == 0 {
		return false
	}
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return before
	}
	defer func() { _ = f.Close() }() // it was only read
	var last [1]byte
	if _, err := f.ReadAt(last[:], info.Size()-1); err != nil {
		return before
	}
	return last[0] != '\n'
}

//go:build unix

package auditlog_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"credential-broker/broker/auditlog"
)

func open(t *testing.T, path string) *auditlog.Log {
	t.Helper()
	l, err := auditlog.Open(auditlog.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// holds fails unless the file has exactly these records, each on a line.
func holds(t *testing.T, path, want string) {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	if all, _ := records(string(text)); ids(all) != want {
		t.Errorf("%s: %s, want %s", filepath.Base(path), ids(all), want)
	}
}

func TestAFileSurvivesItsRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l := open(t, path)
	put := func(id string) { t.Helper(); must(t, l.Record(t.Context(), record(id))) }
	put("one")
	must(t, os.Rename(path, path+".1"))
	put("two") // nobody made a new file
	must(t, os.Rename(path, path+".2"))
	must(t, os.WriteFile(path, nil, 0o600)) // logrotate's create
	put("three")
	text, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path+".3", text, 0o600)) // copytruncate
	must(t, os.Truncate(path, 0))
	put("four")
	must(t, os.Remove(path))
	put("five")
	l.Reopen()
	put("six")
	for name, want := range map[string]string{".1": "one", ".2": "two", ".3": "three", "": "five, six"} {
		holds(t, path+name, want)
	}
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %s", info.Mode())
	}
}

// Where the broker may not make a file, lines go to the old one as long as
// somebody can read it, and nowhere afterwards.
func TestWithoutANewFileTheOldOneIsKept(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "log")
	must(t, os.Mkdir(folder, 0o700))
	path := filepath.Join(folder, "audit.log")
	l := open(t, path)
	must(t, l.Record(t.Context(), record("one")))
	must(t, os.Rename(path, path+".1"))
	must(t, os.Mkdir(path, 0o700)) // nothing can be made here, not by root either
	must(t, l.Record(t.Context(), record("two")))
	holds(t, path+".1", "one, two")
	must(t, os.Remove(path+".1"))
	if err := l.Record(t.Context(), record("nowhere")); err == nil || l.Ready() == nil {
		t.Errorf("a record that nobody can read: %v", err)
	}
	must(t, os.Remove(path))
	must(t, l.Record(t.Context(), record("three")))
	holds(t, path, "gap 1, three")
}

func TestWhatEndsInHalfALineIsGoneOnWithOnANewOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	must(t, os.WriteFile(path, []byte("{\"v\":1,\"request_id\":\"old\"}\n{\"v\":1,\"req"), 0o600))
	l := open(t, path)
	must(t, l.Record(t.Context(), record("new")))
	must(t, l.Close())
	l = open(t, path)
	must(t, l.Record(t.Context(), record("newer")))
	holds(t, path, "old, new, newer")
	text, err := os.ReadFile(path)
	must(t, err)
	if strings.Count(string(text), "\n") != 4 {
		t.Errorf("%q", text)
	}
}

func TestAFullDiskIsAnError(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("this system has no /dev/full: a full disk is not tried")
	}
	l := open(t, "/dev/full")
	if err := l.Record(t.Context(), record("one")); !errors.Is(err, syscall.ENOSPC) || l.Ready() == nil {
		t.Errorf("%v, %v", err, l.Ready())
	}
}

func TestAPipeThatNobodyReadsIsAnError(t *testing.T) {
	r, w, err := os.Pipe()
	must(t, err)
	l, err := auditlog.Open(auditlog.Config{Writer: w})
	must(t, err)
	defer l.Close()
	must(t, l.Record(t.Context(), record("one")))
	must(t, r.Close())
	if err := l.Record(t.Context(), record("two")); !errors.Is(err, syscall.EPIPE) || l.Ready() == nil {
		t.Errorf("%v, %v", err, l.Ready())
	}
}

func TestANamedPipeMayChangeItsReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.pipe")
	must(t, syscall.Mkfifo(path, 0o600))
	if l, err := auditlog.Open(auditlog.Config{Path: path}); err == nil {
		_ = l.Close()
		t.Fatal("a pipe without a reader is taken")
	}
	reader := func() *os.File {
		f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		must(t, err)
		return f
	}
	first := reader()
	l := open(t, path)
	must(t, l.Record(t.Context(), record("one")))
	must(t, first.Close())
	for range 2 {
		if l.Record(t.Context(), record("lost")) == nil || l.Ready() == nil {
			t.Error("a record that nobody reads")
		}
	}
	second := reader()
	must(t, l.Record(t.Context(), record("two")))
	must(t, l.Close())
	text, err := io.ReadAll(second)
	must(t, err)
	must(t, second.Close())
	if all, _ := records(string(text)); ids(all) != "gap 2, two" {
		t.Errorf("%q", text)
	}
}

// A real pipe, which holds some 64 kB, with a reader that sleeps.
func TestAPipeThatIsFullHangsNobody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.pipe")
	must(t, syscall.Mkfifo(path, 0o600))
	r, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	must(t, err)
	defer r.Close()
	l, err := auditlog.Open(auditlog.Config{Path: path, Wait: 50 * time.Millisecond})
	must(t, err)
	long := record(strings.Repeat("x", 1000))
	written := 0
	for err = nil; err == nil; written++ {
		if err = l.Record(t.Context(), long); written > 10_000 {
			t.Fatal("a pipe without a bottom")
		}
	}
	if l.Ready() == nil {
		t.Error("ready, and the pipe is full")
	}
	text := make(chan string)
	go func() {
		all, _ := io.ReadAll(r)
		text <- string(all)
	}()
	for l.Ready() != nil {
		<-time.After(time.Millisecond)
	}
	must(t, l.Close())
	all, broken := records(<-text)
	if len(all) < written-1 || broken != 0 {
		t.Errorf("%d of %d records, %d broken", len(all), written, broken)
	}
}

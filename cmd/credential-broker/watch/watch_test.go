package watch

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// settling runs settle in a bubble of time. event makes an event, said is how
// often it was said since the last time it was asked.
func settling(t *testing.T, test func(event func(), said func() int)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		events, changed := make(chan struct{}), make(chan struct{}, 1)
		done := make(chan struct{})
		go func() { settle(ctx, events, changed); close(done) }()
		test(func() { events <- struct{}{} }, func() int {
			synctest.Wait()
			n := len(changed)
			if n > 0 {
				<-changed
			}
			return n
		})
		cancel()
		<-done
	})
}

func pass(d time.Duration) { <-time.After(d) }

func TestWhatHappensTogetherIsSaidOnceItIsQuiet(t *testing.T) {
	settling(t, func(event func(), said func() int) {
		pass(time.Hour)
		if said() != 0 {
			t.Error("said without an event")
		}
		for range 3 {
			event()
			pass(quiet - 1)
			if said() != 0 {
				t.Error("said before it was quiet")
			}
		}
		pass(1)
		if said() != 1 {
			t.Error("not said when it was")
		}
		pass(time.Hour)
		if said() != 0 {
			t.Error("said twice")
		}
	})
}

func TestWhatNeverRestsIsSaidAllTheSame(t *testing.T) {
	settling(t, func(event func(), said func() int) {
		began, n := time.Now(), 0
		for time.Since(began) < 10*time.Second {
			event()
			pass(100 * time.Millisecond)
			n += said()
			if n == 0 && time.Since(began) > latest+100*time.Millisecond {
				t.Fatalf("not said after %s", time.Since(began))
			}
		}
		if n < 4 || n > 5 {
			t.Errorf("said %d times in 10 s", n)
		}
	})
}

func TestWhatNobodyHearsIsSaidOnce(t *testing.T) {
	settling(t, func(event func(), said func() int) {
		for range 3 {
			event()
			pass(time.Second)
		}
		if said() != 1 || said() != 0 {
			t.Error("said more than once")
		}
	})
}

func write(t testing.TB, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func link(t testing.TB, target, name string) {
	t.Helper()
	if err := os.Symlink(target, name); err != nil {
		t.Fatal(err)
	}
}

func rename(t testing.TB, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// folder is a temporary one by its real name.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func watching(t testing.TB, files ...string) *Watcher {
	t.Helper()
	w, err := New(files...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// heard fails unless the change is said.
func heard(t testing.TB, w *Watcher, what string) {
	t.Helper()
	select {
	case <-w.Changed():
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: nothing was said", what)
	}
}

func TestAFileIsWatchedHoweverItIsChanged(t *testing.T) {
	dir := folder(t)
	file, other := filepath.Join(dir, "config.yaml"), filepath.Join(dir, "new")
	w := watching(t, file)
	write(t, file, "a") // it was not there
	heard(t, w, "created")
	write(t, file, "b")
	heard(t, w, "written in place")
	for range 2 { // as an editor saves, time and again
		write(t, other, "c")
		rename(t, other, file)
		heard(t, w, "renamed over")
	}
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	heard(t, w, "given to others")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	heard(t, w, "removed")
	write(t, file, "d")
	heard(t, w, "created again")
}

// mount makes the next version of a volume as Kubernetes' kubelet does.
// https://github.com/kubernetes/kubernetes/blob/master/pkg/volume/util/atomic_writer.go
func mount(t testing.TB, dir, version, text string) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, version, "config.yaml"), text)
	old, _ := os.Readlink(filepath.Join(dir, "..data"))
	link(t, version, filepath.Join(dir, "..data_tmp"))
	rename(t, filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data"))
	if old != "" {
		if err := os.RemoveAll(filepath.Join(dir, old)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheSymlinksOfKubernetesAreFollowed(t *testing.T) {
	dir := folder(t)
	file := filepath.Join(dir, "config.yaml")
	mount(t, dir, "..1", "a")
	link(t, "..data/config.yaml", file)
	w := watching(t, file)
	for _, version := range []string{"..2", "..3", "..4"} {
		mount(t, dir, version, version)
		heard(t, w, version)
	}
	write(t, filepath.Join(dir, "..4", "config.yaml"), "in place")
	heard(t, w, "behind the links")
}

func TestAFolderOnTheWayMayBeALinkOrBecomeAnother(t *testing.T) {
	dir := folder(t)
	for _, name := range []string{"a", "b"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name, "config.yaml"), name)
	}
	link(t, filepath.Join(dir, "a"), filepath.Join(dir, "current"))
	w := watching(t, filepath.Join(dir, "current", "config.yaml"))
	write(t, filepath.Join(dir, "a", "config.yaml"), "x")
	heard(t, w, "through the link")
	link(t, filepath.Join(dir, "b"), filepath.Join(dir, "next"))
	rename(t, filepath.Join(dir, "next"), filepath.Join(dir, "current"))
	heard(t, w, "the link turned")
	write(t, filepath.Join(dir, "b", "config.yaml"), "y")
	heard(t, w, "through the other link")
	// The folder goes, and comes again.
	rename(t, filepath.Join(dir, "b"), filepath.Join(dir, "c"))
	heard(t, w, "the folder gone")
	rename(t, filepath.Join(dir, "c"), filepath.Join(dir, "b"))
	heard(t, w, "the folder there again")
	write(t, filepath.Join(dir, "b", "config.yaml"), "z")
	heard(t, w, "in the folder again")
}

func TestTheFilesCanBeOthers(t *testing.T) {
	dir := folder(t)
	first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	w := watching(t, first)
	if err := w.Set(second); err != nil {
		t.Fatal(err)
	}
	write(t, second, "a")
	heard(t, w, "the second")
	if w.matters(fsnotify.Event{Name: first, Op: fsnotify.Write}) {
		t.Error("the first is still watched")
	}
}

// A log in the same folder, for one, would have everything read anew for each of
// its lines.
func TestWhatStandsBesideAFileDoesNotMatter(t *testing.T) {
	dir := folder(t)
	w := watching(t, filepath.Join(dir, "config.yaml"))
	for name, matters := range map[string]bool{
		"config.yaml": true, "config.yaml.swp": false, "audit.jsonl": false, "..data": false, "sub/config.yaml": false,
	} {
		if got := w.matters(fsnotify.Event{Name: filepath.Join(dir, name), Op: fsnotify.Write}); got != matters {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestAFolderThatCannotBeWatchedIsSaid(t *testing.T) {
	dir := folder(t)
	write(t, filepath.Join(dir, "file"), "a")
	if w, err := New(filepath.Join(dir, "missing", "config.yaml")); err != nil { // it may come
		t.Errorf("a folder that is missing: %v", err)
	} else if err := w.Close(); err != nil {
		t.Error(err)
	}
	if os.Getuid() == 0 {
		return // may watch everything
	}
	locked := filepath.Join(dir, "locked")
	if err := os.Mkdir(locked, 0o100); err != nil {
		t.Fatal(err)
	}
	if _, err := New(filepath.Join(locked, "config.yaml")); err == nil || !strings.Contains(err.Error(), "watch "+locked) {
		t.Errorf("a folder that cannot be read: %v", err)
	}
}

func TestTheWayToAFile(t *testing.T) {
	dir := folder(t)
	at := func(names ...string) string { return filepath.Join(append([]string{dir}, names...)...) }
	if err := os.MkdirAll(at("real", "deep"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, at("real", "deep", "file"), "a")
	link(t, "real/deep", at("relative"))
	link(t, at("real"), at("absolute"))
	link(t, "../../relative/file", at("real", "deep", "up"))
	link(t, "loop", at("loop"))
	for file, want := range map[string][]string{
		at("real", "deep", "file"):            {at("real", "deep", "file")},
		at("relative", "file"):                {at("relative"), at("real", "deep", "file")},
		at("absolute", "deep", "file"):        {at("absolute"), at("real", "deep", "file")},
		at("absolute", "deep", "up"):          {at("absolute"), at("real", "deep", "up"), at("relative"), at("real", "deep", "file")},
		at("relative", "missing"):             {at("relative"), at("real", "deep", "missing")},
		at("missing", "deep", "file"):         {at("missing")},
		at("real", "..", "real/./deep//file"): {at("real", "deep", "file")},
	} {
		if got := way(file); !slices.Equal(got, want) {
			t.Errorf("%s:\n got %q\nwant %q", file, got, want)
		}
	}
	if got := way(at("loop")); len(got) != maxLinks+1 {
		t.Errorf("a loop: %d names", len(got))
	}
	t.Chdir(dir)
	if got := way("relative/file"); !slices.Equal(got, []string{at("relative"), at("real", "deep", "file")}) {
		t.Errorf("from the working directory: %q", got)
	}
}

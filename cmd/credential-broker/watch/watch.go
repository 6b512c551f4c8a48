// Package watch says when files may have changed, however they are changed: in
// place, by a rename over them as editors do it, or by turning a symlink on the
// way to them, as Kubernetes does it for a mounted ConfigMap or Secret (..data).
//
// It says only "may have": whoever listens reads the files again and compares.
package watch

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// quiet is how long nothing may happen before it is said that something did. An
	// editor's steps (write, rename, chmod) take milliseconds, a file that is copied
	// in pieces little more; nobody waits for a quarter of a second.
	quiet = 250 * time.Millisecond
	// latest bounds the wait where it never gets quiet.
	latest = 2 * time.Second
)

// Watcher watches files. It is safe for concurrent use.
type Watcher struct {
	notify  *fsnotify.Watcher
	changed chan struct{}
	work    sync.WaitGroup
	stop    context.CancelFunc

	mu    sync.Mutex      // guards what follows
	files []string        // what is watched, as it was named
	names map[string]bool // :: path whose change matters → true
	dirs  map[string]bool // :: folder that is watched → true
}

// New watches the files, which need not be there yet.
func New(files ...string) (*Watcher, error) {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch files: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	w := &Watcher{notify: notify, changed: make(chan struct{}, 1), stop: stop, dirs: map[string]bool{}}
	if err := w.Set(files...); err != nil {
		stop()
		return nil, errors.Join(err, notify.Close())
	}
	events := make(chan struct{})
	w.work.Go(func() { w.read(ctx, events) })
	w.work.Go(func() { settle(ctx, events, w.changed) })
	return w, nil
}

// Changed receives after something has changed and it has become quiet. What
// nobody took in the meantime is said once.
func (w *Watcher) Changed() <-chan struct{} { return w.changed }

// Close ends the watching.
func (w *Watcher) Close() error {
	w.stop()
	err := w.notify.Close()
	w.work.Wait()
	return err
}

// Set replaces the files that are watched. An error says which folder cannot be;
// the others are.
func (w *Watcher) Set(files ...string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.files = files
	return w.follow()
}

// follow watches the folders of everything that stands on the way to a file now;
// mu is held. Folders are watched, and not the files, because a file that is
// renamed over is another one.
func (w *Watcher) follow() error {
	names, dirs := map[string]bool{}, map[string]bool{}
	for _, file := range w.files {
		for _, name := range way(file) {
			names[name], dirs[filepath.Dir(name)] = true, true
		}
	}
	var errs []error
	for dir := range dirs {
		if w.dirs[dir] {
			continue
		}
		if err := w.notify.Add(dir); err != nil {
			errs = append(errs, fmt.Errorf("watch %s: %w", dir, err))
			delete(dirs, dir) // the next change tries again
		}
	}
	for dir := range w.dirs {
		if !dirs[dir] {
			_ = w.notify.Remove(dir) // gone already, as a rule
		}
	}
	w.names, w.dirs = names, dirs
	return errors.Join(errs...)
}

// read takes what the system tells and passes on what matters.
func (w *Watcher) read(ctx context.Context, events chan<- struct{}) {
	for {
		select {
		case e, open := <-w.notify.Events:
			if !open {
				return
			}
			if !w.matters(e) {
				continue
			}
		case _, open := <-w.notify.Errors: // events were lost: anything may have changed
			if !open {
				return
			}
		case <-ctx.Done():
			return
		}
		select {
		case events <- struct{}{}:
		case <-ctx.Done():
			return
		}
	}
}

// matters reports whether the event is of something on the way to a file, and
// follows the way anew if it is. A folder that has gone is no longer watched.
func (w *Watcher) matters(e fsnotify.Event) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	gone := w.dirs[e.Name] && (e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename))
	if gone {
		delete(w.dirs, e.Name)
	}
	if !gone && !w.names[e.Name] {
		return false
	}
	_ = w.follow() // a folder that is missing now is said again by the one above it
	return true
}

// settle says on changed that there were events, once none has come for a while.
func settle(ctx context.Context, events <-chan struct{}, changed chan<- struct{}) {
	for {
		select {
		case <-events:
		case <-ctx.Done():
			return
		}
		rest(ctx, events)
		select {
		case changed <- struct{}{}:
		default: // said, and not yet heard
		}
	}
}

// rest returns when no event has come for a while, or none may be waited for any
// longer.
func rest(ctx context.Context, events <-chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, latest)
	defer cancel()
	for {
		pause := time.NewTimer(quiet)
		select {
		case <-events:
			pause.Stop()
		case <-pause.C:
			return
		case <-ctx.Done():
			pause.Stop()
			return
		}
	}
}

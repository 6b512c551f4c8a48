package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"credential-broker/broker/httpapi"
	"credential-broker/cmd/credential-broker/watch"
)

const (
	// warmUp is how long a new configuration may take to have the keys of all its
	// issuers: discovery and keys of 5 s each, and one more attempt.
	warmUp = 15 * time.Second
	// retryEvery is how often a configuration that was refused is tried again: what
	// is wrong may lie elsewhere, such as an issuer that was down.
	retryEvery = time.Minute
)

// The results of a reload.
const (
	Loaded    = "loaded"    // it is in use
	Unchanged = "unchanged" // it is what was in use
	Refused   = "refused"   // the old one stays
)

// Reload is what came of reading the configuration again.
type Reload struct {
	At      time.Time
	Result  string // Loaded, Unchanged or Refused
	Problem error  // why it was refused
}

// reloads reads the configuration again whenever there is a reason to, until ctx
// ends. What is made of it works in the background until work ends.
func (s *Service) reloads(ctx, work context.Context) {
	if s.o.Load == nil {
		return
	}
	var changed <-chan struct{}
	if s.o.Watch != "" {
		watcher, err := watch.New(s.watched()...)
		if err != nil {
			s.log.LogAttrs(ctx, slog.LevelError, "the configuration is not watched: SIGHUP reloads it", slog.String("error", err.Error()))
		} else {
			defer func() { _ = watcher.Close() }()
			changed = watcher.Changed()
		}
		s.watcher = watcher
	}
	if changed != nil {
		s.reload(ctx, work, false) // what changed since it was read, and before it was watched, was said to nobody
	}
	for {
		var again <-chan time.Time
		if last := s.last.Load(); last != nil && last.Result == Refused {
			again = time.After(retryEvery)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.o.Hangup: // it is what rotation of logs sends, too
			s.audit.Reopen()
			s.reload(ctx, work, true)
		case <-changed:
			s.reload(ctx, work, false)
		case <-again:
			s.reload(ctx, work, false)
		}
	}
}

// watched are the files that a configuration is made of: its own, and the signing
// keys of the one in use and of the one that was read last.
func (s *Service) watched(more ...string) []string {
	return slices.Concat([]string{s.o.Watch}, s.current.Load().cfg.WebIdentity.SigningKeys, more)
}

// reload reads the configuration and puts it into use as a whole, or keeps the
// one in use as a whole and says why. What is the same changes nothing, unless it
// is forced: then everything is read and made anew, issuers' keys included.
func (s *Service) reload(ctx, work context.Context, force bool) {
	before := s.last.Load()
	result, err := s.renew(ctx, work, force)
	if ctx.Err() != nil { // the end
		return
	}
	now := &Reload{At: time.Now(), Result: result, Problem: err}
	s.metrics.Reloaded(result, now.At)
	refused := before != nil && before.Result == Refused
	switch {
	case force || result == Loaded:
	case result == Unchanged && !refused, result == Refused && refused && before.Problem.Error() == err.Error():
		return // nothing to say that has not been said
	}
	s.last.Store(now)
	revision := slog.String("revision", s.current.Load().cfg.Revision)
	if result == Refused {
		s.log.LogAttrs(ctx, slog.LevelError, "configuration refused: the old one stays", revision, slog.String("error", err.Error()))
	} else {
		s.log.LogAttrs(ctx, slog.LevelInfo, "configuration "+result, revision)
	}
	if s.o.Reloaded != nil {
		s.o.Reloaded(*now)
	}
}

// renew does it.
func (s *Service) renew(ctx, work context.Context, force bool) (result string, err error) {
	old := s.current.Load()
	cfg, err := s.o.Load()
	if err != nil {
		return Refused, err
	}
	if s.watcher != nil {
		if err := s.watcher.Set(s.watched(cfg.WebIdentity.SigningKeys...)...); err != nil {
			s.log.LogAttrs(ctx, slog.LevelError, "a file of the configuration is not watched", slog.String("error", err.Error()))
		}
	}
	if err := fixed(old.cfg, cfg); err != nil {
		return Refused, err
	}
	g, err := s.wire(cfg, s.o, old)
	if err != nil {
		return Refused, err
	}
	if !force && g.fingerprint() == old.fingerprint() {
		g.close()
		return Unchanged, nil
	}
	if err := errors.Join(g.start(work), s.warm(ctx, g)); err != nil {
		g.close()
		return Refused, err
	}
	for _, note := range cfg.Notes {
		s.log.LogAttrs(ctx, slog.LevelWarn, note)
	}
	if keys := g.identity.keys; len(keys) > 0 && len(old.identity.keys) > 0 && !slices.Contains(old.identity.keys, keys[0]) {
		s.log.LogAttrs(ctx, slog.LevelWarn, "the key that signs now was not published before: STS may refuse it until it reads the keys again", slog.String("kid", keys[0]))
	}
	s.replace(g)
	s.announce(ctx)
	return Loaded, nil
}

// warm waits until a generation has the keys of all its issuers, so that the
// change refuses nobody.
func (s *Service) warm(ctx context.Context, g *generation) error {
	ctx, cancel := context.WithTimeout(ctx, warmUp)
	defer cancel()
	if g.verifier.Await(ctx) == nil {
		return nil
	}
	var errs []error
	for _, i := range g.verifier.Status() {
		if i.Fetched.IsZero() {
			errs = append(errs, fmt.Errorf("issuer %s: no keys within %s: %w", i.Issuer, warmUp, i.Problem))
		}
	}
	return errors.Join(errs...)
}

// status is what the admin port tells.
func (s *Service) status() httpapi.Status {
	g := s.current.Load()
	status := httpapi.Status{Revision: g.cfg.Revision, Since: g.since}
	if last := s.last.Load(); last != nil {
		status.Reload = &httpapi.Reload{At: last.At, Result: last.Result, Problem: last.Problem}
	}
	for _, i := range g.verifier.Status() {
		status.Issuers = append(status.Issuers, httpapi.Issuer{URL: i.Issuer, Keys: i.Keys, Fetched: i.Fetched, Problem: i.Problem})
	}
	return status
}

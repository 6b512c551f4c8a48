package serve

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"credential-broker/broker/awssts"
	"credential-broker/broker/credcache"
	"credential-broker/broker/httpapi"
	"credential-broker/broker/idtoken"
	"credential-broker/cmd/credential-broker/config"
)

// generation is everything that is made of one configuration. A request runs from
// its beginning to its end under one of them.
type generation struct {
	cfg      config.Config
	identity webIdentity
	verifier *idtoken.Verifier
	sts      *awssts.Client
	cache    *credcache.Cache
	api      *httpapi.API
	since    time.Time          // when it came into use
	end      context.CancelFunc // of its work in the background
	closers  []func()           // called when nobody is inside any more, the last first

	closing sync.Once
	mu      sync.Mutex    // guards what follows
	inside  int           // requests under way
	retired bool          // nobody may enter
	empty   chan struct{} // closed when it is retired and nobody is inside
}

// fingerprint says whether two generations would be the same.
func (g *generation) fingerprint() string { return g.cfg.Revision + " " + g.identity.digest }

// start begins the work in the background, which ends with ctx or with close.
func (g *generation) start(ctx context.Context) error {
	ctx, g.end = context.WithCancel(ctx)
	return g.verifier.Start(ctx)
}

// enter counts a request in; false says that there is another generation by now.
func (g *generation) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.retired {
		return false
	}
	g.inside++
	return true
}

func (g *generation) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	g.check()
}

// retire lets nobody enter any more. It must be called once.
func (g *generation) retire() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.retired = true
	g.check()
}

// check closes empty when it is time; mu is held.
func (g *generation) check() {
	if g.retired && g.inside == 0 {
		close(g.empty)
	}
}

// close ends the work in the background and waits for its end.
func (g *generation) close() {
	g.closing.Do(func() {
		if g.end != nil {
			g.end()
		}
		g.verifier.Wait()
		for _, c := range slices.Backward(g.closers) {
			c()
		}
	})
}

// serve answers with the current generation, which a request holds to its end.
func (s *Service) serve(port func(*httpapi.API) http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g := s.enter()
		defer g.leave()
		port(g.api).ServeHTTP(w, r)
	})
}

func (s *Service) enter() *generation {
	for {
		g := s.current.Load()
		if g.enter() {
			return g
		}
		if s.current.Load() == g { // the last one: its connections are cut
			panic(http.ErrAbortHandler)
		}
	}
}

// replace puts a generation into use, or none, and lets the one before it end when
// its last request has.
func (s *Service) replace(g *generation) {
	old := s.current.Load()
	if g != nil {
		g.since = time.Now()
		s.current.Store(g)
	}
	old.retire()
	s.drains.Go(func() {
		<-old.empty
		old.close()
	})
}

// fixed reports what cannot be changed while the service runs.
func fixed(old, next config.Config) error {
	var errs []error
	for _, key := range []struct{ name, old, next string }{
		{"listen", old.Listen, next.Listen},
		{"admin_listen", old.AdminListen, next.AdminListen},
		{"audit.output", old.Audit.Output, next.Audit.Output},
		{"audit.hash", strings.Join(old.Audit.Hash, " "), strings.Join(next.Audit.Hash, " ")},
		{"audit.hash_key", old.Audit.HashKey, next.Audit.HashKey},
		{"shared_cache.url", old.SharedCache.URL.SHA256(), next.SharedCache.URL.SHA256()},
		{"shared_cache.key_file", old.SharedCache.KeyFile, next.SharedCache.KeyFile},
		{"shared_cache.timeout", old.SharedCache.Timeout.String(), next.SharedCache.Timeout.String()},
	} {
		if key.old != key.next {
			errs = append(errs, errors.New(key.name+": a change needs a restart"))
		}
	}
	return errors.Join(errs...)
}

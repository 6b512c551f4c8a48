// Package servetest runs the service, and what stands around it, until a test ends.
package servetest

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"

	"credential-broker/broker/brokertest"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/cmd/credential-broker/localaws"
	"credential-broker/cmd/credential-broker/serve"
)

// Listen opens a free port of this machine and returns its URL, without a path.
func Listen(t testing.TB) (l net.Listener, url string) {
	t.Helper()
	l, err := brokertest.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l, "http://" + l.Addr().String()
}

// Handle answers what comes to a listener.
func Handle(t testing.TB, l net.Listener, h http.Handler) {
	t.Helper()
	Run(t, func(ctx context.Context) error { return brokertest.Serve(ctx, l, h) })
}

// Run runs something until stop is called, which waits for its end, or until the test
// ends. What it returns must be nil.
func Run(t testing.TB, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// Start runs the service and returns when it is ready. Options that are not set are
// set so that nothing is printed and no fixed port is taken.
func Start(t testing.TB, cfg config.Config, o serve.Options) (service *serve.Service, stop func()) {
	t.Helper()
	if o.Stdout == nil {
		o.Stdout = io.Discard
	}
	if o.AdminListener == nil {
		o.AdminListener, _ = Listen(t)
	}
	ready, ended := make(chan struct{}), make(chan struct{})
	o.Ready = func() { close(ready) }
	service, err := serve.New(cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	stop = Run(t, func(ctx context.Context) error {
		defer close(ended)
		return service.Run(ctx)
	})
	select {
	case <-ready:
	case <-ended:
		stop()
		t.Fatal("the service ended before it was ready")
	}
	return service, stop
}

// AWS is the account that a configuration asks for; change, if not nil, changes it
// before it is made.
func AWS(t testing.TB, cfg config.Config, change func(*brokertest.AWSConfig)) *brokertest.AWS {
	t.Helper()
	local, err := localaws.Of(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&local)
	}
	aws, err := brokertest.NewAWS(local)
	if err != nil {
		t.Fatal(err)
	}
	return aws
}

// SigningKey makes the key of mode minted and returns its file's path.
func SigningKey(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "web-identity.pem")
	if err := brokertest.WriteSigningKey(path); err != nil {
		t.Fatal(err)
	}
	return path
}

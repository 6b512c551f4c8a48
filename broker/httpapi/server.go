package httpapi

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"golang.org/x/net/netutil"
)

// maxConnections bounds the open connections: each may hold a header of 32 KiB,
// so this is 130 MB at the worst.
const maxConnections = 4096

// NewServer puts limits around a handler: nobody can hold a connection by being
// slow, or memory by being long.
//
// It speaks HTTP/1.1 alone, as whatever ends TLS before it does: without streams
// there is no flood of them to reset (CVE-2023-44487), and a connection is a
// request.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	return &http.Server{
		Protocols:         protocols,
		Handler:           contained(h, log),
		ReadHeaderTimeout: 5 * time.Second,  // a header of a few kB takes milliseconds
		ReadTimeout:       10 * time.Second, // with at most 16 kB of body
		WriteTimeout:      15 * time.Second, // after reading: twice what an exchange can take, and a slow line
		IdleTimeout:       60 * time.Second, // as load balancers have it
		MaxHeaderBytes:    32 << 10,         // a token of 8 KiB and what proxies add; net/http itself answers 431
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelInfo),
	}
}

// contained keeps what a panic says out of the log, where net/http would write it: it
// could be anything. It is the outermost, for what goes wrong outside of the routes'
// own recover. The connection is cut off, as net/http does.
func contained(h http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			switch p := recover(); p {
			case nil:
			case http.ErrAbortHandler:
				panic(p)
			default:
				log.LogAttrs(r.Context(), slog.LevelError, "panic outside of a route",
					slog.String("type", fmt.Sprintf("%T", p)), slog.String("stack", string(debug.Stack())))
				panic(http.ErrAbortHandler)
			}
		}()
		h.ServeHTTP(w, r)
	})
}

// Limit bounds the connections that a listener holds open, and makes their deadlines
// cheap.
func Limit(l net.Listener) net.Listener { return patience{netutil.LimitListener(l, maxConnections)} }

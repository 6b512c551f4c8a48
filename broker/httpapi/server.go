package httpapi

import (
	"log/slog"
	"net"
	"net/http"
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
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,  // a header of a few kB takes milliseconds
		ReadTimeout:       10 * time.Second, // with at most 16 kB of body
		WriteTimeout:      15 * time.Second, // after reading: twice what an exchange can take, and a slow line
		IdleTimeout:       60 * time.Second, // as load balancers have it
		MaxHeaderBytes:    32 << 10,         // a token of 8 KiB and what proxies add; net/http itself answers 431
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelInfo),
	}
}

// Limit bounds the connections that a listener holds open.
func Limit(l net.Listener) net.Listener { return netutil.LimitListener(l, maxConnections) }

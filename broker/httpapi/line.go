package httpapi

import (
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/labstack/echo/v4"

	"credential-broker/broker"
)

// line is room for what the log's line says.
type line struct {
	attrs [12]slog.Attr
	n     int
}

func (l *line) add(a slog.Attr) {
	l.attrs[l.n] = a
	l.n++
}

// text adds a text, unless it is empty.
func (l *line) text(name, value string) {
	if value != "" {
		l.add(slog.String(name, value))
	}
}

// log writes the request's line. Its level follows whose fault it was. The attributes
// are handed over as a group without a name, which a handler writes as if they were
// given one by one (slog.Handler), and which needs no copy of them; a handler that
// keeps them must make one.
func (a *API) log(c echo.Context, note *event, at time.Time, took time.Duration) {
	level := slog.LevelInfo // the caller's fault, or nobody's
	if c.Response().Status >= http.StatusInternalServerError {
		level = slog.LevelError
	}
	ctx, handler := c.Request().Context(), a.cfg.Log.Handler()
	if !handler.Enabled(ctx, level) {
		return
	}
	l := &note.line
	l.add(slog.String("request_id", note.id))
	l.add(slog.String("method", knownMethod(c.Request().Method)))
	l.add(slog.String("route", c.Path())) // the pattern, or nothing
	l.add(slog.Int("status", c.Response().Status))
	l.add(slog.Duration("duration", took))
	l.add(slog.Int64("bytes", c.Response().Size))
	l.add(slog.String("address", note.address))
	l.text("code", string(note.class))
	l.text("grant", note.grant)
	l.text("source", note.source)
	if note.err != nil && (level == slog.LevelError || !note.recorded) {
		l.add(slog.String("error", broker.Redact(note.err.Error())))
	}
	l.text("stack", string(note.stack))
	record := slog.NewRecord(at, level, "request", 0)
	record.AddAttrs(slog.Attr{Value: slog.GroupValue(l.attrs[:l.n]...)})
	_ = handler.Handle(ctx, record) // as slog.Logger does: there is nobody to tell
}

// knownMethod keeps invented methods out of the log.
func knownMethod(m string) string {
	if slices.Contains([]string{http.MethodGet, http.MethodPost, http.MethodDelete, http.MethodOptions, http.MethodHead, http.MethodPut, http.MethodPatch}, m) {
		return m
	}
	return "other"
}

func ipNet(p netip.Prefix) *net.IPNet {
	p = p.Masked()
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

package telemetry

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"credential-broker/broker"
)

// LogHandler writes what is logged as slog's own JSONHandler does, with the ids of the
// trace and the span that a line belongs to. Lines of texts, numbers and durations, as
// every request has one, are put together here, which costs a third.
func LogHandler(to *Lines) slog.Handler {
	return &logHandler{Handler: TraceHandler(slog.NewJSONHandler(to, nil)), to: to}
}

type logHandler struct {
	slog.Handler // for everything else

	to    *Lines
	rooms sync.Pool // of *[]byte: lines that were written
}

// maxRoom bounds what is kept: a request's line has some 400 bytes.
const maxRoom = 4 << 10

// Handle implements slog.Handler.
func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	room, _ := h.rooms.Get().(*[]byte)
	if room == nil {
		room = new([]byte)
	}
	defer h.rooms.Put(room)
	line, ok := appendLine((*room)[:0], trace.SpanContextFromContext(ctx), r)
	if *room = line; cap(line) > maxRoom {
		*room = nil
	}
	if !ok {
		return h.Handler.Handle(ctx, r)
	}
	_, err := h.to.Write(line)
	return err
}

// appendLine appends the record's line, unless there is something in it that takes more
// than a few words to write.
func appendLine(to []byte, span trace.SpanContext, r slog.Record) (line []byte, ok bool) {
	if year := r.Time.Year(); year < 1 || year > 9999 || r.Time.IsZero() {
		return to, false
	}
	line = append(to, `{"time":"`...)
	line = r.Time.AppendFormat(line, time.RFC3339Nano)
	line = broker.AppendJSON(append(line, `","level":`...), r.Level.String())
	line = broker.AppendJSON(append(line, `,"msg":`...), r.Message)
	ok = true
	r.Attrs(func(a slog.Attr) bool {
		line, ok = appendAttr(line, a)
		return ok
	})
	if span.IsValid() {
		line = broker.AppendJSON(append(line, `,"trace_id":`...), span.TraceID().String())
		line = broker.AppendJSON(append(line, `,"span_id":`...), span.SpanID().String())
	}
	return append(line, "}\n"...), ok
}

// appendAttr appends an attribute, or all of a group that has no name.
func appendAttr(to []byte, a slog.Attr) (line []byte, ok bool) {
	kind := a.Value.Kind()
	if kind == slog.KindGroup && a.Key == "" {
		for _, in := range a.Value.Group() {
			if to, ok = appendAttr(to, in); !ok {
				return to, false
			}
		}
		return to, true
	}
	line = append(broker.AppendJSON(append(to, ','), a.Key), ':')
	switch kind {
	case slog.KindString:
		return broker.AppendJSON(line, a.Value.String()), true
	case slog.KindInt64:
		return strconv.AppendInt(line, a.Value.Int64(), 10), true
	case slog.KindDuration:
		return strconv.AppendInt(line, int64(a.Value.Duration()), 10), true
	default:
		return to, false
	}
}

// TraceHandler adds the ids of the trace and the span that a line belongs to.
func TraceHandler(next slog.Handler) slog.Handler { return traced{next} }

type traced struct{ slog.Handler }

// Handle implements slog.Handler.
func (h traced) Handle(ctx context.Context, r slog.Record) error {
	if s := trace.SpanContextFromContext(ctx); s.IsValid() {
		r.AddAttrs(slog.String("trace_id", s.TraceID().String()), slog.String("span_id", s.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h traced) WithAttrs(attrs []slog.Attr) slog.Handler { return traced{h.Handler.WithAttrs(attrs)} }

// WithGroup implements slog.Handler.
func (h traced) WithGroup(name string) slog.Handler { return traced{h.Handler.WithGroup(name)} }

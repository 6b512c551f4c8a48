package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	"pgregory.net/rapid"

	"credential-broker/broker/telemetry"
)

// logged returns what the handler writes of a record, and what slog's own does, with
// the ids of the trace where there is one.
func logged(ctx context.Context, r slog.Record, with ...slog.Attr) (got, want string) {
	var ours, theirs bytes.Buffer
	lines := telemetry.NewLines(&ours)
	h, ref := telemetry.LogHandler(lines), telemetry.TraceHandler(slog.NewJSONHandler(&theirs, nil))
	if len(with) > 0 {
		h, ref = h.WithAttrs(with).WithGroup("g"), ref.WithAttrs(with).WithGroup("g")
	}
	_ = h.Handle(ctx, r.Clone())
	_ = ref.Handle(ctx, r.Clone())
	lines.Close(time.Minute)
	return words(ours.String()), words(theirs.String())
}

// words are a line's, each with its type.
func words(line string) string {
	var out strings.Builder
	if strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n") {
		return "no line: " + line
	}
	dec := json.NewDecoder(strings.NewReader(line))
	dec.UseNumber()
	for {
		switch word, err := dec.Token(); err {
		case nil:
			fmt.Fprintf(&out, "%T %#v\n", word, word)
		case io.EOF:
			return out.String()
		default:
			return err.Error() + ": " + line
		}
	}
}

func spanned(t interface{ Context() context.Context }) context.Context {
	return trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}}))
}

// The words of what slog writes, one after the other, whatever is logged: what the
// handler puts together itself, and what it leaves to slog's. Of a character without
// a picture there are two spellings (RFC 8259 §7).
func TestALineIsAsSlogWritesIt(t *testing.T) {
	at := time.Date(2026, 11, 25, 1, 2, 3, 456_000_000, time.UTC)
	attrs := map[string][]slog.Attr{
		"none":              nil,
		"a request's":       {slog.String("request_id", "ab"), slog.Int("status", 200), slog.Duration("duration", time.Millisecond), slog.Int64("bytes", -1)},
		"a nameless group":  {{Value: slog.GroupValue(slog.String("a", "b"), slog.Attr{Value: slog.GroupValue(slog.Int("c", 1))})}, slog.Int("d", 2)},
		"an empty one":      {{Value: slog.GroupValue()}, slog.Int("d", 2)},
		"a group":           {slog.Group("g", slog.Int("c", 1)), slog.Int("d", 2)},
		"one without words": {slog.Group("g"), slog.Int("d", 2)},
		"a nameless one with more": {
			{Value: slog.GroupValue(slog.String("a", "b"), slog.Bool("c", true))}, slog.Int("d", 2),
		},
		"what is escaped":  {slog.String("a\"\n", "b\\\x00<&>\u2028é\xff")},
		"other kinds":      {slog.Bool("a", true), slog.Float64("b", 1.5), slog.Any("c", errors.New("e")), slog.Time("d", at), slog.Uint64("e", 1)},
		"nothing":          {{}, slog.Int("d", 2)},
		"a nameless text":  {slog.String("", "b")},
		"a secret's value": {slog.Any("a", slog.StringValue("text"))},
	}
	for name, list := range attrs {
		for level, when := range map[slog.Level]time.Time{slog.LevelInfo: at, slog.LevelError + 1: at.In(time.FixedZone("", 3600)), slog.LevelWarn: {}, slog.LevelDebug: at.AddDate(8000, 0, 0)} {
			for spans, ctx := range map[string]context.Context{"without": t.Context(), "with": spanned(t)} {
				r := slog.NewRecord(when, level, "a \"message\"", 0)
				r.AddAttrs(list...)
				if got, want := logged(ctx, r); got != want {
					t.Errorf("%s, %s, %s trace:\n%s%s", name, level, spans, got, want)
				}
				if got, want := logged(ctx, r, slog.Int("before", 1)); got != want {
					t.Errorf("%s, %s, %s trace, in a group:\n%s%s", name, level, spans, got, want)
				}
			}
		}
	}
}

func TestAnyLineIsAsSlogWritesIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := slog.NewRecord(time.Unix(rapid.Int64Range(-1<<40, 1<<40).Draw(t, "seconds"), rapid.Int64Range(0, 1e9-1).Draw(t, "nanoseconds")), slog.Level(rapid.IntRange(-10, 20).Draw(t, "level")), rapid.String().Draw(t, "message"), 0)
		for range rapid.IntRange(0, 8).Draw(t, "attributes") {
			key := rapid.String().Draw(t, "key")
			r.AddAttrs(rapid.OneOf(
				rapid.Map(rapid.String(), func(s string) slog.Attr { return slog.String(key, s) }),
				rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) slog.Attr { return slog.String(key, string(b)) }),
				rapid.Map(rapid.Int64(), func(n int64) slog.Attr { return slog.Int64(key, n) }),
				rapid.Map(rapid.Int64(), func(n int64) slog.Attr { return slog.Duration(key, time.Duration(n)) }),
				rapid.Map(rapid.Bool(), func(b bool) slog.Attr { return slog.Bool(key, b) }),
			).Draw(t, "attribute"))
		}
		if got, want := logged(t.Context(), r); got != want {
			t.Fatalf("\n%s%s", got, want)
		}
	})
}

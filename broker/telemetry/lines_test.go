package telemetry_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"credential-broker/broker/telemetry"
)

// gate is a destination that takes nothing until it is opened.
type gate struct {
	open   chan struct{}
	writes int
	text   bytes.Buffer
}

func newGate() *gate { return &gate{open: make(chan struct{})} }

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	g.writes++
	return g.text.Write(p)
}

// Who writes a line waits for nobody, and what was written meanwhile goes out whole, in
// order, and together.
func TestLinesThatWaitAreWrittenTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		lines := telemetry.NewLines(g)
		log := slog.New(slog.NewJSONHandler(lines, nil))
		log.Info("line", slog.Int("n", 0))
		synctest.Wait() // its write is under way
		const n = 100
		for i := 1; i < n; i++ {
			log.Info("line", slog.Int("n", i))
		}
		close(g.open)
		lines.Close(time.Second)
		if g.writes != 2 {
			t.Errorf("%d writes for one line and then many", g.writes)
		}
		got := strings.Split(strings.TrimSuffix(g.text.String(), "\n"), "\n")
		if len(got) != n {
			t.Fatalf("%d lines", len(got))
		}
		for i, line := range got {
			var l struct{ N int }
			if err := json.Unmarshal([]byte(line), &l); err != nil || l.N != i {
				t.Errorf("line %d: %q: %v", i, line, err)
			}
		}
	})
}

// A destination that takes nothing costs lines and not memory, and the log says how
// many.
func TestWhatWouldBeTooMuchIsLeftOutAndTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		lines := telemetry.NewLines(g)
		line := []byte(strings.Repeat("x", 1<<10-1) + "\n")
		if n, err := lines.Write(line); n != len(line) || err != nil {
			t.Errorf("wrote %d, %v", n, err)
		}
		synctest.Wait()
		for range 1<<10 + 3 {
			if n, err := lines.Write(line); n != len(line) || err != nil {
				t.Errorf("wrote %d, %v", n, err)
			}
		}
		close(g.open)
		synctest.Wait()
		if _, err := fmt.Fprintln(lines, "after"); err != nil {
			t.Error(err)
		}
		lines.Close(time.Second)
		whole, after, _ := strings.Cut(g.text.String(), "{")
		if got := strings.Count(whole, "\n"); got != 1<<10+1 {
			t.Errorf("%d lines were kept", got)
		}
		told, after, _ := strings.Cut(after, "\n")
		var l struct {
			Time       time.Time
			Level, Msg string
			Lines      int
		}
		if err := json.Unmarshal([]byte("{"+told), &l); err != nil || l.Lines != 3 || l.Level != "WARN" || l.Msg == "" || l.Time.IsZero() {
			t.Errorf("told %q: %v", told, err)
		}
		if after != "after\n" {
			t.Errorf("then %q", after)
		}
	})
}

// An end does not wait for who reads nothing, and nothing is written after it.
func TestTheEndOfLinesWaitsForABoundedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		lines := telemetry.NewLines(g)
		fmt.Fprintln(lines, "before")
		begin := time.Now()
		lines.Close(time.Second)
		if took := time.Since(begin); took != time.Second {
			t.Errorf("the end took %s", took)
		}
		fmt.Fprintln(lines, "after")
		lines.Close(time.Second) // once more does nothing
		close(g.open)
		synctest.Wait()
		if got := g.text.String(); got != "before\n" {
			t.Errorf("written: %q", got)
		}
	})
}

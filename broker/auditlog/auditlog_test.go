package auditlog_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/auditlog"
)

// destination is a writer that does as it is told. :: what comes is taken, or as
// much as there is room for, or nothing until it is let go on.
type destination struct {
	mu      sync.Mutex
	text    bytes.Buffer
	writes  int
	room    int           // -1: without an end
	release chan struct{} // nil: it does not block
}

func (d *destination) Write(p []byte) (int, error) {
	d.mu.Lock()
	release := d.release
	d.mu.Unlock()
	if release != nil {
		<-release
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writes++
	if d.room >= 0 && len(p) > d.room {
		n, _ := d.text.Write(p[:d.room])
		d.room = 0
		return n, syscall.ENOSPC
	}
	if d.room > 0 {
		d.room -= len(p)
	}
	return d.text.Write(p)
}

func (d *destination) set(room int, release chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room, d.release = room, release
}

func (d *destination) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.text.String()
}

// records are the lines that are records, and how many are not.
func records(text string) (all []broker.Record, broken int) {
	for line := range strings.Lines(text) {
		var r broker.Record
		switch {
		case strings.TrimSpace(line) == "":
		case json.Unmarshal([]byte(line), &r) != nil || !strings.HasSuffix(line, "\n"):
			broken++
		default:
			all = append(all, r)
		}
	}
	return all, broken
}

func ids(all []broker.Record) string {
	var names []string
	for _, r := range all {
		if r.Action == broker.ActionAudit {
			r.RequestID = "gap" + r.Reason[strings.LastIndex(r.Reason, " "):]
		}
		names = append(names, r.RequestID)
	}
	return strings.Join(names, ", ")
}

func record(id string) broker.Record {
	return broker.Record{V: 1, Action: broker.ActionCredentials, Decision: broker.Allow, RequestID: id}
}

// inBubble opens a log in a bubble of time.
func inBubble(t *testing.T, test func(*testing.T, *destination, *auditlog.Log)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := &destination{room: -1}
		var logged bytes.Buffer
		l, err := auditlog.Open(auditlog.Config{Writer: d, Log: slog.New(slog.NewJSONHandler(&logged, nil))})
		if err != nil {
			t.Fatal(err)
		}
		test(t, d, l)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if down, up := strings.Count(logged.String(), `"alert":"audit"`), strings.Count(logged.String(), "written again"); down != up {
			t.Errorf("said %d times that it fails, %d times that it works:\n%s", down, up, &logged)
		}
	})
}

func TestARecordIsALine(t *testing.T) {
	inBubble(t, func(t *testing.T, d *destination, l *auditlog.Log) {
		for _, id := range []string{"one", "two\nlines", "<three>"} {
			if err := l.Record(t.Context(), record(id)); err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(d.String(), "\"}\n") {
				t.Fatalf("released before it was written: %q", d)
			}
		}
		if all, broken := records(d.String()); ids(all) != "one, two\nlines, <three>" || broken != 0 || l.Ready() != nil {
			t.Errorf("%v, %d, %v", ids(all), broken, l.Ready())
		}
	})
}

// What can be told apart by nobody is not kept: it would be found with the next
// record, after the time for which a decision was refused.
func TestWhatIsFullRefusesUntilItWorksAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, d *destination, l *auditlog.Log) {
		_ = l.Record(t.Context(), record("before"))
		d.set(0, nil)
		for range 3 {
			if err := l.Record(t.Context(), record("lost")); !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
		}
		if l.Ready() == nil {
			t.Error("ready, and nothing can be written")
		}
		<-time.After(10 * time.Minute)
		if l.Ready() == nil {
			t.Error("ready, and nothing can be written still")
		}
		d.set(-1, nil)
		<-time.After(time.Second)
		synctest.Wait()
		if err := l.Ready(); err != nil {
			t.Errorf("it works, and nobody asks: %v", err)
		}
		_ = l.Record(t.Context(), record("after"))
		if all, broken := records(d.String()); ids(all) != "before, gap 3, after" || broken != 0 {
			t.Errorf("%v, %d", ids(all), broken)
		}
	})
}

func TestAfterHalfALineComesANewOne(t *testing.T) {
	line, err := record("torn").Line()
	if err != nil {
		t.Fatal(err)
	}
	for room := range len(line) {
		inBubble(t, func(t *testing.T, d *destination, l *auditlog.Log) {
			_ = l.Record(t.Context(), record("before"))
			d.set(room, nil)
			if err := l.Record(t.Context(), record("torn")); err == nil {
				t.Fatal("half a record passes for one")
			}
			d.set(-1, nil)
			if err := l.Record(t.Context(), record("after")); err != nil {
				t.Fatal(err)
			}
			all, broken := records(d.String())
			want, torn := "before, gap 1, after", min(1, room)
			if room == len(line)-1 { // all of it but its end: of a decision that was not released
				want, torn = "before, torn, gap 1, after", 0
			}
			if ids(all) != want || broken != torn {
				t.Errorf("with room for %d: %q has %s and %d others", room, d, ids(all), broken)
			}
		})
	}
}

// Of several records that are written at once, those are kept that are whole.
func TestOfABatchTheWholeLinesAreRecords(t *testing.T) {
	inBubble(t, func(t *testing.T, d *destination, l *auditlog.Log) {
		release := make(chan struct{})
		d.set(-1, release)
		errs := make(chan error, 10)
		for i := range 10 {
			go func() { errs <- l.Record(t.Context(), record(fmt.Sprint(i))) }()
			synctest.Wait() // the first is being written, the others wait, in order
		}
		line, _ := record("0").Line()
		d.set(4*len(line)+7, nil)
		close(release)
		refused := 0
		for range 10 {
			if <-errs != nil {
				refused++
			}
		}
		d.set(-1, nil)
		_ = l.Record(t.Context(), record("after"))
		if all, broken := records(d.String()); ids(all) != "0, 1, 2, 3, gap 6, after" || broken != 1 || refused != 6 {
			t.Errorf("%s, %d torn, %d refused", ids(all), broken, refused)
		}
		if d.writes > 4 {
			t.Errorf("%d writes", d.writes)
		}
	})
}

// Threat: a collector that takes nothing more. Nobody waits for longer than a
// second, nothing piles up, and what was refused is not written as if it had been
// released.
func TestACollectorThatHangsHangsNobody(t *testing.T) {
	inBubble(t, func(t *testing.T, d *destination, l *auditlog.Log) {
		release := make(chan struct{})
		d.set(-1, release)
		began := time.Now()
		const many = 3000
		errs := make(chan error, many)
		for i := range many {
			go func() { errs <- l.Record(t.Context(), record(fmt.Sprint(i))) }()
		}
		synctest.Wait()
		atOnce := len(errs)
		for range many {
			if <-errs == nil {
				t.Error("a record that nobody took")
			}
		}
		if took := time.Since(began); took != time.Second || atOnce < many-1100 {
			t.Errorf("refused after %s, %d of them at once", took, atOnce)
		}
		if l.Ready() == nil {
			t.Error("ready, and nothing is taken")
		}
		<-time.After(time.Hour)
		d.set(-1, nil)
		close(release)
		<-time.After(time.Second)
		synctest.Wait()
		if err := l.Ready(); err != nil {
			t.Error(err)
		}
		_ = l.Record(t.Context(), record("after"))
		all, broken := records(d.String())
		// Those that were half way out are there: of decisions that were not released.
		out := len(all) - 2
		if out < 1 || out > 64 || ids(all[out:]) != fmt.Sprintf("gap %d, after", many-out) || broken != 0 {
			t.Errorf("%s, %d", ids(all), broken)
		}
	})
}

func TestTheEndDoesNotWaitForACollectorThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &destination{room: -1, release: make(chan struct{})}
		l, err := auditlog.Open(auditlog.Config{Writer: d})
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = l.Record(t.Context(), record("one")) }()
		synctest.Wait()
		began := time.Now()
		if err := l.Close(); err == nil || time.Since(began) != time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		close(d.release)
		synctest.Wait()
		if err := l.Record(t.Context(), record("late")); err == nil {
			t.Error("a record after the end")
		}
	})
}

func TestWhatBecameOfEachRecordIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &destination{room: 0}
		var told []error
		l, err := auditlog.Open(auditlog.Config{Writer: d, Observe: func(err error) { told = append(told, err) }})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_ = l.Record(t.Context(), record("one"))
		d.set(-1, nil)
		_ = l.Record(t.Context(), record("two"))
		if len(told) != 2 || told[0] == nil || told[1] != nil {
			t.Errorf("%v", told)
		}
	})
}

func TestALogNeedsOneDestination(t *testing.T) {
	for _, cfg := range []auditlog.Config{{}, {Path: t.TempDir() + "/a", Writer: &destination{}}, {Path: t.TempDir()}, {Path: t.TempDir() + "/none/a"}} {
		if l, err := auditlog.Open(cfg); err == nil {
			t.Errorf("%+v is taken", cfg)
			_ = l.Close()
		}
	}
}

func BenchmarkRecord(b *testing.B) {
	l, err := auditlog.Open(auditlog.Config{Path: b.TempDir() + "/audit.log"})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	end := time.Now()
	r := broker.Record{
		V: 1, Time: end, Action: broker.ActionCredentials, Decision: broker.Allow, RequestID: strings.Repeat("a", 32), Issuer: "https://acme.eu.auth0.com/",
		Subject: "auth0|0123456789abcdef", Client: strings.Repeat("c", 32), Tenant: "org_acme", Grant: "uploads", RoleARN: "arn:aws:iam::123456789012:role/tenant-uploads",
		Bucket: "acme-uploads", Prefix: "tenants/org_acme/", Access: []string{"list", "read", "write", "delete"}, User: strings.Repeat("u", 52),
		SessionName: "cb-" + strings.Repeat("s", 52), AccessKeyID: "ASIA0123456789ABCDEF", Expiration: end, Source: broker.FromCache,
		PolicySHA256: strings.Repeat("f", 64), TokenSHA256: strings.Repeat("f", 64), Address: "192.0.2.1", UserAgent: "aws-sdk-go-v2/1.0",
	}
	for name, run := range map[string]func(*testing.B){
		"one": func(b *testing.B) {
			for b.Loop() {
				_ = l.Record(b.Context(), r)
			}
		},
		"many": func(b *testing.B) {
			b.SetParallelism(32)
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					_ = l.Record(b.Context(), r)
				}
			})
		},
		"line": func(b *testing.B) {
			for b.Loop() {
				_, _ = r.Line()
			}
		},
	} {
		b.Run(name, func(b *testing.B) { b.ReportAllocs(); run(b) })
	}
}

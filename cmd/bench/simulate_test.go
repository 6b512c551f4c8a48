package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"credential-broker/broker"
	"credential-broker/cmd/credential-broker/config"
)

func daysOf(t *testing.T, args ...string) dayReport {
	t.Helper()
	var out bytes.Buffer
	if err := run(t.Context(), append([]string{"--json"}, args...), &out, os.Stderr); err != nil {
		t.Fatal(err)
	}
	var r dayReport
	if err := json.Unmarshal(out.Bytes(), &r); err != nil || len(r.Days) != 3 {
		t.Fatalf("%v: %s", err, &out)
	}
	return r
}

// What a day tells is what the sheet says, in order and in size, and the same each time.
func TestADayIsAsTheFormulaSays(t *testing.T) {
	svg := filepath.Join(t.TempDir(), "day.svg")
	args := []string{"--svg", svg, "simulate", "--users", "600", "--hours", "20", "--requests", "6", "--restart", "12", "--outage", "16"}
	r := daysOf(t, args...)
	own, same, one := r.Days[0], r.Days[1], r.Days[2]
	for _, d := range r.Days {
		if d.Requests < 10_000 || d.Calls == 0 || d.Hits < 0.2 || d.Mean <= 0 || d.Mean > d.Expected {
			t.Errorf("%s: %d requests, %d calls, %.2f hits, %.3f calls a second of %.3f at most", d.How, d.Requests, d.Calls, d.Hits, d.Mean, d.Expected)
		}
		if d.Mean < d.Expected/4 {
			t.Errorf("%s: %.3f calls a second, and the formula says %.3f", d.How, d.Mean, d.Expected)
		}
	}
	if one.Calls >= own.Calls*2/3 || same.Calls >= own.Calls*2/3 {
		t.Errorf("%d calls with caches of their own, %d with a user always at one, %d with a shared one", own.Calls, same.Calls, one.Calls)
	}
	if one.Restarted >= own.Restarted || one.Refused > own.Refused || own.Asked == 0 {
		t.Errorf("after the restart %.2f and %.2f a second; refused in the outage %d and %d of %d", own.Restarted, one.Restarted, own.Refused, one.Refused, own.Asked)
	}
	if again := daysOf(t, args...); !reflect.DeepEqual(r, again) {
		t.Error("the same seed gives another day")
	}
	if drawn, err := os.ReadFile(svg); err != nil || strings.Count(string(drawn), "<polyline") != 3 {
		t.Errorf("plot: %v: %s", err, drawn)
	}
}

func TestADayThatCannotBeIsRefused(t *testing.T) {
	for _, args := range [][]string{{"--users", "0"}, {"--replicas", "0"}, {"--hours", "6"}, {"--zipf", "1"}, {"--requests", "0"}, {"--session", "1m"}, {"--session", "13h"}} {
		if err := run(t.Context(), append([]string{"simulate"}, args...), io.Discard, io.Discard); err == nil {
			t.Errorf("%v is taken", args)
		}
	}
}

// In small, the simulation counts what real brokers count: the same users ask the same
// replicas in the same order, and STS is asked as often.
func TestASimulationCountsAsBrokersDo(t *testing.T) {
	const users, replicas, requests = 30, 3, 400
	w, err := newWorld(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	cfg, err := config.Parse("bench.yaml", []byte(w.config(spec{Name: "simulate", Entries: 1000, STSPerSecond: 1_000_000})), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	var brokers []http.Handler
	for range replicas {
		p, err := newParts(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		h, err := spec{}.handler(cfg, p, broker.NewAuditLog(io.Discard), nil)
		if err != nil {
			t.Fatal(err)
		}
		brokers = append(brokers, h)
	}
	tokens, err := w.tokens(users)
	if err != nil {
		t.Fatal(err)
	}
	s := simulateCmd{Users: users, Replicas: replicas, Hours: 7, Session: time.Hour, Seed: 1, Restart: -1, Outage: -1}
	orders, err := s.orders(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.start(spread, orders)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(3, 4))
	for range requests {
		user, at := random.IntN(users), random.IntN(replicas)
		r := httptest.NewRequest(http.MethodGet, "/v1/credentials", nil)
		r.Header.Set("Authorization", "Bearer "+tokens[user])
		answer := httptest.NewRecorder()
		brokers[at].ServeHTTP(answer, r)
		if answer.Code != http.StatusOK {
			t.Fatalf("%d %s", answer.Code, answer.Body)
		}
		if err := m.ask(t.Context(), user, at); err != nil {
			t.Fatal(err)
		}
	}
	calls := 0
	for _, n := range m.minutes {
		calls += n
	}
	if real := int(w.stsCalls.Load()); calls != real || real <= users || real > users*replicas {
		t.Errorf("the simulation counts %d calls, the brokers' STS %d", calls, real)
	}
}

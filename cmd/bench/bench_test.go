package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A child is this program once more.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "child" {
		if err := run(context.Background(), os.Args[1:], os.Stdout, os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// bench runs the command and returns what it says. Nothing of it is a time to be held
// against another: only that each server answers as it should, and is counted.
func reportOf(t *testing.T, args ...string) report {
	t.Helper()
	var out bytes.Buffer
	if err := run(t.Context(), append([]string{"--json", "--no-wrk", "--rounds", "1", "--time", "50ms", "--conns", "2"}, args...), &out, os.Stderr); err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v in %s", err, &out)
	}
	for _, row := range r.Rows {
		if row.PerSecond <= 0 || row.Bad != 0 {
			t.Errorf("%s: %+v", row.Name, row)
		}
	}
	return r
}

func TestEachServerAnswersHits(t *testing.T) {
	svg := filepath.Join(t.TempDir(), "plot.svg")
	r := reportOf(t, "--svg", svg, "hit", "--only", "1,2,3,4,10,11")
	if len(r.Rows) != 6 || r.Rows[0].Ratio != 1 {
		t.Errorf("rows: %+v", r.Rows)
	}
	drawn, err := os.ReadFile(svg)
	if err != nil || strings.Count(string(drawn), "<rect") != len(r.Rows) {
		t.Errorf("plot: %v: %s", err, drawn)
	}
}

// The other commands say something of each thing that they measure, and fail where an
// answer is not as it should be.
func TestTheOtherCommandsMeasure(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		want []string
	}{
		"memory": {[]string{"memory", "--subjects", "20"}, []string{"20 subjects of"}},
		"cold":   {[]string{"cold", "--subjects", "40", "--known", "10"}, []string{"40 of 200, 40 calls", "0 refused in the end"}},
		"beside": {[]string{"beside"}, []string{"hits alone", "new subjects", "forged tokens", "from 100 addresses", "Zipf"}},
	} {
		t.Run(name, func(t *testing.T) {
			said := strings.Join(reportOf(t, tc.args...).Notes, "\n")
			for _, want := range tc.want {
				if !strings.Contains(said, want) {
					t.Errorf("%q is not in %s", want, said)
				}
			}
		})
	}
}

func TestThePeersAnswerAsTheBrokerDoes(t *testing.T) {
	if _, err := os.Stat("peers/node_modules/.package-lock.json"); err != nil {
		const missing = "the servers in Express are not installed: make peers, with Node.js, npm and the npm registry"
		if os.Getenv("CI") == "true" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	r := reportOf(t, "peers", "--subjects", "10")
	if len(r.Rows) != 3 {
		t.Errorf("rows: %+v", r.Rows)
	}
}

func TestWithoutNodeThePeersAreNotRun(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	var out, said bytes.Buffer
	if err := run(t.Context(), []string{"peers"}, &out, &said); err != nil || out.Len() > 0 || !strings.Contains(said.String(), "NOT RUN") {
		t.Errorf("%v, %q, %q", err, &out, &said)
	}
}

// A request that is not answered is counted, and the others go on.
func TestTheGeneratorCountsWhatIsCutOff(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer b" {
			panic(http.ErrAbortHandler)
		}
	}))
	defer server.Close()
	address := server.Listener.Addr().String()
	got, err := (load{address: address, requests: requests([]string{"a", "b", "c"}), conns: 1, each: true}).run(t.Context())
	if err != nil || got.requests != 3 || got.answers() != "2 of 200, 1 cut off" {
		t.Errorf("%v: %d: %s", err, got.requests, got.answers())
	}
	server.Config.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		_ = server.Listener.Close()
		panic(http.ErrAbortHandler)
	})
	if _, err := (load{address: address, requests: requests([]string{"a"}), conns: 1, each: true}).run(t.Context()); err == nil {
		t.Error("no server any more, and no error")
	}
}

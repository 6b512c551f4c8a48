package versitygw_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"credential-broker/broker/brokertest/versitygw"
)

// witness is what Need did.
type witness struct {
	testing.TB
	said string
}

func (w *witness) Helper()           {}
func (w *witness) Skip(args ...any)  { w.said = "skip: " + fmt.Sprint(args...); panic(w) }
func (w *witness) Fatal(args ...any) { w.said = "fatal: " + fmt.Sprint(args...); panic(w) }

func need() (path, said string) {
	w := &witness{}
	defer func() { recover(); said = w.said }()
	return versitygw.Need(w), ""
}

func TestWithoutTheBinaryTestsSkipAndInCIFail(t *testing.T) {
	t.Setenv("CREDENTIAL_BROKER_VERSITYGW", "")
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	const line = "versitygw is not here; `make peers` builds it"
	for ci, want := range map[string]string{"": "skip: " + line, "true": "fatal: " + line} {
		t.Setenv("CI", ci)
		if _, said := need(); said != want {
			t.Errorf("CI=%q: %q, want %q", ci, said, want)
		}
	}
}

func TestTheBinaryIsWhereTheEnvironmentSaysOrInTheCache(t *testing.T) {
	named, cache := script(t, ""), t.TempDir()
	inCache := func(root string) string {
		path := filepath.Join(root, "credential-broker", "peers", "versitygw")
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(script(t, ""), path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	home := t.TempDir()
	for _, tc := range []struct{ env, xdg, home, want string }{
		{named, cache, home, named},
		{"", cache, home, inCache(cache)},
		{"", "", home, inCache(filepath.Join(home, ".cache"))},
	} {
		t.Setenv("CREDENTIAL_BROKER_VERSITYGW", tc.env)
		t.Setenv("XDG_CACHE_HOME", tc.xdg)
		t.Setenv("HOME", tc.home)
		if path, ok := versitygw.Find(); !ok || path != tc.want {
			t.Errorf("%q %v, want %q", path, ok, tc.want)
		}
	}
	t.Setenv("CREDENTIAL_BROKER_VERSITYGW", cache)
	if _, ok := versitygw.Find(); ok {
		t.Error("a folder is taken for the binary")
	}
}

func TestCloseEndsTheServer(t *testing.T) {
	versitygw.Need(t)
	i := newIssuer(t)
	server := start(t, i)
	for range 2 {
		if err := server.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, url := range []string{server.S3, server.STS} {
		if resp, err := http.Get(url); err == nil {
			resp.Body.Close()
			t.Errorf("%s still answers", url)
		}
	}
}

// script writes an executable.
func script(t *testing.T, line string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+line+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

package idtoken_test

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"credential-broker/broker/idtoken"
)

// These go over a real connection, with the package's own transport.

func compressed(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(data)
	w.Close()
	return b.Bytes()
}

// fetchFrom starts a verifier for a real server and returns what came of the
// first fetch.
func fetchFrom(t *testing.T, handler http.HandlerFunc) error {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	fetched := make(chan error, 100)
	v, err := idtoken.New(idtoken.Config{
		Issuers: []idtoken.Issuer{{
			URL: server.URL + "/", Audiences: []string{audience}, Algorithms: []string{"RS256"}, JWKSURL: server.URL + "/keys",
		}},
		Observe: func(_ string, err error) { fetched <- err },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case err = <-fetched:
		return err
	case <-time.After(time.Minute):
		t.Fatal("no fetch")
		return nil
	}
}

func TestAGoodSetComesOverARealConnection(t *testing.T) {
	set := []byte(jwks(jwkOf("a1", acmeRSA())))
	if err := fetchFrom(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization")+r.Header.Get("Cookie") != "" || r.Method != http.MethodGet {
			w.WriteHeader(http.StatusBadRequest)
		}
		w.Write(set)
	}); err != nil {
		t.Error(err)
	}
}

func TestACompressedSetIsRead(t *testing.T) {
	set := compressed([]byte(jwks(jwkOf("a1", acmeRSA()))))
	if err := fetchFrom(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(set)
	}); err != nil {
		t.Error(err)
	}
}

// Threat case DS06.
func TestTheBoundOfAnAnswerHoldsAfterDecompression(t *testing.T) {
	set := jwks(jwkOf("a1", acmeRSA()))
	bomb := compressed([]byte(set + strings.Repeat(" ", 100<<20)))
	if len(bomb) > 1<<20 {
		t.Fatalf("the bomb has %d bytes", len(bomb))
	}
	err := fetchFrom(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(bomb)
	})
	if err == nil || !strings.Contains(err.Error(), "more than 1048576 bytes") {
		t.Errorf("got %v", err)
	}
}

func TestHeaderLinesAreBounded(t *testing.T) {
	err := fetchFrom(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Long", strings.Repeat("x", 65<<10))
		w.Write([]byte(jwks(jwkOf("a1", acmeRSA()))))
	})
	if err == nil || !strings.Contains(err.Error(), "header") {
		t.Errorf("got %v", err)
	}
}

// Threat case DS05.
func TestARealRedirectIsNotFollowed(t *testing.T) {
	elsewhere := make(chan struct{}, 1)
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere <- struct{}{} }))
	t.Cleanup(other.Close)
	err := fetchFrom(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) })
	if err == nil || !strings.Contains(err.Error(), "status 302") {
		t.Errorf("got %v", err)
	}
	if len(elsewhere) > 0 {
		t.Error("asked elsewhere")
	}
}

package httpapi_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/httpapi"
)

func TestEachRequestIsToldOnceItHasBeenAnswered(t *testing.T) {
	var told []httpapi.Answer
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	h := newHarness(t, func(cfg *httpapi.Config) {
		cfg.Observe = func(_ context.Context, a httpapi.Answer) { told = append(told, a) }
		cfg.Now = func() time.Time { now = now.Add(time.Second); return now }
		cfg.Documents = map[string][]byte{"/in/a/path/.well-known/jwks.json": []byte(`{}`)}
	})
	for _, tc := range []struct {
		method, path, route, code string
		status                    int
		source                    broker.Source
		failure                   error
	}{
		{"GET", "/v1/credentials", "/v1/credentials", "ok", 200, broker.FromSTS, nil},
		{"GET", "/v1/credentials", "/v1/credentials", "busy", 503, "", broker.ErrBusy},
		{"GET", "/v1/credentials?x=1", "/v1/credentials", "invalid_request", 400, "", nil},
		{"GET", "/s3/sts", "/s3/sts", "ok", 200, broker.FromSTS, nil},
		{"GET", "/v1/grants", "/v1/grants", "ok", 200, "", nil},
		{"GET", "/in/a/path/.well-known/jwks.json", "/.well-known/jwks.json", "ok", 200, "", nil},
		{"GET", "/healthz", "/healthz", "ok", 200, "", nil},
		{"GET", "/canary", "none", "not_found", 404, "", nil},
		{"CANARY", "/canary", "none", "not_found", 404, "", nil},
	} {
		told, h.err = nil, tc.failure
		h.do(request(tc.method, tc.path, "", nil))
		if len(told) != 1 {
			t.Fatalf("%s %s: told %d times", tc.method, tc.path, len(told))
		}
		got := told[0]
		if got.Route != tc.route || got.Code != tc.code || got.Status != tc.status || got.Source != tc.source || got.Took <= 0 || len(got.ID) != 32 {
			t.Errorf("%s %s: told %+v", tc.method, tc.path, got)
		}
		if !slices.Contains(httpapi.Routes(), got.Route) || !slices.Contains(httpapi.Codes(), got.Code) {
			t.Errorf("%s %s: %s and %s are not of their sets", tc.method, tc.path, got.Route, got.Code)
		}
	}
	told = nil
	h.api.Admin().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/readyz", nil))
	if len(told) != 0 {
		t.Error("a request on the admin port is told")
	}
}

// What can be asked of the public port is counted by its name.
func TestEveryRouteIsOfTheSet(t *testing.T) {
	h := newHarness(t, func(cfg *httpapi.Config) {
		cfg.Logout = func(context.Context, broker.Request) error { return nil }
		cfg.Documents = map[string][]byte{"/.well-known/jwks.json": nil, "/.well-known/openid-configuration": nil}
	})
	got := map[string]bool{httpapi.NoRoute: true}
	for _, r := range httpapi.Labels(h.api) {
		got[r] = true
		if !slices.Contains(httpapi.Routes(), r) {
			t.Errorf("%s is not of the set", r)
		}
	}
	if len(got) != len(httpapi.Routes()) {
		t.Errorf("the set has %q, and the API %v", httpapi.Routes(), got)
	}
}

func TestMetricsAndProfilesAreOnTheAdminPortAlone(t *testing.T) {
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("up 1")) })
	profiles := []string{"/debug/pprof/", "/debug/pprof/goroutine?debug=1", "/debug/pprof/heap", "/debug/pprof/symbol", "/debug/pprof/trace?seconds=0.001", "/debug/pprof/profile?seconds=x"}
	for name, tc := range map[string]struct {
		change            func(*httpapi.Config)
		metrics, profiles int
	}{
		"as it comes":   {nil, 404, 404},
		"with metrics":  {func(cfg *httpapi.Config) { cfg.Metrics = metrics }, 200, 404},
		"with profiles": {func(cfg *httpapi.Config) { cfg.Metrics, cfg.Profiles = metrics, true }, 200, 200},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, tc.change)
			for _, path := range append(profiles[:len(profiles):len(profiles)], "/metrics") {
				want := tc.profiles
				if path == "/metrics" {
					want = tc.metrics
				}
				if strings.HasSuffix(path, "profile?seconds=x") && want == 200 {
					continue // it would take 30 s
				}
				w := httptest.NewRecorder()
				h.api.Admin().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
				if w.Code != want {
					t.Errorf("admin %s: %d, want %d", path, w.Code, want)
				}
				if w := h.do(httptest.NewRequest(http.MethodGet, path, nil)); w.Code != http.StatusNotFound {
					t.Errorf("public %s: %d", path, w.Code)
				}
			}
		})
	}
}

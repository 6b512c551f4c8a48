package serve_test

import (
	"net/http"
	"strings"
	"testing"
)

// Threat case CC23: nothing that is for debugging can be asked for, on neither
// port, and what is for the operator is not on the public one. That no package of
// the service brings pprof or expvar along is seen at the server of net/http, where
// they put themselves.
func TestNothingForDebuggingCanBeAskedFor(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		token := w.token(alice)
		w.fetches(token, 200)
		for _, path := range []string{
			"/debug/pprof/", "/debug/pprof/goroutine?debug=2", "/debug/pprof/heap", "/debug/pprof/cmdline", "/debug/vars", "/debug/requests", "/debug",
			"/pprof", "/vars", "/config", "/admin/readyz", "/routes",
		} {
			for _, url := range []string{brokerURL, adminURL} {
				if status, body := w.ask(http.MethodGet, url+path, token); status != 404 {
					t.Errorf("%s: %d %s", url+path, status, body)
				}
			}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, pattern := http.DefaultServeMux.Handler(r); pattern != "" {
				t.Errorf("%s is at the server of net/http", path)
			}
		}
		for path, want := range map[string]string{"/metrics": `"Code":"not_found"`, "/healthz": `{"Status":"ok"}`, "/readyz": `{"Status":"ready"}`} {
			if _, body := w.ask(http.MethodGet, brokerURL+path, token); !strings.Contains(body, want) {
				t.Errorf("%s: %s", path, body)
			}
		}
	})
}

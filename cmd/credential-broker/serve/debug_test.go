package serve_test

import (
	"net/http"
	"strings"
	"testing"
)

// Threat case CC23: nothing that is for debugging can be asked for, unless the
// configuration says so, and then on the admin port; and what is for the operator is
// never on the public one.
func TestNothingForDebuggingCanBeAskedFor(t *testing.T) {
	for name, profiles := range map[string]bool{"by default": false, "with profiles": true} {
		t.Run(name, func(t *testing.T) {
			prepare := func(w *world) {
				if profiles {
					w.text = "admin_pprof: true\n" + w.text
				}
			}
			inWorld(t, prepare, func(w *world) {
				token := w.token(alice)
				w.fetches(token, 200)
				for path, wanted := range map[string]bool{
					"/debug/pprof/": profiles, "/debug/pprof/goroutine?debug=2": profiles, "/debug/pprof/heap": profiles, "/metrics": true,
					"/debug/pprof/cmdline": false, "/debug/vars": false, "/debug/requests": false, "/debug": false, "/pprof": false, "/vars": false,
					"/config": false, "/admin/readyz": false, "/routes": false,
				} {
					if status, body := w.ask(http.MethodGet, adminURL+path, token); (status == 200) != wanted || status != 200 && status != 404 {
						t.Errorf("%s on the admin port: %d %s", path, status, body)
					}
					if status, body := w.ask(http.MethodGet, brokerURL+path, token); status != 404 {
						t.Errorf("%s: %d %s", path, status, body)
					}
				}
				for path, want := range map[string]string{"/healthz": `{"Status":"ok"}`, "/readyz": `{"Status":"ready"}`} {
					if _, body := w.ask(http.MethodGet, brokerURL+path, token); strings.TrimSpace(body) != want {
						t.Errorf("%s: %s", path, body)
					}
				}
			})
		})
	}
}

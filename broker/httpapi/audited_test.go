package httpapi_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/httpapi"
)

// What is refused before the broker can be asked is told to it, once, with as much
// as is known; what is no decision about a caller is not.
func TestWhatIsRefusedOnTheWayIsNoted(t *testing.T) {
	good := "Bearer " + token
	for _, tc := range []struct {
		name, method, target, auth, origin string
		action                             broker.Action
		class                              broker.Class
	}{
		{"no token", "GET", "/v1/credentials", "", "", "credentials", "missing_token"},
		{"no JWT", "GET", "/v1/credentials", "Basic dXNlcjpwYXNz", "", "credentials", "invalid_token"},
		{"an unknown parameter", "GET", "/v1/credentials?acess=read", good, "", "credentials", "invalid_request"},
		{"a parameter of POST", "POST", "/v1/credentials?duration=x", good, "", "credentials", "invalid_request"},
		{"for Uppy", "GET", "/s3/sts?format=js", good, "", "credentials", "invalid_request"},
		{"another origin", "GET", "/v1/credentials", good, "https://evil.example", "credentials", "origin_not_allowed"},
		{"a list of grants", "GET", "/v1/grants", "", "", "grants", "missing_token"},
		{"a log-out", "DELETE", "/v1/credentials", "", "", "forget", "missing_token"},
		{"a log-out at the issuer", "POST", "/v1/backchannel-logout", "", "", "logout", "invalid_request"},
		{"another method", "PUT", "/v1/credentials", good, "", "", ""},
		{"another address", "GET", "/v1/secrets", good, "", "", ""},
		{"a probe of another origin", "GET", "/healthz", "", "https://evil.example", "", ""},
		{"a preflight", "OPTIONS", "/v1/credentials", "", "https://evil.example", "", ""},
		{"what is not refused", "GET", "/v1/credentials", good, "", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHarness(t, func(c *httpapi.Config) { c.Logout = (&outs{}).logout })
			r := httptest.NewRequest(tc.method, tc.target, nil)
			r.Header.Set("User-Agent", "test/1")
			for name, value := range map[string]string{"Authorization": tc.auth, "Origin": tc.origin} {
				if value != "" {
					r.Header.Set(name, value)
				}
			}
			w := h.do(r)
			if tc.action == "" {
				if len(h.refused) != 0 {
					t.Errorf("noted %+v", h.refused)
				}
				return
			}
			if len(h.refused) != 1 || h.calls != 0 {
				t.Fatalf("noted %d times, asked %d times", len(h.refused), h.calls)
			}
			got := h.refused[0]
			if got.action != tc.action || got.class != tc.class || got.request.ID != w.Header().Get("X-Request-Id") || got.request.Address != "192.0.2.1" || got.request.UserAgent != "test/1" {
				t.Errorf("noted %+v", got)
			}
			// A digest of what is no token could be a password's.
			if named := !got.request.Token.IsZero(); named != (tc.class == "invalid_request" && tc.auth == good) {
				t.Errorf("with a token: %t", named)
			}
		})
	}
}

func TestWhatTheBrokerRefusesIsNotNotedTwice(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		h := newHarness(t, nil)
		h.err = broker.ErrNoGrant
		if w := h.do(request(method, "/v1/credentials", "", nil)); w.Code != 403 || len(h.refused) != 0 {
			t.Errorf("%s: %d, noted %+v", method, w.Code, h.refused)
		}
	}
	h := newHarness(t, nil)
	h.panics = "x"
	if w := h.do(request(http.MethodGet, "/v1/credentials", "", nil)); w.Code != 500 || len(h.refused) != 1 || h.refused[0].class != broker.ErrInternal {
		t.Errorf("a bug: %d, noted %+v", w.Code, h.refused)
	}
}

// A refusal needs no record to be one.
func TestARefusalStandsWithoutItsRecord(t *testing.T) {
	h := newHarness(t, nil)
	h.auditErr = errors.New("disk full")
	r := httptest.NewRequest(http.MethodGet, "/v1/credentials", nil)
	if w := h.do(r); w.Code != 401 || !strings.Contains(h.log.String(), "disk full") || strings.Contains(w.Body.String(), "disk") {
		t.Errorf("%d %s; logged %s", w.Code, w.Body, &h.log)
	}
}

// Threat case DS12: what an address is refused for itself costs a record a second.
func TestAFloodOfOneAddressDoesNotFillTheDisk(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	h, _ := guarded(t, 0, func(c *httpapi.Config) { c.Now = func() time.Time { return now } })
	for range 3 {
		for range 100 {
			if w := h.do(request(http.MethodGet, "/v1/credentials", "", nil)); w.Code != 429 {
				t.Fatal(w.Code)
			}
		}
		now = now.Add(time.Second)
	}
	if len(h.refused) != 3 || h.refused[0].class != broker.ErrRateLimited || h.calls != 0 {
		t.Errorf("%d records", len(h.refused))
	}
	now = now.Add(-time.Hour) // a clock that was set back silences nothing
	if h.do(request(http.MethodGet, "/v1/credentials", "", nil)); len(h.refused) != 4 {
		t.Errorf("%d records", len(h.refused))
	}
}

// And so does what is refused for its origin, which is not counted against the
// address: the visitors of a page that may not call are many, and mean no harm.
func TestAFloodOfAForeignOriginDoesNotFillTheDisk(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	h := newHarness(t, func(c *httpapi.Config) { c.Now = func() time.Time { return now } })
	for range 3 {
		for range 100 {
			r := request(http.MethodGet, "/v1/credentials", "", nil)
			r.Header.Set("Origin", "https://evil.example")
			if w := h.do(r); w.Code != 403 || code(t, w) != "origin_not_allowed" {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
		}
		now = now.Add(time.Second)
	}
	if len(h.refused) != 3 || h.refused[2].class != "origin_not_allowed" || !strings.Contains(h.refused[2].reason, "so were 99 requests") || h.calls != 0 {
		t.Errorf("%d records: %+v", len(h.refused), h.refused)
	}
}

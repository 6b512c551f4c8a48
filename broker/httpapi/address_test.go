package httpapi_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/httpapi"
)

// addresses counts failures, and refuses those who have as many as it lets.
type addresses struct {
	most   int
	failed map[netip.Addr]int
}

func (a *addresses) Check(address netip.Addr) error {
	if a.failed[address] >= a.most {
		return broker.WithRetryAfter(fmt.Errorf("%w: inside story", broker.ErrRateLimited), 1100*time.Millisecond)
	}
	return nil
}

func (a *addresses) Failed(address netip.Addr) { a.failed[address]++ }

func guarded(t testing.TB, most int, change func(*httpapi.Config)) (*harness, *addresses) {
	t.Helper()
	a := &addresses{most: most, failed: map[netip.Addr]int{}}
	return newHarness(t, func(c *httpapi.Config) {
		c.Addresses = a
		if change != nil {
			change(c)
		}
	}), a
}

func TestWhatCountsAsAFailureOfItsAddress(t *testing.T) {
	for class, counts := range map[error]bool{
		broker.ErrInvalidRequest: true, broker.ErrMissingToken: true, broker.ErrInvalidToken: true, broker.ErrExpiredToken: true,
		broker.ErrNoGrant: false, broker.ErrInvalidTenant: false, broker.ErrScopeNotAllowed: false, broker.ErrRevoked: false,
		broker.ErrRateLimited: false, broker.ErrSTSRejected: false, broker.ErrSTSUnavailable: false, broker.ErrKeysUnavailable: false,
		broker.ErrBusy: false, broker.ErrInternal: false, nil: false,
	} {
		h, a := guarded(t, 10, nil)
		h.err = class
		h.do(request(http.MethodGet, "/v1/credentials", "", nil))
		if got := a.failed[netip.MustParseAddr("192.0.2.1")] == 1; got != counts {
			t.Errorf("%v: %v", class, a.failed)
		}
	}
	h, a := guarded(t, 10, nil) // and what does not get as far as the broker
	h.do(request(http.MethodGet, "/v1/credentials", "", func(r *http.Request) { r.Header.Del("Authorization") }))
	h.do(request(http.MethodGet, "/v1/credentials?acess=read", "", nil))
	h.do(request(http.MethodPost, "/v1/credentials", `{"path":"`+strings.Repeat("a", 16<<10)+`"}`, nil))
	if n := a.failed[netip.MustParseAddr("192.0.2.1")]; n != 3 || h.calls != 0 {
		t.Errorf("%d failures, %d calls", n, h.calls)
	}
}

func TestAnAddressThatFailsTooOftenIsRefusedBeforeAnythingIsRead(t *testing.T) {
	for _, r := range []*http.Request{
		request(http.MethodGet, "/v1/credentials", "", nil), request(http.MethodPost, "/v1/credentials", `{"grant":"a"}`, nil),
		request(http.MethodDelete, "/v1/credentials", "", nil), request(http.MethodGet, "/v1/grants", "", nil),
	} {
		h, a := guarded(t, 0, nil)
		w := h.do(r)
		if w.Code != 429 || code(t, w) != "rate_limited" || w.Header().Get("Retry-After") != "2" || h.calls != 0 || len(a.failed) != 0 {
			t.Errorf("%s %s: %d %s, %v, %d calls", r.Method, r.URL, w.Code, w.Body, w.Header(), h.calls)
		}
		if strings.Contains(w.Body.String(), "inside") {
			t.Errorf("the caller learns the cause: %s", w.Body)
		}
	}
	h, _ := guarded(t, 0, nil)
	for _, path := range []string{"/healthz", "/readyz", "/.well-known/jwks.json"} {
		if w := h.do(httptest.NewRequest(http.MethodGet, path, nil)); w.Code != 200 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

// Who stands behind a trusted proxy is counted by himself, and nobody can choose
// as whom he is counted.
func TestFailuresAreOfTheAddressThatIsBelieved(t *testing.T) {
	from := func(peer, forwarded string) *http.Request {
		return request(http.MethodGet, "/v1/credentials", "", func(r *http.Request) {
			r.RemoteAddr = peer
			r.Header.Del("Authorization")
			r.Header.Set("X-Forwarded-For", forwarded)
		})
	}
	h, a := guarded(t, 10, func(c *httpapi.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	h.do(from("192.0.2.1:1", "203.0.113.9"))
	h.do(from("192.0.2.1:1", "198.51.100.7, 203.0.113.9")) // the first is the caller's own word
	h.do(from("198.51.100.1:1", "203.0.113.9"))
	h.do(from("pipe", "203.0.113.9"))
	want := map[netip.Addr]int{netip.MustParseAddr("203.0.113.9"): 2, netip.MustParseAddr("198.51.100.1"): 1, {}: 1}
	if len(a.failed) != len(want) {
		t.Errorf("%v", a.failed)
	}
	for address, n := range want {
		if a.failed[address] != n {
			t.Errorf("%s: %d, want %d", address, a.failed[address], n)
		}
	}
}

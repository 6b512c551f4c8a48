package httpapi_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"

	"credential-broker/broker"
	"credential-broker/broker/httpapi"
)

// outs hears of log-outs.
type outs struct {
	err error
	got []string
}

func (o *outs) logout(_ context.Context, r broker.Request) error {
	o.got = append(o.got, r.Token.Reveal())
	return o.err
}

func hearing(t testing.TB) (*harness, *outs, *addresses) {
	t.Helper()
	o := &outs{}
	h, a := guarded(t, 1000, func(c *httpapi.Config) { c.Logout = o.logout })
	return h, o, a
}

func form(body string, change func(*http.Request)) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/v1/backchannel-logout", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if change != nil {
		change(r)
	}
	return r
}

func TestALogOutIsTakenAsTheSpecificationHasIt(t *testing.T) {
	for name, r := range map[string]*http.Request{
		"the form": form("logout_token="+token, nil),
		"with a charset": form("logout_token="+token, func(r *http.Request) {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
		}),
		"other fields":    form("a=b&logout_token="+token+"&a=c", nil),
		"other query":     form("logout_token="+token, func(r *http.Request) { r.URL.RawQuery = "logout_token=x&access=read" }),
		"other authority": form("logout_token="+token, func(r *http.Request) { r.Header.Set("Authorization", "Basic x") }),
	} {
		h, o, a := hearing(t)
		w := h.do(r)
		if w.Code != 200 || w.Body.Len() != 0 || w.Header().Get("Cache-Control") != "no-store" || len(o.got) != 1 || o.got[0] != token || len(a.failed) != 0 {
			t.Errorf("%s: %d %q %v, %q", name, w.Code, w.Body, w.Header(), o.got)
		}
		if strings.Contains(h.log.String(), "canary") {
			t.Errorf("%s: the token is logged", name)
		}
	}
}

const (
	refusedLogout     = `{"error":"invalid_request","error_description":"The logout token is not one that this service takes, or was taken before."}`
	unavailableLogout = `{"error":"temporarily_unavailable","error_description":"It cannot be said now whether the logout token is good. Send it again."}`
)

func TestALogOutThatCannotBeReadIsRefused(t *testing.T) {
	for name, r := range map[string]*http.Request{
		"nothing":             form("", nil),
		"no token":            form("token="+token, nil),
		"an empty token":      form("logout_token=", nil),
		"two tokens":          form("logout_token="+token+"&logout_token="+token, nil),
		"in the query":        form("", func(r *http.Request) { r.URL.RawQuery = "logout_token=" + token }),
		"no form":             form("logout_token=%zz", nil),
		"JSON":                form(`{"logout_token":"`+token+`"}`, func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }),
		"no type":             form("logout_token="+token, func(r *http.Request) { r.Header.Del("Content-Type") }),
		"a type cut off":      form("logout_token="+token, func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset") }),
		"a body that breaks":  form("", func(r *http.Request) { r.Body = io.NopCloser(iotest.ErrReader(io.ErrUnexpectedEOF)) }),
		"a body too large":    form("a="+strings.Repeat("a", 16<<10)+"&logout_token="+token, nil),
		"a token too long":    form("logout_token="+strings.Repeat("a", tokenMax+1), nil),
		"the token in pieces": form("logout_token[]="+token, nil),
	} {
		h, o, a := hearing(t)
		w := h.do(r)
		if w.Code != 400 || w.Body.String() != refusedLogout || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Cache-Control") != "no-store" ||
			w.Header().Get("WWW-Authenticate") != "" || len(o.got) != 0 {
			t.Errorf("%s: %d %s %v", name, w.Code, w.Body, w.Header())
		}
		if a.failed[netip.MustParseAddr("192.0.2.1")] != 1 {
			t.Errorf("%s: %v", name, a.failed)
		}
		if !strings.Contains(h.log.String(), `"error":"`) || strings.Contains(h.log.String()+w.Body.String(), "canary") {
			t.Errorf("%s: logged %s", name, &h.log)
		}
	}
	h, o, _ := hearing(t)
	if w := h.do(form("logout_token="+strings.Repeat("a", tokenMax), nil)); w.Code != 200 || len(o.got) != 1 {
		t.Errorf("as long as may be: %d", w.Code)
	}
}

func TestALogOutThatFailsIs400WhateverWentWrong(t *testing.T) {
	for class, tc := range map[error]struct {
		body   string
		counts bool
	}{
		broker.ErrInvalidToken: {refusedLogout, true}, broker.ErrExpiredToken: {refusedLogout, true}, broker.ErrMissingToken: {refusedLogout, true},
		broker.ErrInvalidRequest: {refusedLogout, true}, broker.ErrKeysUnavailable: {unavailableLogout, false},
	} {
		h, o, a := hearing(t)
		o.err = fmt.Errorf("%w: inside story", class)
		w := h.do(form("logout_token="+token, nil))
		if w.Code != 400 || w.Body.String() != tc.body || w.Header().Get("Retry-After")+w.Header().Get("WWW-Authenticate") != "" {
			t.Errorf("%v: %d %s %v", class, w.Code, w.Body, w.Header())
		}
		if (len(a.failed) == 1) != tc.counts {
			t.Errorf("%v: %v", class, a.failed)
		}
		if strings.Contains(h.log.String(), "inside story") || len(h.refused) != 0 { // the broker's own record has it
			t.Errorf("%v: logged %s, noted %v", class, &h.log, h.refused)
		}
	}
}

func TestALogOutIsHeardByPostOnlyAndWhereItIsHeard(t *testing.T) {
	h, o, a := hearing(t)
	if w := h.do(httptest.NewRequest(http.MethodGet, "/v1/backchannel-logout?logout_token="+token, nil)); w.Code != 405 || code(t, w) != "method_not_allowed" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := h.do(form("logout_token="+token, func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") })); w.Code != 403 || code(t, w) != "origin_not_allowed" {
		t.Errorf("a page: %d %s", w.Code, w.Body)
	}
	a.most = 0
	if w := h.do(form("logout_token="+token, nil)); w.Code != 429 || code(t, w) != "rate_limited" {
		t.Errorf("an address that fails too often: %d %s", w.Code, w.Body)
	}
	if len(o.got) != 0 {
		t.Errorf("%q", o.got)
	}
	deaf := newHarness(t, nil)
	if w := deaf.do(form("logout_token="+token, nil)); w.Code != 404 || code(t, w) != "not_found" {
		t.Errorf("unheard: %d %s", w.Code, w.Body)
	}
}

// Whatever the form: what gets through is the one value of the one field.
func FuzzLogoutForm(f *testing.F) {
	for _, s := range []string{"logout_token=a.b.c", "a=b&logout_token=a.b.c", "logout_token=a&logout_token=b", "logout_token=%61", "logout_token=;", "&&&=", "logout_token"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		h, o, _ := hearing(t)
		w := h.do(form(body, nil))
		values, err := url.ParseQuery(body)
		want := err == nil && len(values["logout_token"]) == 1 && values["logout_token"][0] != "" && len(values["logout_token"][0]) <= tokenMax && len(body) <= 16<<10
		if (w.Code == 200) != want || (len(o.got) == 1) != want || want && o.got[0] != values["logout_token"][0] {
			t.Fatalf("%q: %d, %q", body, w.Code, o.got)
		}
	})
}

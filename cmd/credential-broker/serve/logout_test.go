package serve_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"credential-broker/broker/brokertest/localauth0"
)

// logsOut sends a logout token and returns the answer.
func (w *world) logsOut(change func(map[string]any)) (token string, status int, body string) {
	w.Helper()
	claims := map[string]any{
		"iss": issuerURL, "aud": "demo-spa", "iat": time.Now().Unix(), "exp": time.Now().Unix() + 120, "jti": fmt.Sprint(time.Now()),
		"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
	}
	change(claims)
	token, err := w.auth0[issuerURL].Mint(claims, localauth0.WithHeader("typ", "logout+jwt"))
	if err != nil {
		w.Fatal(err)
	}
	status, body = w.shows(token)
	return token, status, body
}

func (w *world) shows(token string) (int, string) {
	w.Helper()
	r, err := http.NewRequestWithContext(w.Context(), http.MethodPost, brokerURL+"/v1/backchannel-logout", strings.NewReader(url.Values{"logout_token": {token}}.Encode()))
	if err != nil {
		w.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return w.send(r)
}

func TestALogOutAtTheIssuerDropsWhatIsCached(t *testing.T) {
	heard := func(w *world) {
		w.text = strings.Replace(w.text, "issuers: [{", `issuers: [{logout_audiences: [demo-spa], `, 1)
	}
	inWorld(t, heard, func(w *world) {
		claims, err := w.auth0[issuerURL].UserClaims(alice)
		if err != nil {
			t.Fatal(err)
		}
		claims["sid"] = "session-1"
		alices, err := w.auth0[issuerURL].Mint(claims)
		if err != nil {
			t.Fatal(err)
		}
		bobs := w.token(bob)
		first, others := w.fetches(alices, 200), w.fetches(bobs, 200)
		dropped := func(what string) {
			t.Helper()
			if next := w.fetches(alices, 200); next.AccessKeyID == first.AccessKeyID {
				t.Errorf("%s: given what was cached before", what)
			} else {
				first = next
			}
			if w.fetches(bobs, 200) != others {
				t.Errorf("%s: another's was dropped", what)
			}
		}
		bySubject, status, body := w.logsOut(func(c map[string]any) { c["sub"] = claims["sub"] })
		if status != 200 || body != "" {
			t.Fatalf("%d %s", status, body)
		}
		dropped("by subject")
		after(time.Second)
		if _, status, body := w.logsOut(func(c map[string]any) { c["sid"] = "session-1" }); status != 200 {
			t.Fatalf("%d %s", status, body)
		}
		dropped("by session")
		after(time.Second)
		for what, change := range map[string]func(map[string]any){
			"a session of nobody":    func(c map[string]any) { c["sid"] = "session-2" },
			"a subject of elsewhere": func(c map[string]any) { c["sub"] = "auth0|elsewhere" },
		} {
			if _, status, _ := w.logsOut(change); status != 200 || w.fetches(alices, 200) != first {
				t.Errorf("%s: %d", what, status)
			}
			after(time.Second)
		}
		if _, status, _ := w.logsOut(func(c map[string]any) { c["sub"], c["aud"] = claims["sub"], "demo-cli" }); status != 400 || w.fetches(alices, 200) != first {
			t.Errorf("of a client that is not heard: %d", status)
		}
		// Shown again, it is refused, after a reload too, and even when it is old.
		w.loads("duration: 1h", "duration: 2h")
		first = w.fetches(alices, 200)
		for range 2 {
			if status, body := w.shows(bySubject); status != 400 || !strings.Contains(body, `"error":"invalid_request"`) {
				t.Errorf("%d %s", status, body)
			}
			after(5 * time.Minute)
		}
		if w.fetches(alices, 200) != first {
			t.Error("dropped by a token that was shown before")
		}
	})
}

// And by the caller itself.
func TestALogOutAtTheBrokerDropsWhatIsCached(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		token, other := w.token(alice), w.token(bob)
		first, others := w.fetches(token, 200), w.fetches(other, 200)
		if status, body := w.ask(http.MethodDelete, brokerURL+"/v1/credentials", token); status != 204 || body != "" {
			t.Errorf("%d %s", status, body)
		}
		if w.fetches(token, 200).AccessKeyID == first.AccessKeyID || w.fetches(other, 200) != others {
			t.Error("not dropped, or another's was")
		}
	})
}

// What a refresh brings that was under way then does not come back.
func TestALogOutAtTheBrokerDropsWhatARefreshBrings(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		token := w.token(alice)
		first := w.fetches(token, 200)
		after(34 * time.Minute) // past the half-life, whatever it was drawn at
		release := make(chan struct{})
		w.internet.set(stsURL, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.sts.ServeHTTP(rw, r); <-release }))
		if w.fetches(token, 200) != first {
			t.Error("not given what was cached")
		}
		synctest.Wait()
		if w.calls() != 2 {
			t.Fatalf("%d calls: no refresh is under way", w.calls())
		}
		if status, body := w.ask(http.MethodDelete, brokerURL+"/v1/credentials", token); status != 204 {
			t.Errorf("%d %s", status, body)
		}
		close(release)
		synctest.Wait()
		if now := w.fetches(token, 200); now.AccessKeyID == first.AccessKeyID || w.calls() != 3 {
			t.Errorf("%d calls: not from a call of its own", w.calls())
		}
	})
}

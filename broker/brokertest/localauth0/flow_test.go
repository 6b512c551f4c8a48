package localauth0_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"credential-broker/broker/brokertest/localauth0"
)

func TestPageFlowGivesTokensForTheChosenUser(t *testing.T) {
	tn := start(t)
	shown := tn.get("authorize?" + authorization().Encode())
	if shown.status != http.StatusOK || !strings.Contains(shown.body, `value="alice@acme.test"`) {
		t.Fatalf("status %d, want the page with alice on it\n%s", shown.status, shown.body)
	}
	back := redirected(t, tn.choose("alice@acme.test"))
	if back.Get("state") != "s-1" {
		t.Errorf("state %q", back.Get("state"))
	}
	got := granted(t, tn.post("oauth/token", redemption(back.Get("code"))))
	if got.Type != "Bearer" || got.ExpiresIn != 86400 || got.Refresh == "" {
		t.Errorf("got %+v, want a bearer token of 24 h with a refresh token", got)
	}
	if want := "openid profile email upload:files offline_access"; got.Scope != want {
		t.Errorf("scope %q, want %q", got.Scope, want)
	}
	_, claims := tn.verify(got.Access)
	if claims["org_id"] != localauth0.DemoOrgAcme || claims["azp"] != localauth0.DemoSPA {
		t.Errorf("claims %v", claims)
	}
	if _, has := claims["gty"]; has {
		t.Error("gty in a token of an authorization code")
	}

	header, id := tn.verify(got.ID)
	want := []string{"aud", "email", "email_verified", "exp", "iat", "iss", "name", "nickname", "nonce", "org_id", "sid", "sub"}
	if diff := cmp.Diff(want, names(id)); diff != "" || header["typ"] != "JWT" {
		t.Errorf("ID token, typ %v: -want +got\n%s", header["typ"], diff)
	}
	if id["aud"] != localauth0.DemoSPA || id["nonce"] != "n-1" || id["email"] != "alice@acme.test" {
		t.Errorf("ID token %v", id)
	}
}

func TestAuthorizationRequestMayBePosted(t *testing.T) {
	if a := start(t).post("authorize", authorization()); a.status != http.StatusOK {
		t.Errorf("status %d", a.status)
	}
}

func TestScopesThatTheUserDoesNotHoldAreDropped(t *testing.T) {
	tn := start(t)
	code := tn.code("alice@acme.test", "scope", "openid upload:files upload:files delete:everything")
	if got := granted(t, tn.post("oauth/token", redemption(code))); got.Scope != "openid upload:files" {
		t.Errorf("scope %q", got.Scope)
	}
}

func TestRefreshTokenNeedsAClientThatMayRefresh(t *testing.T) {
	tn := start(t, func(c *localauth0.Config) { c.Clients[0].Grants = []string{localauth0.GrantCode} })
	got := granted(t, tn.post("oauth/token", redemption(tn.code("alice@acme.test"))))
	if got.Refresh != "" || strings.Contains(got.Scope, "offline_access") {
		t.Errorf("got a refresh token, scope %q", got.Scope)
	}
}

func TestPublicAndConfidentialClientsRedeemCodes(t *testing.T) {
	tn := start(t, func(c *localauth0.Config) { c.Clients[0].Secret = "s3cret" })
	got := tn.post("oauth/token", redemption(tn.code("alice@acme.test"), "client_secret", "s3cret"))
	granted(t, got)
	refused(t, tn.post("oauth/token", redemption(tn.code("alice@acme.test"))), http.StatusUnauthorized, "access_denied")
}

func TestCodeRedemptionRefuses(t *testing.T) {
	other := strings.Repeat("x", 43)
	for _, c := range []struct {
		rule  string
		pairs []string
		code  string
		state int
	}{
		{"a verifier that does not match", []string{"code_verifier", other}, "invalid_grant", 403},
		{"a missing verifier", []string{"code_verifier", ""}, "invalid_request", 400},
		{"a missing code", []string{"code", ""}, "invalid_request", 400},
		{"a missing redirect_uri", []string{"redirect_uri", ""}, "invalid_request", 400},
		{"another callback of the same client", []string{"redirect_uri", page + "/"}, "invalid_grant", 403},
		{"an unknown code", []string{"code", "nonsense"}, "invalid_grant", 403},
		{"another client", []string{"client_id", "second-spa"}, "invalid_grant", 403},
	} {
		t.Run(c.rule, func(t *testing.T) {
			tn := start(t, secondSPA)
			code := tn.code("alice@acme.test")
			refused(t, tn.post("oauth/token", redemption(code, c.pairs...)), c.state, c.code)
		})
	}
}

// secondSPA adds a client that could redeem the page's codes if they were not bound to theirs.
func secondSPA(c *localauth0.Config) {
	second := c.Clients[0]
	second.ID = "second-spa"
	c.Clients = append(c.Clients, second)
}

func TestVerifierHasTheLengthThatRFC7636Asks(t *testing.T) {
	tn := start(t)
	short := "short"
	code := tn.code("alice@acme.test", "code_challenge", challenge(short))
	refused(t, tn.post("oauth/token", redemption(code, "code_verifier", short)), 403, "invalid_grant")
}

func TestCodeIsSpentByAFailedAttempt(t *testing.T) {
	tn := start(t)
	code := tn.code("alice@acme.test")
	refused(t, tn.post("oauth/token", redemption(code, "code_verifier", strings.Repeat("x", 43))), 403, "invalid_grant")
	refused(t, tn.post("oauth/token", redemption(code)), 403, "invalid_grant")
}

func TestCodeLivesSixtySeconds(t *testing.T) {
	tn := start(t)
	early, late := tn.code("alice@acme.test"), tn.code("alice@acme.test")
	tn.clock.advance(59 * time.Second)
	granted(t, tn.post("oauth/token", redemption(early)))
	tn.clock.advance(time.Second)
	refused(t, tn.post("oauth/token", redemption(late)), 403, "invalid_grant")
}

func TestReusedCodeKillsTheRefreshTokenItLedTo(t *testing.T) {
	tn := start(t)
	code := tn.code("alice@acme.test")
	got := granted(t, tn.post("oauth/token", redemption(code)))
	refused(t, tn.post("oauth/token", redemption(code)), 403, "invalid_grant")
	refused(t, tn.post("oauth/token", refreshForm(got.Refresh)), 403, "invalid_grant")
}

func TestRefreshRotatesAndReuseKillsTheFamily(t *testing.T) {
	tn := start(t)
	first := granted(t, tn.post("oauth/token", redemption(tn.code("alice@acme.test"))))
	second := granted(t, tn.post("oauth/token", refreshForm(first.Refresh)))
	if second.Refresh == "" || second.Refresh == first.Refresh {
		t.Fatalf("refresh token %q did not rotate", second.Refresh)
	}
	_, claims := tn.verify(second.Access)
	if claims["gty"] != "refresh_token" || claims["org_id"] != localauth0.DemoOrgAcme {
		t.Errorf("claims %v", claims)
	}
	if _, id := tn.verify(second.ID); id["nonce"] != nil {
		t.Error("nonce of the first sign-in in a refreshed ID token")
	}
	refused(t, tn.post("oauth/token", refreshForm(first.Refresh)), 403, "invalid_grant")
	refused(t, tn.post("oauth/token", refreshForm(second.Refresh)), 403, "invalid_grant")
}

func TestRefreshScopesOnlyNarrow(t *testing.T) {
	tn := start(t)
	first := granted(t, tn.post("oauth/token", redemption(tn.code("alice@acme.test", "scope", "openid offline_access"))))
	refused(t, tn.post("oauth/token", refreshForm(first.Refresh, "scope", "openid upload:files")), 400, "invalid_scope")
	got := granted(t, tn.post("oauth/token", refreshForm(first.Refresh, "scope", "openid")))
	if got.Scope != "openid" {
		t.Errorf("scope %q", got.Scope)
	}
	again := granted(t, tn.post("oauth/token", refreshForm(got.Refresh)))
	if again.Scope != "openid offline_access" {
		t.Errorf("scope %q after a narrowed refresh, want the granted one", again.Scope)
	}
}

func TestRefreshTokenRefuses(t *testing.T) {
	tn := start(t, secondSPA)
	got := granted(t, tn.post("oauth/token", redemption(tn.code("alice@acme.test"))))
	refused(t, tn.post("oauth/token", refreshForm("nonsense")), 403, "invalid_grant")
	refused(t, tn.post("oauth/token", refreshForm("")), 400, "invalid_request")
	refused(t, tn.post("oauth/token", refreshForm(got.Refresh, "client_id", "second-spa")), 403, "invalid_grant")
	kept := granted(t, tn.post("oauth/token", refreshForm(got.Refresh))) // the foreign attempt did not spend it

	// The family ends thirty days after the sign-in, however often it rotates.
	tn.clock.advance(30*24*time.Hour - time.Second)
	kept = granted(t, tn.post("oauth/token", refreshForm(kept.Refresh)))
	tn.clock.advance(time.Second)
	refused(t, tn.post("oauth/token", refreshForm(kept.Refresh)), 403, "invalid_grant")
}

func refreshForm(token string, pairs ...string) map[string][]string {
	return form(append([]string{
		"grant_type", "refresh_token", "client_id", localauth0.DemoSPA, "refresh_token", token,
	}, pairs...)...)
}

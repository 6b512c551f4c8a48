package idtoken_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"credential-broker/broker"
	"credential-broker/broker/idtoken"
)

const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// newLogout is a good logout token, as Auth0 makes it.
func newLogout(now time.Time) *draft {
	d := newDraft(now)
	d.header["typ"] = "logout+jwt"
	d.claims = map[string]any{
		"iss": acme, "aud": "spa", "sub": "auth0|alice", "sid": "session-1", "jti": "logout-1",
		"iat": now.Unix(), "exp": now.Unix() + 120, "events": map[string]any{logoutEvent: map[string]any{}},
	}
	return d
}

// hearing is a verifier that hears of log-outs of acme's clients, at a time.
func hearing(t *testing.T, now *time.Time) *idtoken.Verifier {
	t.Helper()
	cfg := config(newOrigin())
	cfg.Issuers[0].LogoutAudiences = []string{"spa", "app"}
	cfg.Issuers[0].Clients = []string{"of access tokens only"}
	return startedAt(t, cfg, func() time.Time { return *now })
}

func TestALogoutTokenSaysWhoseLogInHasEnded(t *testing.T) {
	now := noon
	v := hearing(t, &now)
	events := func(more string) func(*draft) {
		return func(d *draft) {
			d.claimsJSON = func(s string) string { return mustReplace(s, `"events":{`, `"events":{`+more) }
		}
	}
	until := noon.Add(125 * time.Second)
	whole := broker.Logout{Issuer: acme, Subject: "auth0|alice", Session: "session-1", ID: "logout-1", Until: until}
	for name, tc := range map[string]struct {
		change func(*draft)
		want   broker.Logout
	}{
		"the good one":           {func(*draft) {}, whole},
		"no typ":                 {without("typ"), whole},
		"typ JWT":                {inHeader("typ", "JWT"), whole},
		"typ with its tree":      {inHeader("typ", "application/LOGOUT+jwt"), whole},
		"of another client":      {inClaims("aud", "app"), whole},
		"aud an array":           {inClaims("aud", []string{"x", "app"}), whole},
		"another event beside":   {events(`"https://acme.example/event":{"a":1},`), whole},
		"another claim":          {inClaims("trace_id", "abc"), whole},
		"no session":             {without("sid"), broker.Logout{Issuer: acme, Subject: "auth0|alice", ID: "logout-1", Until: until}},
		"no subject":             {without("sub"), broker.Logout{Issuer: acme, Session: "session-1", ID: "logout-1", Until: until}},
		"a life of a day":        {inClaims("exp", noon.Unix()+86400), broker.Logout{Issuer: acme, Subject: "auth0|alice", Session: "session-1", ID: "logout-1", Until: noon.Add(305 * time.Second)}},
		"as old as it may be":    {func(d *draft) { d.claims["iat"], d.claims["exp"] = noon.Unix()-304, noon.Unix()+1 }, broker.Logout{Issuer: acme, Subject: "auth0|alice", Session: "session-1", ID: "logout-1", Until: noon.Add(time.Second)}},
		"within the leeway over": {func(d *draft) { d.claims["iat"], d.claims["exp"] = noon.Unix()-60, noon.Unix()-4 }, broker.Logout{Issuer: acme, Subject: "auth0|alice", Session: "session-1", ID: "logout-1", Until: noon.Add(time.Second)}},
		"names of 255 bytes": {func(d *draft) {
			for _, name := range []string{"sub", "sid", "jti"} {
				d.claims[name] = strings.Repeat("n", 255)
			}
		}, broker.Logout{Issuer: acme, Subject: strings.Repeat("n", 255), Session: strings.Repeat("n", 255), ID: strings.Repeat("n", 255), Until: until}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newLogout(noon)
			tc.change(d)
			got, err := v.VerifyLogout(t.Context(), broker.NewSecret(d.mint()))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestEachRuleRefusesItsLogoutToken(t *testing.T) {
	now := noon
	v := hearing(t, &now)
	event := func(value any) func(*draft) { return inClaims("events", value) }
	for _, r := range []row{
		{"no token", segments(func([]string) string { return "" }), ""},
		{"too long", func(d *draft) { d.claims["pad"] = strings.Repeat("x", 8192) }, "longer than 8192 bytes"},
		{"typ of an access token", inHeader("typ", "at+jwt"), `typ "at+jwt" is none of`},
		{"an unknown issuer", inClaims("iss", "https://evil.example/"), "not a configured issuer"},
		{"an issuer whose log-outs are not heard", func(d *draft) { d.ofGlobex("RS256") }, "aud: no configured audience"},
		{"alg none", inHeader("alg", "none"), "is not allowed"},
		{"the audience of an access token", inClaims("aud", audience), "aud: no configured audience"},
		{"a client that may call, but not log out", inClaims("aud", "of access tokens only"), "aud: no configured audience"},
		{"no aud", without("aud"), "aud: neither"},
		{"an access token", func(d *draft) { delete(d.claims, "events") }, "events does not tell"},
		{"events null", event(nil), "events does not tell"},
		{"events a text", event(logoutEvent), "events does not tell"},
		{"events a list", event([]string{logoutEvent}), "events does not tell"},
		{"events of nothing", event(map[string]any{}), "events does not tell"},
		{"another event", event(map[string]any{"http://schemas.openid.net/event/backchannel-logout/": map[string]any{}}), "events does not tell"},
		{"the event in another case", event(map[string]any{"http://schemas.openid.net/event/backchannel-Logout": map[string]any{}}), "events does not tell"},
		{"the event null", event(map[string]any{logoutEvent: nil}), "events does not tell"},
		{"the event true", event(map[string]any{logoutEvent: true}), "events does not tell"},
		{"the event a list", event(map[string]any{logoutEvent: []any{}}), "events does not tell"},
		{"the event with something in it", event(map[string]any{logoutEvent: map[string]any{"a": 1}}), "events does not tell"},
		{"a nonce: an ID token", inClaims("nonce", "n"), "no nonce"},
		{"a nonce null", inClaims("nonce", nil), "no nonce"},
		{"no jti", without("jti"), "jti: not a string"},
		{"jti empty", inClaims("jti", ""), "jti: empty"},
		{"jti a number", inClaims("jti", 7), "jti: not a string"},
		{"jti of 256 bytes", inClaims("jti", strings.Repeat("n", 256)), "jti: empty or longer"},
		{"neither sub nor sid", func(d *draft) { delete(d.claims, "sub"); delete(d.claims, "sid") }, "neither sub nor sid"},
		{"sub empty beside a sid", inClaims("sub", ""), "sub: empty"},
		{"sub null beside a sid", inClaims("sub", nil), "sub: not a string"},
		{"sid empty beside a sub", inClaims("sid", ""), "sid: empty"},
		{"sid a number", inClaims("sid", 7), "sid: not a string"},
		{"no exp", without("exp"), "exp: not a number"},
		{"no iat", without("iat"), "iat: not a number"},
		{"iat in the future", func(d *draft) { d.claims["iat"] = noon.Unix() + 6 }, "iat is in the future"},
		{"nbf in the future", inClaims("nbf", noon.Unix()+6), "nbf is in the future"},
		{"made for too long", inClaims("exp", noon.Unix()+86401), "made to live longer"},
		{"too long ago", func(d *draft) { d.claims["iat"], d.claims["exp"] = noon.Unix()-305, noon.Unix()+60 }, "made more than 5m0s ago"},
		{"over", func(d *draft) { d.claims["iat"], d.claims["exp"] = noon.Unix()-60, noon.Unix()-5 }, "expired_token"},
		{"an unknown key", inHeader("kid", "a2"), `key "a2" is not known`},
		{"another's key", func(d *draft) { d.private = globexRSA() }, "the signature is not the key's"},
		{"a name that stands twice", claimText(`"jti"`, `"sub":"auth0|bob","jti"`), "stands twice"},
	} {
		t.Run(r.name, func(t *testing.T) {
			d := newLogout(noon)
			r.change(d)
			token := d.mint()
			out, err := v.VerifyLogout(t.Context(), broker.NewSecret(token))
			class := broker.ErrInvalidToken
			switch {
			case token == "":
				class = broker.ErrMissingToken
			case r.reason == "expired_token":
				class = broker.ErrExpiredToken
			}
			refused(t, err, class, r.reason)
			if out != (broker.Logout{}) {
				t.Errorf("something of it is there: %+v", out)
			}
			keepsQuiet(t, err, token)
		})
	}
}

// One is not the other, whatever their audiences are: each is refused in the
// other's place.
func TestALogoutTokenIsNoAccessToken(t *testing.T) {
	cfg := config(newOrigin())
	cfg.Issuers[0].LogoutAudiences = []string{audience}
	v := started(t, cfg)
	for _, typ := range []any{"JWT", nil} {
		out, in := newLogout(noon), newDraft(noon)
		out.claims["aud"], in.claims["jti"] = audience, "j"
		for _, d := range []*draft{out, in} {
			if d.header["typ"] = typ; typ == nil {
				delete(d.header, "typ")
			}
		}
		if _, err := v.VerifyLogout(t.Context(), broker.NewSecret(out.mint())); err != nil {
			t.Errorf("typ %v: %v", typ, err)
		}
		if _, err := v.Verify(t.Context(), broker.NewSecret(in.mint())); err != nil {
			t.Errorf("typ %v: %v", typ, err)
		}
		_, err := v.Verify(t.Context(), broker.NewSecret(out.mint()))
		refused(t, err, broker.ErrInvalidToken, "security event token")
		_, err = v.VerifyLogout(t.Context(), broker.NewSecret(in.mint()))
		refused(t, err, broker.ErrInvalidToken, "events does not tell")
	}
}

// So long a token has to be remembered: it is taken up to the moment before, and
// refused from there on, to the nanosecond.
func TestALogoutTokenIsRefusedFromItsEndOn(t *testing.T) {
	for _, life := range []int64{1, 120, 300, 301, 3600} {
		now := noon
		v := hearing(t, &now)
		d := newLogout(noon)
		d.claims["exp"] = noon.Unix() + life
		token := broker.NewSecret(d.mint())
		out, err := v.VerifyLogout(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		if want := noon.Add(time.Duration(min(life, 300)+5) * time.Second); !out.Until.Equal(want) {
			t.Errorf("a life of %d s: until %s", life, out.Until)
		}
		now = out.Until.Add(-1)
		if _, err := v.VerifyLogout(t.Context(), token); err != nil {
			t.Errorf("a life of %d s: before its end: %v", life, err)
		}
		now = out.Until
		if _, err := v.VerifyLogout(t.Context(), token); err == nil {
			t.Errorf("a life of %d s: taken on its end", life)
		}
	}
}

func TestALogoutTokenWaitsForKeysAsOthersDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config(newOrigin())
		cfg.Issuers[0].LogoutAudiences = []string{"spa"}
		v, err := idtoken.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		_, err = v.VerifyLogout(context.Background(), broker.NewSecret(newLogout(time.Now()).mint()))
		refused(t, err, broker.ErrKeysUnavailable, "no keys yet")
	})
}

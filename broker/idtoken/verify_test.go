package idtoken_test

import (
	"crypto"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"credential-broker/broker"
	"credential-broker/broker/idtoken"
)

// CC06 and CC30 among the rules: names that are cut or trimmed into others, and other
// spellings of one token.
func TestEachRuleRefusesItsToken(t *testing.T) {
	o := newOrigin()
	v := started(t, config(o))
	before := o.all()
	for _, r := range rules() {
		t.Run(r.name, func(t *testing.T) {
			d := newDraft(noon)
			r.change(d)
			token := d.mint()
			id, err := v.Verify(t.Context(), broker.NewSecret(token))
			refused(t, err, broker.ErrInvalidToken, r.reason)
			if diff := cmp.Diff(broker.Identity{}, id); diff != "" {
				t.Errorf("something of the identity is there: %s", diff)
			}
			keepsQuiet(t, err, token)
			again, err := v.Verify(t.Context(), broker.NewSecret(token))
			refused(t, err, broker.ErrInvalidToken, r.reason)
			if diff := cmp.Diff(broker.Identity{}, again); diff != "" {
				t.Errorf("something of the identity is there when it is shown again: %s", diff)
			}
		})
	}
	// All but the tokens of unknown keys are refused before the issuer is asked; for
	// those it is asked once, since the clock stands.
	for _, url := range []string{acme + ".well-known/openid-configuration", acme + "keys"} {
		before[url]++
	}
	if diff := cmp.Diff(before, o.all()); diff != "" {
		t.Errorf("a token caused requests: %s", diff)
	}
}

// keepsQuiet fails if the error holds a part of the token that could be used, or
// text that could break a log.
func keepsQuiet(t *testing.T, err error, token string) {
	t.Helper()
	text := err.Error()
	for part := range strings.SplitSeq(token, ".") {
		if len(part) >= 16 && strings.Contains(text, part[len(part)-16:]) {
			t.Errorf("the error holds a part of the token: %q", text)
		}
	}
	if len(text) > 300 {
		t.Errorf("an error of %d bytes", len(text))
	}
	for _, r := range text {
		if r < ' ' || r > '~' && r != '…' {
			t.Errorf("the error has the character %U", r)
		}
	}
}

func TestHostileTextIsQuotedAndCutInErrors(t *testing.T) {
	v := started(t, config(newOrigin()))
	hostile := "\n\x1b[2J\u202e" + strings.Repeat("<script>", 12)
	for name, change := range map[string]func(*draft){
		"iss": inClaims("iss", hostile),
		"kid": inHeader("kid", hostile),
		"typ": inHeader("typ", hostile),
		"alg": inHeader("alg", hostile),
		"azp": globexWith(inClaims("azp", strings.Repeat("<script>", 30))),
		"a name that stands twice": func(d *draft) {
			d.claimsJSON = func(string) string {
				return "{" + marshal(hostile) + ":1," + marshal(hostile) + ":1}"
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDraft(noon)
			change(d)
			token := d.mint()
			_, err := v.Verify(t.Context(), broker.NewSecret(token))
			refused(t, err, broker.ErrInvalidToken, "…")
			keepsQuiet(t, err, token)
		})
	}
}

func TestGoodTokensAreAccepted(t *testing.T) {
	now := noon.Unix()
	v := started(t, config(newOrigin()))
	accept := map[string]func(*draft){
		"the good token":                         func(*draft) {},
		"no typ":                                 without("typ"),
		"typ at+jwt":                             inHeader("typ", "at+jwt"),
		"typ in any case, with its tree":         inHeader("typ", "Application/AT+JWT"),
		"typ application/jwt":                    inHeader("typ", "application/jwt"),
		"header members of no account":           inHeader("x5t", "abc"),
		"an unknown header member":               inHeader("org", map[string]any{"a": []int{1}}),
		"aud an array":                           inClaims("aud", []string{"https://acme.eu.auth0.com/userinfo", audience}),
		"sub of 255 bytes":                       inClaims("sub", strings.Repeat("s", 255)),
		"sub of a machine":                       inClaims("sub", "abc@clients"),
		"sub with a space within, not ASCII":     inClaims("sub", "ad|Zoë van Dam"),
		"no client":                              without("azp"),
		"client_id in place of azp":              func(d *draft) { delete(d.claims, "azp"); d.claims["client_id"] = "spa" },
		"azp and client_id alike":                inClaims("client_id", "spa"),
		"nbf at the end of the leeway":           inClaims("nbf", now+5),
		"nbf long ago":                           inClaims("nbf", -5),
		"iat at the end of the leeway":           inClaims("iat", now+5),
		"exp at the end of the leeway":           inClaims("exp", now-4),
		"a life of exactly the maximum":          func(d *draft) { d.claims["iat"], d.claims["exp"] = now, now+86400 },
		"another claim in another case":          inClaims("Sub", "auth0|mallory"),
		"a claim name that is escaped":           claimText(`"sub"`, `"s\u0075b"`),
		"a surrogate pair":                       claimText("{", `{"x":"\ud83d\ude00",`),
		"nested as deeply as can be":             claimText("{", `{"deep":`+nested(15)+`,`),
		"white space between the claims":         claimText("{", "\r\n\t { "),
		"AWS tags":                               inClaims("https://aws.amazon.com/tags", map[string]any{"principal_tags": map[string]any{"tenant": []string{"org_acme"}}}),
		"a client in the list":                   globexWith(inClaims("azp", "reports")),
		"any configured audience":                globexWith(inClaims("aud", "other")),
		"a token of exactly 8192 bytes":          fill(8192),
		"the claims of the good token, reversed": func(d *draft) { d.claimsJSON = func(string) string { return reversed(d.claims) } },
	}
	for _, alg := range []string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512"} {
		accept[alg] = func(d *draft) { d.ofGlobex(alg) }
	}
	for name, change := range accept {
		t.Run(name, func(t *testing.T) {
			d := newDraft(noon)
			change(d)
			id, err := v.Verify(t.Context(), broker.NewSecret(d.mint()))
			if err != nil {
				t.Fatal(err)
			}
			if id.Subject != d.claims["sub"] || id.Issuer != d.claims["iss"] {
				t.Errorf("got %s of %s, want %s of %s", id.Subject, id.Issuer, d.claims["sub"], d.claims["iss"])
			}
		})
	}
}

// fill makes a token of so many bytes. Three bytes of payload are four of token,
// so that not every length can be had by the payload alone.
func fill(size int) func(*draft) {
	return func(d *draft) {
		for _, more := range []string{"", "x", "xx"} {
			d.header["pad"], d.claims["pad"] = more, ""
			d.claims["pad"] = strings.Repeat("x", (size-len(d.mint()))/4*3)
			for range 3 {
				if len(d.mint()) == size {
					return
				}
				d.claims["pad"] = d.claims["pad"].(string) + "x"
			}
		}
		panic(fmt.Sprint("no token of ", size))
	}
}

func reversed(claims map[string]any) string {
	members := strings.Split(strings.Trim(marshal(claims), "{}"), `,"`)
	for i, m := range members {
		members[i] = `"` + strings.TrimPrefix(m, `"`)
	}
	for i, j := 0, len(members)-1; i < j; i, j = i+1, j-1 {
		members[i], members[j] = members[j], members[i]
	}
	return "{" + strings.Join(members, ",") + "}"
}

func TestAnIdentityIsWhatTheTokenSays(t *testing.T) {
	v := started(t, config(newOrigin()))
	d := newDraft(noon)
	d.claims["aud"] = []string{"x", audience}
	d.claims["exp"] = noon.Unix() - 3 // alive by the leeway alone
	d.claims["n"] = json.RawMessage("9007199254740993")
	got, err := v.Verify(t.Context(), broker.NewSecret(d.mint()))
	if err != nil {
		t.Fatal(err)
	}
	want := broker.Identity{
		Issuer: acme, Subject: "auth0|alice", Client: "spa", Audience: []string{"x", audience},
		Expiry: noon.Add(-3 * time.Second), // the leeway lengthens nothing
		Claims: broker.Claims{
			"iss": acme, "sub": "auth0|alice", "azp": "spa", "aud": []any{"x", audience}, "org_id": "org_acme",
			"iat": json.Number(fmt.Sprint(noon.Unix() - 60)), "exp": json.Number(fmt.Sprint(noon.Unix() - 3)),
			"n": json.Number("9007199254740993"),
		},
		KeyID: "a1", KeyThumbprint: thumbprint(jwkOf("a1", acmeRSA())),
	}
	nothingDecided := cmp.Comparer(func(_, _ *broker.Plans) bool { return true })
	if diff := cmp.Diff(want, got, nothingDecided); diff != "" {
		t.Error(diff)
	}
}

// thumbprint follows RFC 7638 §3 to the letter.
func thumbprint(jwk map[string]any) string {
	sum := sha256.Sum256(fmt.Appendf(nil, `{"e":%q,"kty":%q,"n":%q}`, jwk["e"], jwk["kty"], jwk["n"]))
	return b64(sum[:])
}

// CC22: what was given for a token of a key is found by tokens of that key alone,
// whatever its name.
func TestAnIdentityNamesTheKeyThatProvedIt(t *testing.T) {
	inRoom(t, func(t *testing.T, r *room) {
		identify := func(change ...func(*draft)) (id, thumbprint string) {
			t.Helper()
			d := newDraft(time.Now())
			for _, c := range change {
				c(d)
			}
			got, err := r.v.Verify(t.Context(), broker.NewSecret(d.mint()))
			if err != nil {
				t.Fatal(err)
			}
			return got.KeyID, got.KeyThumbprint
		}
		globexs := func(d *draft) { d.private = globexRSA() }
		id, first := identify()
		if id != "a1" || first != thumbprint(jwkOf("a1", acmeRSA())) {
			t.Errorf("key %s %s", id, first)
		}
		r.origin.serve(acme, jwks(jwkOf("a1", globexRSA()), jwkOf("a2", globexRSA())))
		r.after(5*time.Minute + 30*time.Second)
		id, second := identify(globexs)
		if id != "a1" || second != thumbprint(jwkOf("", globexRSA())) || second == first {
			t.Errorf("replaced under its name: key %s %s", id, second)
		}
		if id, third := identify(kid("a2"), globexs); id != "a2" || third != second {
			t.Errorf("under another name: key %s %s", id, third)
		}
	})
}

func TestNoTokenIsAMissingToken(t *testing.T) {
	_, err := started(t, config(newOrigin())).Verify(t.Context(), broker.Secret{})
	refused(t, err, broker.ErrMissingToken, "")
}

func TestAnExpiredTokenIsCalledSoOnlyIfAllElseIsRight(t *testing.T) {
	v := started(t, config(newOrigin()))
	expired := func(d *draft) { d.claims["iat"], d.claims["exp"] = noon.Unix()-3600, noon.Unix()-5 }
	for name, c := range map[string]struct {
		change func(*draft)
		class  broker.Class
	}{
		"at exp + leeway":           {func(*draft) {}, broker.ErrExpiredToken},
		"whatever its signature is": {func(d *draft) { d.private = globexRSA() }, broker.ErrExpiredToken},
		"whatever its key is":       {inHeader("kid", "a2"), broker.ErrExpiredToken},
		"another audience":          {inClaims("aud", "x"), broker.ErrInvalidToken},
		"another issuer":            {inClaims("iss", "x"), broker.ErrInvalidToken},
		"another algorithm":         {inHeader("alg", "none"), broker.ErrInvalidToken},
		"no subject":                {without("sub"), broker.ErrInvalidToken},
		"made for too long":         {inClaims("iat", 1), broker.ErrInvalidToken},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDraft(noon)
			expired(d)
			c.change(d)
			_, err := v.Verify(t.Context(), broker.NewSecret(d.mint()))
			refused(t, err, c.class, "")
		})
	}
}

func TestTheClockIsReadToTheLastMoment(t *testing.T) {
	for _, c := range []struct {
		after  time.Duration // after noon
		leeway time.Duration
		exp    int64 // after noon, in seconds
		alive  bool
	}{
		{0, time.Second, 0, true},
		{time.Second - 1, time.Second, 0, true},
		{time.Second, time.Second, 0, false},
		{59 * time.Second, time.Minute, 0, true},
		{time.Minute, time.Minute, 0, false},
		{0, 1, 0, true}, // the least leeway: a nanosecond
		{1, 1, 0, false},
	} {
		now := noon
		cfg := config(newOrigin())
		cfg.Leeway = c.leeway
		v := startedAt(t, cfg, func() time.Time { return now })
		now = noon.Add(c.after)
		d := newDraft(noon)
		d.claims["exp"] = noon.Unix() + c.exp
		_, err := v.Verify(t.Context(), broker.NewSecret(d.mint()))
		if alive := err == nil; alive != c.alive {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// Threat case DS13: what a token costs at its first sight, and each time after it;
// and what a forged one does.
func BenchmarkVerify(b *testing.B) {
	cfg := config(newOrigin())
	cfg.Remember = 0
	rules, memory := started(b, cfg), started(b, config(newOrigin()))
	for _, alg := range []string{"RS256", "ES256"} {
		d := newDraft(noon)
		d.ofGlobex(alg)
		d.claims["permissions"] = []string{"upload:files", "read:files", "list:files"}
		d.claims["scope"] = "openid profile email " + strings.Repeat("upload:files ", 20)
		good := broker.NewSecret(d.mint())
		d.private = newOf(alg)
		forged := broker.NewSecret(d.mint())
		for _, bench := range []struct {
			name  string
			v     *idtoken.Verifier
			token broker.Secret
			good  bool
		}{
			{"first", rules, good, true}, {"again", memory, good, true}, {"forged", rules, forged, false}, {"forged again", memory, forged, false},
		} {
			b.Run(alg+" "+bench.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := bench.v.Verify(b.Context(), bench.token); (err == nil) != bench.good {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// newOf is another key of an algorithm.
func newOf(alg string) crypto.Signer {
	if alg == "ES256" {
		return newECDSA(elliptic.P256())
	}
	return newRSA(2048)
}

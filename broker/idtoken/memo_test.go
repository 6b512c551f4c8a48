package idtoken_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"credential-broker/broker"
	"credential-broker/broker/idtoken"
)

// remembered reports whether a verdict came from what is remembered: by the rules,
// it takes two parses and some hundred allocations.
func remembered(t *testing.T, v *idtoken.Verifier, token broker.Secret) bool {
	t.Helper()
	ctx := t.Context()
	return testing.AllocsPerRun(10, func() { _, _ = v.Verify(ctx, token) }) < 3
}

func TestATokenThatIsShownAgainGivesTheSameIdentity(t *testing.T) {
	v := started(t, config(newOrigin()))
	token := secretOf(newDraft(noon))
	first, err := v.Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	again, err := v.Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	same := cmp.Comparer(func(a, b *broker.Plans) bool { return a == b && a != nil })
	if diff := cmp.Diff(first, again, same); diff != "" {
		t.Error(diff)
	}
	// What is decided for one token is kept with it, and with no other.
	other, err := v.Verify(t.Context(), secretOf(newDraft(noon.Add(-time.Second))))
	if err != nil || other.Plans == nil || other.Plans == first.Plans {
		t.Errorf("plans of another token: %v, %v", other.Plans == first.Plans, err)
	}
	if !remembered(t, v, token) {
		t.Error("it was checked by the rules again")
	}
}

// What tokens have in common is held once, and only where they have it: whatever else
// is in a token than in the one before, what is remembered of it is its own.
func TestWhatTokensHaveInCommonIsHeldOnce(t *testing.T) {
	o := newOrigin()
	o.serve(acme, jwks(jwkOf("a1", acmeRSA()), jwkOf("a2", acmeRSA())))
	o.serve(globex, jwks(jwkOf("a1", acmeRSA()), jwkOf("b-RS256", globexRSA())))
	cfg := config(o)
	cfg.Claims = []string{"org_id", "permissions", "n"}
	cfg.Issuers[0].Audiences = append(cfg.Issuers[0].Audiences, "https://other")
	v, anew := started(t, cfg), cfg
	anew.Remember = 0
	rules := started(t, anew)
	verify := func(v *idtoken.Verifier, d *draft) broker.Identity {
		t.Helper()
		token := secretOf(d)
		if _, err := v.Verify(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		id, err := v.Verify(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	for name, tc := range map[string]struct {
		change func(*draft)
		common bool
	}{
		"subject":           {func(d *draft) { d.claims["sub"] = "auth0|other" }, true},
		"what is not kept":  {func(d *draft) { d.claims["jti"] = "other" }, true},
		"a longer life":     {func(d *draft) { d.claims["exp"] = d.claims["exp"].(int64) + 1 }, true},
		"tenant":            {func(d *draft) { d.claims["org_id"] = "org_other" }, false},
		"permissions":       {func(d *draft) { d.claims["permissions"] = []string{"other"} }, false},
		"two in one":        {func(d *draft) { d.claims["permissions"] = []string{"a,b"} }, false},
		"two":               {func(d *draft) { d.claims["permissions"] = []string{"a", "b"} }, false},
		"a number":          {func(d *draft) { d.claims["n"] = 1 }, false},
		"a number as text":  {func(d *draft) { d.claims["n"] = "1" }, false},
		"null":              {func(d *draft) { d.claims["n"] = nil }, false},
		"client":            {func(d *draft) { d.claims["azp"] = "other" }, false},
		"audience":          {func(d *draft) { d.claims["aud"] = "https://other" }, false},
		"key":               {func(d *draft) { d.header["kid"] = "a2" }, false},
		"issuer":            {func(d *draft) { d.ofGlobex("RS256") }, false},
		"issuer alone":      {func(d *draft) { d.claims["iss"] = globex }, false},
		"audience, twofold": {func(d *draft) { d.claims["aud"] = []string{"https://other", audience} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			first, d := verify(v, newDraft(noon)), newDraft(noon)
			tc.change(d)
			got, want := verify(v, d), verify(rules, d)
			if diff := cmp.Diff(want, got, cmp.Comparer(func(_, _ *broker.Plans) bool { return true })); diff != "" {
				t.Error(diff)
			}
			if common := unsafe.SliceData(first.Audience) == unsafe.SliceData(got.Audience); common != tc.common {
				t.Errorf("in common: %t", common)
			}
		})
	}
}

func TestNothingIsRememberedWithoutPlaces(t *testing.T) {
	cfg := config(newOrigin())
	cfg.Remember = 0
	v := started(t, cfg)
	for _, d := range []*draft{newDraft(noon), forged(noon)} {
		token := secretOf(d)
		_, _ = v.Verify(t.Context(), token)
		if remembered(t, v, token) {
			t.Error("a verdict is remembered")
		}
	}
}

// forged is a good token under another's signature.
func forged(now time.Time) *draft {
	d := newDraft(now)
	d.private = globexRSA()
	return d
}

// An entry is of the very bytes: whatever is changed in a token that is remembered
// has the rules speak.
func TestAnotherByteIsAnotherToken(t *testing.T) {
	v := started(t, config(newOrigin()))
	good := newDraft(noon).mint()
	if _, err := v.Verify(t.Context(), broker.NewSecret(good)); err != nil {
		t.Fatal(err)
	}
	for at := range len(good) {
		other := []byte(good)
		other[at] ^= 1
		if _, err := v.Verify(t.Context(), broker.NewSecret(string(other))); !errors.Is(err, broker.ErrInvalidToken) {
			t.Fatalf("byte %d changed: %v", at, err)
		}
	}
	for _, other := range []string{good[:len(good)-1], good + "A", good + "."} {
		if _, err := v.Verify(t.Context(), broker.NewSecret(other)); !errors.Is(err, broker.ErrInvalidToken) {
			t.Fatalf("another length: %v", err)
		}
	}
}

// The leeway is the rules': up to exp the memory speaks, from then on they do.
func TestWhatIsRememberedEndsOnTheSecond(t *testing.T) {
	now := noon
	v := startedAt(t, config(newOrigin()), func() time.Time { return now })
	d := newDraft(noon)
	token, exp := secretOf(d), time.Unix(d.claims["exp"].(int64), 0)
	for _, step := range []struct {
		at         time.Time
		class      error
		remembered bool
	}{
		{noon, nil, true},
		{exp.Add(-1), nil, true},
		{exp, nil, false}, // within the leeway
		{exp.Add(idtoken.DefaultLeeway - 1), nil, false},
		{exp.Add(idtoken.DefaultLeeway), broker.ErrExpiredToken, false},
	} {
		now = step.at
		_, err := v.Verify(t.Context(), token)
		if !errors.Is(err, step.class) {
			t.Errorf("at exp%+d s: %v, want %v", int(step.at.Sub(exp).Seconds()), err, step.class)
		}
		if got := remembered(t, v, token); got != step.remembered {
			t.Errorf("at exp%+d s: remembered: %t", int(step.at.Sub(exp).Seconds()), got)
		}
	}
}

// A clock that was ahead has let a token in too early. Set right, it does not.
func TestAClockThatIsSetBackIsAskedAgain(t *testing.T) {
	for _, claim := range []string{"iat", "nbf"} {
		now := noon
		v := startedAt(t, config(newOrigin()), func() time.Time { return now })
		d := newDraft(noon)
		d.claims[claim] = noon.Unix()
		token := secretOf(d)
		if _, err := v.Verify(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		now = noon.Add(-time.Nanosecond)
		if remembered(t, v, token) {
			t.Errorf("%s: remembered before the token's own time", claim)
		}
		now = noon.Add(-idtoken.DefaultLeeway - time.Second)
		_, err := v.Verify(t.Context(), token)
		refused(t, err, broker.ErrInvalidToken, claim+" is in the future")
	}
}

func TestWhatIsRememberedGoesWithItsKey(t *testing.T) {
	for _, test := range []struct {
		name, set, reason string
	}{
		{"withdrawn", jwks(jwkOf("a2", globexRSA())), "is not known"},
		{"replaced under its name", jwks(jwkOf("a1", globexRSA())), "the signature is not the key's"},
		{"for another algorithm", jwks(jwkOf("a1", acmeRSA(), "alg", "RS512")), "is not the key's"},
	} {
		t.Run(test.name, func(t *testing.T) {
			inRoom(t, func(t *testing.T, r *room) {
				d := newDraft(time.Now())
				d.claims["exp"] = time.Now().Add(time.Hour).Unix()
				token := secretOf(d)
				if _, err := r.v.Verify(t.Context(), token); err != nil {
					t.Fatal(err)
				}
				r.origin.serve(acme, test.set)
				r.after(6 * time.Minute) // more than a refresh
				_, err := r.v.Verify(t.Context(), token)
				refused(t, err, broker.ErrInvalidToken, test.reason)
			})
		})
	}
}

// What tokens have in common is not what those of the key before it had, whatever its
// name.
func TestWhatTokensHaveInCommonGoesWithItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, newOrigin())
		v, err := idtoken.New(idtoken.Config{
			Transport: r.origin, Remember: 100, Claims: []string{"org_id"},
			Issuers: []idtoken.Issuer{{URL: acme, Audiences: []string{audience}, Algorithms: []string{"RS256"}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		token := func(subject string, change func(*draft)) broker.Secret {
			d := newDraft(time.Now())
			d.claims["sub"] = subject
			change(d)
			return secretOf(d)
		}
		if _, err := v.Verify(t.Context(), token("auth0|before", func(*draft) {})); err != nil {
			t.Fatal(err)
		}
		r.origin.serve(acme, jwks(jwkOf("a1", globexRSA())))
		r.after(6 * time.Minute) // more than a refresh
		after := token("auth0|after", func(d *draft) { d.private = globexRSA() })
		first, err := v.Verify(t.Context(), after)
		if err != nil {
			t.Fatal(err)
		}
		again, err := v.Verify(t.Context(), after)
		if err != nil || again.KeyThumbprint != first.KeyThumbprint {
			t.Errorf("the key is %q, then %q: %v", first.KeyThumbprint, again.KeyThumbprint, err)
		}
		if !remembered(t, v, after) {
			t.Error("it was checked by the rules again")
		}
	})
}

func TestWhatIsRememberedIsNotBelievedOnStaleKeys(t *testing.T) {
	inRoom(t, func(t *testing.T, r *room) {
		r.origin.set(acme+"keys", status(500))
		d := newDraft(time.Now())
		d.claims["iat"] = time.Now().Add(23 * time.Hour).Unix()
		d.claims["exp"] = time.Now().Add(26 * time.Hour).Unix()
		token := secretOf(d)
		r.after(23 * time.Hour)
		if _, err := r.v.Verify(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		r.after(2 * time.Hour)
		if _, err := r.v.Verify(t.Context(), token); !errors.Is(err, broker.ErrKeysUnavailable) {
			t.Fatalf("the keys are 25 h old: %v", err)
		}
	})
}

// A token is good or forged by the key of its name, and that may change.
func TestAForgeryIsRememberedAsLongAsTheKeyIsTheSame(t *testing.T) {
	inRoom(t, func(t *testing.T, r *room) {
		d := forged(time.Now())
		token := secretOf(d)
		_, err := r.v.Verify(t.Context(), token)
		refused(t, err, broker.ErrInvalidToken, "the signature is not the key's")
		if !remembered(t, r.v, token) {
			t.Error("it was checked by the rules again")
		}
		r.origin.serve(acme, jwks(jwkOf("a1", globexRSA())))
		r.after(6 * time.Minute)
		if _, err := r.v.Verify(t.Context(), token); err != nil {
			t.Errorf("the key is another: %v", err)
		}
	})
}

// A key that comes late makes its tokens good: that it was not known is not
// remembered.
func TestARefusalThatMayPassIsNotRemembered(t *testing.T) {
	now := noon
	o := newOrigin()
	v := startedAt(t, config(o), func() time.Time { return now })
	early := newDraft(noon.Add(time.Hour))
	early.claims["iat"] = noon.Add(time.Minute).Unix()
	for name, d := range map[string]*draft{"early": early, "unknown key": func() *draft { d := newDraft(noon); kid("a9")(d); return d }()} {
		token := secretOf(d)
		if _, err := v.Verify(t.Context(), token); err == nil {
			t.Fatalf("%s: accepted", name)
		}
		if remembered(t, v, token) {
			t.Errorf("%s: the refusal is remembered", name)
		}
	}
	now = noon.Add(time.Minute)
	if _, err := v.Verify(t.Context(), secretOf(early)); err != nil {
		t.Errorf("in its time: %v", err)
	}
}

func TestAFloodOfForgeriesCrowdsOutNoGoodToken(t *testing.T) {
	v := started(t, config(newOrigin()))
	good := secretOf(newDraft(noon))
	if _, err := v.Verify(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	last := newDraft(noon).mint()
	signed := last[:len(last)-342] // 256 bytes of RS256 in base64
	for i := range 1100 {          // more than there are places for
		signature := make([]byte, 256)
		signature[0], signature[1], signature[2] = byte(i), byte(i>>8), 1
		_, err := v.Verify(t.Context(), broker.NewSecret(signed+b64(signature)))
		refused(t, err, broker.ErrInvalidToken, "the signature is not the key's")
	}
	if !remembered(t, v, good) {
		t.Error("the good token is forgotten")
	}
}

func TestNoMoreTokensAreRememberedThanThereArePlaces(t *testing.T) {
	cfg := config(newOrigin())
	cfg.Remember = 2
	v := started(t, cfg)
	for i := range 3 {
		d := newDraft(noon)
		d.claims["sub"] = fmt.Sprint("user ", i)
		if _, err := v.Verify(t.Context(), secretOf(d)); err != nil {
			t.Fatal(err)
		}
	}
	if n := v.Remembered(); n != 2 {
		t.Errorf("%d of 3 are remembered, with 2 places", n)
	}
}

// Another configuration begins with nothing remembered, though the keys are taken
// over.
func TestANewVerifierRemembersNothing(t *testing.T) {
	cfg := config(newOrigin())
	old := started(t, cfg)
	token := secretOf(newDraft(noon))
	if _, err := old.Verify(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	cfg.Issuers[0].Audiences = []string{"another"}
	cfg.Previous = old
	_, err := started(t, cfg).Verify(t.Context(), token)
	refused(t, err, broker.ErrInvalidToken, "no configured audience")
}

// An access token that is remembered is no logout token, nor the other way round.
func TestALogoutTokenIsNotRemembered(t *testing.T) {
	now := noon
	v := hearing(t, &now)
	of := newDraft(noon)
	of.claims["azp"] = "of access tokens only"
	access, logout := secretOf(of), secretOf(newLogout(noon))
	for range 2 {
		if _, err := v.Verify(t.Context(), access); err != nil {
			t.Fatal(err)
		}
		if _, err := v.VerifyLogout(t.Context(), access); !errors.Is(err, broker.ErrInvalidToken) {
			t.Fatalf("an access token tells of a log-out: %v", err)
		}
		if _, err := v.VerifyLogout(t.Context(), logout); err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(t.Context(), logout); !errors.Is(err, broker.ErrInvalidToken) {
			t.Fatalf("a logout token gives access: %v", err)
		}
	}
}

func TestAnIdentityHasTheClaimsThatAreAskedForAndNoOthers(t *testing.T) {
	cfg := config(newOrigin())
	cfg.Claims = []string{"org_id", "absent"}
	v := started(t, cfg)
	for range 2 { // by the rules, and remembered
		id, err := v.Verify(context.Background(), secretOf(newDraft(noon)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(broker.Claims{"org_id": "org_acme"}, id.Claims); diff != "" {
			t.Error(diff)
		}
	}
}

// BenchmarkRemembered prints what a remembered token costs, without what is decided
// for it: one that has its claims in common with others, and ones that have not.
func BenchmarkRemembered(b *testing.B) {
	heap := func() float64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	for name, own := range map[string]int{"in-common": 0, "5-of-its-own": 5, "60-of-its-own": 60} {
		b.Run(name, func(b *testing.B) {
			cfg := config(newOrigin())
			const tokens = 1000
			cfg.Remember, cfg.Claims = tokens, []string{"org_id", "permissions", "sid"}
			v := started(b, cfg)
			drafts := make([]broker.Secret, tokens)
			for n := range drafts {
				d, permissions := newDraft(noon), []string{"a", "b", "c", "d", "e"}
				for i := range own {
					permissions = append(permissions[:i:i], fmt.Sprintf("upload:files:%05d-%d", n, i))
				}
				d.claims["permissions"], d.claims["sub"] = permissions, fmt.Sprintf("auth0|%024d", n)
				drafts[n] = secretOf(d)
			}
			var each float64
			for b.Loop() {
				before := heap()
				for _, token := range drafts {
					if _, err := v.Verify(b.Context(), token); err != nil {
						b.Fatal(err)
					}
				}
				each = max(each, (heap()-before)/tokens)
			}
			runtime.KeepAlive(v)
			b.ReportMetric(each, "B/token")
			b.ReportMetric(0, "ns/op")
		})
	}
}

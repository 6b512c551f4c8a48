package credcache_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/credcache"
	"credential-broker/broker/idtoken"
	"credential-broker/policy"
)

// said is a verifier that believes what it is told.
type said struct {
	identity broker.Identity
	err      error
}

func (s *said) Verify(context.Context, broker.Secret) (broker.Identity, error) {
	return s.identity, s.err
}

func uploads(t *testing.T, change func(*broker.Grant)) broker.Grant {
	t.Helper()
	role, err := broker.ParseRoleARN("arn:aws:iam::123456789012:role/uploads")
	if err != nil {
		t.Fatal(err)
	}
	g := broker.Grant{
		Name: "uploads", Match: broker.Match{Permissions: []string{"upload:files"}}, RoleARN: role, Tenant: broker.TenantRule{Claim: "org_id"},
		Bucket: bucket(t, "acme-uploads"), Region: "eu-west-1", Prefix: prefix(t, "tenants/{tenant}/"), Access: policy.Read | policy.Write, Duration: time.Hour,
	}
	if change != nil {
		change(&g)
	}
	return g
}

func bucket(t testing.TB, s string) policy.BucketTemplate {
	t.Helper()
	b, err := policy.ParseBucketTemplate(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func prefix(t testing.TB, s string) policy.Template {
	t.Helper()
	p, err := policy.ParseTemplate(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func alice(permissions ...any) broker.Identity {
	return broker.Identity{
		Issuer: "https://i/", Subject: "alice", Client: "c", Audience: []string{"https://api"}, Expiry: time.Now().Add(24 * time.Hour),
		Claims: broker.Claims{"org_id": "org_acme", "permissions": permissions},
	}
}

// exchange is a whole broker around the cache, of a configuration.
func exchange(t *testing.T, revision string, v broker.Verifier, cache broker.Issuer, grants ...broker.Grant) (broker.Credentials, error) {
	t.Helper()
	b, err := broker.New(broker.Config{Revision: revision, Grants: grants, Verifier: v, Issuer: cache, Auditor: broker.NewAuditLog(io.Discard)})
	if err != nil {
		t.Fatal(err)
	}
	return b.Exchange(t.Context(), broker.Request{Token: broker.NewSecret("a.b.c")})
}

// CC07
func TestATokenThatHasExpiredGetsNothingOfWhatIsHeld(t *testing.T) {
	i := &issuer{}
	c, v := newCache(t, i, 10), &said{identity: alice("upload:files")}
	if _, err := exchange(t, "r1", v, c, uploads(t, nil)); err != nil {
		t.Fatal(err)
	}
	v.err = broker.ErrExpiredToken
	got, err := exchange(t, "r1", v, c, uploads(t, nil))
	if broker.ClassOf(err) != broker.ErrExpiredToken || got != (broker.Credentials{}) || c.Len() != 1 || i.calls.Load() != 1 {
		t.Errorf("got %v, %v", got, err)
	}
}

// CC08: the entries of the wider token are still held.
func TestATokenWithFewerPermissionsNeverGetsTheWiderCredentials(t *testing.T) {
	i := &issuer{}
	c, v := newCache(t, i, 10), &said{identity: alice("upload:files", "read:files")}
	grants := []broker.Grant{
		uploads(t, nil),
		uploads(t, func(g *broker.Grant) {
			g.Name, g.Match, g.Access = "reads", broker.Match{Permissions: []string{"read:files"}}, policy.Read
		}),
	}
	wide, err := exchange(t, "r1", v, c, grants...)
	if err != nil {
		t.Fatal(err)
	}
	v.identity = alice("read:files")
	narrow, err := exchange(t, "r1", v, c, grants...)
	if err != nil || narrow.AccessKeyID == wide.AccessKeyID || narrow.Scope.S3.Access != policy.Read || c.Len() != 2 {
		t.Errorf("got %s for %s, %v", narrow.AccessKeyID, narrow.Scope.S3.Access, err)
	}
	v.identity = alice()
	if got, err := exchange(t, "r1", v, c, grants...); broker.ClassOf(err) != broker.ErrNoGrant || got != (broker.Credentials{}) {
		t.Errorf("got %v, %v", got, err)
	}
}

// CC21: a cache lives for one configuration; but even one that did not, under a
// revision that did not change, would not give what was made for another scope.
func TestAChangedConfigurationReachesNoOldEntry(t *testing.T) {
	role, _ := broker.ParseRoleARN("arn:aws:iam::123456789012:role/other")
	for name, tc := range map[string]struct {
		revision string
		change   func(*broker.Grant)
	}{
		"role":     {"r1", func(g *broker.Grant) { g.RoleARN = role }},
		"template": {"r1", func(g *broker.Grant) { g.Prefix = prefix(t, "other/{tenant}/") }},
		"duration": {"r1", func(g *broker.Grant) { g.Duration = 2 * time.Hour }},
		"bucket":   {"r1", func(g *broker.Grant) { g.Bucket = bucket(t, "other-uploads") }},
		"region":   {"r1", func(g *broker.Grant) { g.Region = "eu-west-2" }},
		"anything": {"r2", nil},
	} {
		t.Run(name, func(t *testing.T) {
			c, v := newCache(t, &issuer{}, 10), &said{identity: alice("upload:files")}
			old, err := exchange(t, "r1", v, c, uploads(t, nil))
			if err != nil {
				t.Fatal(err)
			}
			got, err := exchange(t, tc.revision, v, c, uploads(t, tc.change))
			if err != nil || got.AccessKeyID == old.AccessKeyID || got.Source != broker.FromSTS {
				t.Errorf("got %s from %q, %v", got.AccessKeyID, got.Source, err)
			}
		})
	}
}

// signer is a key of an issuer, and what the issuer publishes of it.
type signer struct {
	private *ecdsa.PrivateKey
	kid     string
}

func newSigner(t *testing.T, kid string) signer {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer{private, kid}
}

func b64(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

func (s signer) jwks(t *testing.T) []byte {
	t.Helper()
	point, err := s.private.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Appendf(nil, `{"keys":[{"kty":"EC","crv":"P-256","alg":"ES256","kid":%q,"x":%q,"y":%q}]}`, s.kid, b64(point[1:33]), b64(point[33:]))
}

func (s signer) token(t *testing.T) broker.Secret {
	t.Helper()
	claims, err := json.Marshal(map[string]any{
		"iss": "https://issuer.example/", "aud": "https://api", "sub": "alice", "org_id": "org_acme", "permissions": []string{"upload:files"},
		"iat": time.Now().Unix(), "exp": time.Now().Add(12 * time.Hour).Unix(),
	})
	if err != nil {
		t.Fatal(err)
	}
	text := b64(fmt.Appendf(nil, `{"alg":"ES256","kid":%q}`, s.kid)) + "." + b64(claims)
	sum := sha256.Sum256([]byte(text))
	r, v, err := ecdsa.Sign(rand.Reader, s.private, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	var signature [64]byte
	r.FillBytes(signature[:32])
	v.FillBytes(signature[32:])
	return broker.NewSecret(text + "." + b64(signature[:]))
}

type serves struct{ body *atomic.Pointer[[]byte] }

func (s serves) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(*s.body.Load())), Request: r}, nil
}

// CC22: with the real verifier. The token of the removed key is refused, and what
// it was given is not found by the same user's token of the key that took its place,
// under another name or under the same.
func TestWhatWasIssuedThroughARemovedKeyIsNotServed(t *testing.T) {
	for _, successor := range []string{"b", "a"} {
		t.Run("by "+successor, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				stolen, next := newSigner(t, "a"), newSigner(t, successor)
				var set atomic.Pointer[[]byte]
				publish := func(s signer) { body := s.jwks(t); set.Store(&body) }
				publish(stolen)
				v, err := idtoken.New(idtoken.Config{
					Transport: serves{&set},
					Issuers: []idtoken.Issuer{{
						URL: "https://issuer.example/", Audiences: []string{"https://api"}, Algorithms: []string{"ES256"}, JWKSURL: "https://issuer.example/keys",
					}},
				})
				if err != nil {
					t.Fatal(err)
				}
				if err := v.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				c := newCache(t, &issuer{}, 10)
				b, err := broker.New(broker.Config{
					Revision: "r1", Grants: []broker.Grant{uploads(t, nil)}, Verifier: v, Issuer: c, Auditor: broker.NewAuditLog(io.Discard),
				})
				if err != nil {
					t.Fatal(err)
				}
				ask := func(s signer) (broker.Credentials, error) {
					return b.Exchange(t.Context(), broker.Request{Token: s.token(t)})
				}
				if _, err := ask(stolen); err != nil {
					t.Fatal(err)
				}
				if got, err := ask(stolen); err != nil || got.Source != broker.FromCache {
					t.Fatalf("from %q: %v", got.Source, err)
				}
				publish(next)
				pass(6 * time.Minute)
				if got, err := ask(stolen); broker.ClassOf(err) != broker.ErrInvalidToken || got != (broker.Credentials{}) {
					t.Errorf("by the removed key: %s, %v", got.AccessKeyID, err)
				}
				if got, err := ask(next); err != nil || got.AccessKeyID != "ASIA2" || got.Source != broker.FromSTS {
					t.Errorf("by its successor: %s from %q, %v", got.AccessKeyID, got.Source, err)
				}
			})
		})
	}
}

// CC24, CC25: no token, no secret and no session token is seen in an error, in what
// an observer is told, or in a cache that somebody prints.
func TestNoSecretIsSeen(t *testing.T) {
	const canary = "canary-7f3a"
	ends := map[string]func(context.Context, broker.Order) error{
		"success":        nil,
		"failure":        func(context.Context, broker.Order) error { return broker.ErrSTSUnavailable },
		"refusal":        func(context.Context, broker.Order) error { return broker.ErrSTSRejected },
		"timeout":        func(ctx context.Context, _ broker.Order) error { <-ctx.Done(); return ctx.Err() },
		"panic":          func(_ context.Context, o broker.Order) error { panic("token " + o.Token.Reveal()) },
		"panic of error": func(_ context.Context, o broker.Order) error { panic(fmt.Errorf("token %s", o.Token.Reveal())) },
		"panic of order": func(_ context.Context, o broker.Order) error { panic(o) },
		"panic by fault": func(_ context.Context, o broker.Order) error { _ = o.Token.Reveal()[len(canary)+7:]; return nil },
		"another's": func(context.Context, broker.Order) error {
			return nil
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var seen bytes.Buffer
				i := &issuer{before: end, change: func(c *broker.Credentials) {
					c.SecretAccessKey, c.SessionToken = broker.NewSecret(canary+"-secret"), broker.NewSecret(canary+"-session")
					if name == "another's" {
						c.SessionName = "cb-bob"
					}
				}}
				cfg := credcache.Config{Issuer: i, Entries: 10, Observe: func(s broker.Source, err error) { fmt.Fprint(&seen, s, err) }}
				c := made(t, cfg)
				for range 2 {
					creds, err := c.Issue(t.Context(), order(t, "alice", token(canary+"-token")))
					synctest.Wait()
					if (err == nil) != (name == "success") {
						t.Errorf("got %v", err)
					}
					for _, what := range []any{creds, err, c, cfg} {
						fmt.Fprintf(&seen, "%v %+v %#v %s %q\n", what, what, what, what, what)
						text, _ := json.Marshal(what)
						seen.Write(text)
					}
				}
				if strings.Contains(seen.String(), canary) {
					t.Errorf("seen: %s", seen.String())
				}
			})
		})
	}
}

func TestAPanicIsToldByItsPlaceAndNotByItsWords(t *testing.T) {
	for name, tc := range map[string]struct {
		end  func()
		want string
	}{
		"text":  {func() { panic("a token") }, "the issuer panicked: string at "},
		"error": {func() { panic(errors.New("a token")) }, "the issuer panicked: *errors.errorString at "},
		"fault": {func() { none := strings.Fields(""); _ = none[len(none)] }, "the issuer panicked: runtime error: index out of range [0] with length 0 at "},
	} {
		t.Run(name, func(t *testing.T) {
			i := &issuer{before: func(context.Context, broker.Order) error { tc.end(); return nil }}
			_, err := newCache(t, i, 10).Issue(t.Context(), order(t, "alice", nil))
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "exchange_test.go:") {
				t.Errorf("got %v", err)
			}
		})
	}
}

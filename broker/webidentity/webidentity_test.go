package webidentity_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"credential-broker/broker"
	"credential-broker/broker/webidentity"
	"credential-broker/policy"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 999, time.UTC)

func pkcs8(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func ecKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func rsaKey(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func minter(t testing.TB, issuer string, keys ...[]byte) *webidentity.Minter {
	t.Helper()
	m, err := webidentity.NewMinter(webidentity.Config{
		Issuer: issuer, Audience: "sts.amazonaws.com", Keys: secrets(keys...), Now: func() time.Time { return noon },
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func secrets(pems ...[]byte) []broker.Secret {
	all := make([]broker.Secret, len(pems))
	for i, pem := range pems {
		all[i] = broker.NewSecret(string(pem))
	}
	return all
}

func order(t testing.TB) broker.Order {
	t.Helper()
	tenant, err := policy.ParseTenant("org_acme")
	if err != nil {
		t.Fatal(err)
	}
	role, err := broker.ParseRoleARN("arn:aws:iam::123456789012:role/uploads")
	if err != nil {
		t.Fatal(err)
	}
	return broker.Order{
		Identity: broker.Identity{Issuer: "https://acme.eu.auth0.com/", Subject: "auth0|alice", Audience: []string{"https://api", "https://userinfo"}, Client: "spa"},
		Token:    broker.NewSecret("canary-callers-token"),
		Scope:    broker.Scope{Tenant: tenant, User: policy.UserOf("https://acme.eu.auth0.com/", "auth0|alice"), RoleARN: role},
	}
}

func decode(t testing.TB, part string) string {
	t.Helper()
	data, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

type jwks struct {
	Keys []map[string]string `json:"keys"`
}

func published(t testing.TB, m *webidentity.Minter) jwks {
	t.Helper()
	var set jwks
	if err := json.Unmarshal(m.Documents()["/.well-known/jwks.json"], &set); err != nil {
		t.Fatal(err) // a member that is no text, such as key_ops, fails here too
	}
	return set
}

func TestTheTokenHasTheShapesThatSTSTakes(t *testing.T) {
	key := ecKey(t, elliptic.P256())
	m := minter(t, "https://broker.example", pkcs8(t, key))
	a, err := m.Assert(t.Context(), order(t))
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(a.Token.Reveal(), ".")
	kid := published(t, m).Keys[0]["kid"]
	if diff := cmp.Diff(`{"alg":"ES256","kid":"`+kid+`","typ":"JWT"}`, decode(t, parts[0])); diff != "" {
		t.Error(diff)
	}
	user := policy.UserOf("https://acme.eu.auth0.com/", "auth0|alice").String()
	var claims map[string]any
	if err := json.Unmarshal([]byte(decode(t, parts[1])), &claims); err != nil {
		t.Fatal(err)
	}
	if id, _ := claims["jti"].(string); len(id) != 32 {
		t.Errorf("jti %v", claims["jti"])
	}
	delete(claims, "jti")
	at := float64(noon.Unix())
	want := map[string]any{
		"iss": "https://broker.example", "sub": user, "aud": "sts.amazonaws.com", "iat": at, "nbf": at, "exp": at + 60,
		"https://aws.amazon.com/tags":            map[string]any{"principal_tags": map[string]any{"tenant": []any{"org_acme"}, "user": []any{user}}},
		"https://aws.amazon.com/source_identity": user,
		"https://aws.amazon.com/roles":           "arn:aws:iam::123456789012:role/uploads",
	}
	if diff := cmp.Diff(want, claims); diff != "" {
		t.Error(diff)
	}
	if a.Issuer != "https://broker.example" || a.Subject != user || a.SourceIdentity != user || a.CallersOwn || len(a.Audiences) != 1 || a.Audiences[0] != "sts.amazonaws.com" {
		t.Errorf("%+v", a)
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	signature := []byte(decode(t, parts[2]))
	if !ecdsa.Verify(&key.PublicKey, digest[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) {
		t.Error("the signature is not the key's")
	}
	second, err := m.Assert(t.Context(), order(t))
	if err != nil || second.Token.Reveal() == a.Token.Reveal() {
		t.Errorf("two exchanges have one token: %v", err)
	}
}

func TestTheFirstKeySignsAndAllArePublished(t *testing.T) {
	first, second := rsaKey(t, 2048), ecKey(t, elliptic.P256())
	m := minter(t, "https://broker.example/", pkcs8(t, first), pkcs8(t, second))
	set := published(t, m)
	if len(set.Keys) != 2 || set.Keys[0]["alg"] != "RS256" || set.Keys[1]["alg"] != "ES256" || set.Keys[0]["kid"] == set.Keys[1]["kid"] {
		t.Fatalf("%v", set)
	}
	for i, k := range set.Keys {
		if ids := m.KeyIDs(); len(ids) != 2 || ids[i] != k["kid"] {
			t.Errorf("named %q", ids)
		}
		for _, name := range []string{"d", "p", "q", "dp", "dq", "qi", "key_ops"} {
			if _, ok := k[name]; ok {
				t.Errorf("%s is published", name)
			}
		}
		if k["use"] != "sig" || len(k["kid"]) != 43 {
			t.Errorf("%v", k)
		}
	}
	a, err := m.Assert(t.Context(), order(t))
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(a.Token.Reveal(), ".")
	if diff := cmp.Diff(`{"alg":"RS256","kid":"`+set.Keys[0]["kid"]+`","typ":"JWT"}`, decode(t, parts[0])); diff != "" {
		t.Error(diff)
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err := rsa.VerifyPKCS1v15(&first.PublicKey, crypto.SHA256, digest[:], []byte(decode(t, parts[2]))); err != nil {
		t.Error(err)
	}
	// The same key is published under the same name whatever its file's form.
	again := minter(t, "https://broker.example/", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(first)}))
	if published(t, again).Keys[0]["kid"] != set.Keys[0]["kid"] {
		t.Error("another kid for the same key")
	}
}

func TestTheDiscoveryDocumentHasWhatAWSDemands(t *testing.T) {
	for issuer, path := range map[string]string{
		"https://broker.example": "", "https://broker.example/": "", "https://broker.example/aws": "/aws", "https://broker.example/aws/": "/aws",
	} {
		documents := minter(t, issuer, pkcs8(t, ecKey(t, elliptic.P256()))).Documents()
		var got map[string]any
		if err := json.Unmarshal(documents[path+"/.well-known/openid-configuration"], &got); err != nil {
			t.Fatalf("%s: %v", issuer, err)
		}
		want := map[string]any{
			"issuer": issuer, "jwks_uri": "https://broker.example" + path + "/.well-known/jwks.json",
			"response_types_supported": []any{"id_token"}, "subject_types_supported": []any{"public"}, "id_token_signing_alg_values_supported": []any{"ES256"},
			"claims_supported": []any{
				"iss", "sub", "aud", "iat", "nbf", "exp", "jti", "https://aws.amazon.com/tags", "https://aws.amazon.com/source_identity", "https://aws.amazon.com/roles",
			},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", issuer, diff)
		}
		if documents[path+"/.well-known/jwks.json"] == nil || len(documents) != 2 {
			t.Errorf("%s: %d documents", issuer, len(documents))
		}
	}
}

// Each algorithm is named once, in the order of the keys.
func TestTheDiscoveryDocumentNamesTheAlgorithmsOfAllKeys(t *testing.T) {
	ec := func() []byte { return pkcs8(t, ecKey(t, elliptic.P256())) }
	rs := func() []byte { return pkcs8(t, rsaKey(t, 2048)) }
	for want, keys := range map[string][][]byte{
		"ES256 RS256": {ec(), rs()}, "RS256 ES256": {rs(), ec()}, "ES256": {ec(), ec()},
	} {
		var got struct {
			Algorithms []string `json:"id_token_signing_alg_values_supported"`
		}
		if err := json.Unmarshal(minter(t, "https://b.example", keys...).Documents()["/.well-known/openid-configuration"], &got); err != nil {
			t.Fatal(err)
		}
		if strings.Join(got.Algorithms, " ") != want {
			t.Errorf("%q, want %q", got.Algorithms, want)
		}
	}
}

func TestKeysOfEveryFormAreRead(t *testing.T) {
	key := ecKey(t, elliptic.P256())
	sec1, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})
	parameters := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}})
	for name, data := range map[string][]byte{"SEC1": block, "SEC1 with parameters": append(parameters, block...), "PKCS#8": pkcs8(t, key)} {
		if _, err := webidentity.NewMinter(webidentity.Config{Issuer: "https://b.example", Audience: "a", Keys: secrets(data)}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatCannotSignIsRefused(t *testing.T) {
	good := pkcs8(t, ecKey(t, elliptic.P256()))
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parameters := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6}})
	garbage := func(kind string) func(*webidentity.Config) {
		return func(c *webidentity.Config) {
			c.Keys = secrets(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte("canary")}))
		}
	}
	for name, change := range map[string]func(*webidentity.Config){
		"no issuer":            func(c *webidentity.Config) { c.Issuer = "" },
		"an issuer of a query": func(c *webidentity.Config) { c.Issuer = "https://b.example/?x" },
		"an issuer of a mark":  func(c *webidentity.Config) { c.Issuer = "https://b.example/#x" },
		"an issuer of no host": func(c *webidentity.Config) { c.Issuer = "/b.example" },
		"an issuer of no form": func(c *webidentity.Config) { c.Issuer = "https://b.example/%zz" },
		"no audience":          func(c *webidentity.Config) { c.Audience = "" },
		"no key":               func(c *webidentity.Config) { c.Keys = nil },
		"a key twice":          func(c *webidentity.Config) { c.Keys = secrets(good, good) },
		"not PEM":              func(c *webidentity.Config) { c.Keys = secrets([]byte("canary")) },
		"parameters alone":     func(c *webidentity.Config) { c.Keys = secrets(parameters) },
		"two in one file":      func(c *webidentity.Config) { c.Keys = secrets(append(append([]byte{}, good...), good...)) },
		"a certificate":        garbage("CERTIFICATE"),
		"encrypted":            garbage("ENCRYPTED PRIVATE KEY"),
		"garbage":              garbage("PRIVATE KEY"),
		"garbage, PKCS#1":      garbage("RSA PRIVATE KEY"),
		"garbage, SEC1":        garbage("EC PRIVATE KEY"),
		"P-384":                func(c *webidentity.Config) { c.Keys = secrets(pkcs8(t, ecKey(t, elliptic.P384()))) },
		"Ed25519":              func(c *webidentity.Config) { c.Keys = secrets(pkcs8(t, ed)) },
		"RSA of 1024 bits":     func(c *webidentity.Config) { c.Keys = secrets(pkcs8(t, rsaKey(t, 1024))) },
		"RSA of 4104 bits":     func(c *webidentity.Config) { c.Keys = secrets(pkcs8(t, rsaKey(t, 4104))) },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := webidentity.Config{Issuer: "https://b.example", Audience: "a", Keys: secrets(good)}
			change(&cfg)
			m, err := webidentity.NewMinter(cfg)
			if err == nil || m != nil || strings.Contains(err.Error(), "canary") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAnOrderThatIsNotWholeGetsNoToken(t *testing.T) {
	m := minter(t, "https://b.example", pkcs8(t, ecKey(t, elliptic.P256())))
	for name, change := range map[string]func(*broker.Order){
		"no user":   func(o *broker.Order) { o.Scope.User = policy.User{} },
		"no tenant": func(o *broker.Order) { o.Scope.Tenant = policy.Tenant{} },
		"no role":   func(o *broker.Order) { o.Scope.RoleARN = broker.RoleARN{} },
	} {
		o := order(t)
		change(&o)
		if a, err := m.Assert(t.Context(), o); err == nil || !a.Token.IsZero() {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (webidentity.Forwarder{}).Assert(t.Context(), broker.Order{}); err == nil {
		t.Error("nothing is forwarded")
	}
}

func TestTheCallersTokenIsForwardedAsItIs(t *testing.T) {
	a, err := webidentity.Forwarder{}.Assert(t.Context(), order(t))
	if err != nil {
		t.Fatal(err)
	}
	if a.Token.Reveal() != "canary-callers-token" || a.Issuer != "https://acme.eu.auth0.com/" || a.Subject != "auth0|alice" || a.SourceIdentity != "" || !a.CallersOwn {
		t.Errorf("%+v", a)
	}
	if diff := cmp.Diff([]string{"spa", "https://api", "https://userinfo"}, a.Audiences); diff != "" {
		t.Error(diff)
	}
	o := order(t)
	o.Identity.Client = ""
	if a, _ := (webidentity.Forwarder{}).Assert(t.Context(), o); len(a.Audiences) != 2 {
		t.Errorf("%v", a.Audiences)
	}
}

func TestTheKeyIsNotInWhatIsPrinted(t *testing.T) {
	key := ecKey(t, elliptic.P256())
	data := pkcs8(t, key)
	m := minter(t, "https://b.example", data)
	a, err := m.Assert(t.Context(), order(t))
	if err != nil {
		t.Fatal(err)
	}
	private, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	number := new(big.Int).SetBytes(private).String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
		got := fmt.Sprintf(verb+verb+verb, m, *m, a)
		if strings.Contains(got, number) || strings.Contains(got, fmt.Sprintf("%x", private)) || strings.Contains(got, "eyJ") {
			t.Errorf("%s shows the key or the token", verb)
		}
	}
}

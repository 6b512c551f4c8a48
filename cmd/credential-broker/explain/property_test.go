package explain_test

import (
	"encoding/json"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/brokertest"
	"credential-broker/broker/brokertest/localauth0"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/cmd/credential-broker/explain"
	"credential-broker/cmd/credential-broker/serve"
	"credential-broker/cmd/credential-broker/servetest"
)

// dice throws what a test needs.
type dice struct{ *mathrand.Rand }

func one[T any](d dice, of ...T) T { return of[d.IntN(len(of))] }

func (d dice) some(of ...string) []string {
	return slices.DeleteFunc(slices.Clone(of), func(string) bool { return d.IntN(2) == 0 })
}

func quoted(all []string) string { text, _ := json.Marshal(all); return string(text) }

// configuration is one that anything may stand in.
func (d dice) configuration(issuer, self, sts, key string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `
issuers: [{url: %q, audiences: [%q, "https://second.test"], clients: %s}]
web_identity: {mode: minted, issuer: %q, signing_keys: [%q]}
sts: {region: %s, endpoint: %q, max_concurrent: 64}
limits: {per_subject_per_minute: 1000000, per_tenant_per_minute: 1000000, per_address_failures_per_minute: 1000000, sts_per_second: 1000000}
revoked: {subjects: ["auth0|gone"], tenants: [org_gone]}
grants:
`, issuer, brokertest.Audience, quoted(one(d, nil, []string{"spa", "job"})), self, key, brokertest.Region, sts)
	for i := range 1 + d.IntN(4) {
		tenant := fmt.Sprintf("{claim: %q, pattern: %q}", one(d, "org_id", "org_id", "org_id", "/app/t", "https://acme.test/tenant"), one(d, "org_[a-z]+", "[A-Za-z0-9_-]+"))
		if d.IntN(4) == 0 {
			tenant = "{request: true, pattern: \"org_[a-z]+\"}"
		}
		fmt.Fprintf(&b, `  - name: g%d
    match: {permissions: %s, scopes: %s, claims: %s}
    role_arn: %s
    tenant: %s
    bucket: %q
    region: %s
    prefix: %q
    access: %s
    duration: %s
    bind_source_ip: %t
`, i, quoted(one(d, nil, []string{"upload:files"}, []string{"upload:files"}, []string{"upload:files"}, []string{"admin"})), quoted(one(d, nil, nil, []string{"files"})),
			one(d, "{}", "{}", `{plan: gold}`, `{level: 3, beta: true}`), brokertest.RoleARN, tenant, one(d, brokertest.Bucket, fmt.Sprintf("{tenant}-%d-files", i)),
			brokertest.Region, fmt.Sprintf("g%d/{tenant}/", i)+one(d, "", "{user}/"), quoted(one(d, []string{"read"}, []string{"list", "read"}, []string{"list", "read", "write", "delete"})),
			one(d, "15m", "1h", "12h"), d.IntN(4) == 0)
	}
	return b.String()
}

// claims are those of a good token, and of one with a few changes.
func (d dice) claims(issuer string, now time.Time) map[string]any {
	c := map[string]any{
		"iss": issuer, "aud": brokertest.Audience, "sub": one(d, "auth0|alice", "auth0|bob", "auth0|carol", "auth0|dan", "auth0|erin", "auth0|gone"), "azp": "spa",
		"iat": now.Unix() - 60, "exp": now.Add(one(d, 10*time.Minute, time.Hour, 20*time.Hour)).Unix(),
		"org_id":      one[any](d, "org_acme", "org_acme", "org_acme", "org_acme", "org_acme", "org_acme", "org_globex", "org_globex", "org_gone", "ORG", "org_*", 7, []string{"org_acme"}, "../x", strings.Repeat("o", 70)),
		"permissions": d.some("upload:files", "upload:files", "upload:files", "admin", "admin", "read:other"), "scope": strings.Join(d.some("openid", "files", "files", "files"), " "),
		"plan": one(d, "gold", "gold", "gold", "tin"), "level": one[any](d, 3, 3, 3, 3, 4, "3"), "beta": d.IntN(6) > 0, "app": map[string]any{"t": one[any](d, "org_app", "org_app", "org_app", "org_app", nil)},
		"https://acme.test/tenant": "org_url",
	}
	change := map[string]any{
		"iss": "https://evil.test/", "aud": one[any](d, "https://other.test", []string{"https://second.test", "x"}, 5), "exp": one[any](d, now.Unix()-30, now.Unix()-30, "x", nil),
		"nbf": now.Unix() + 3600, "iat": now.Unix() + 7200, "azp": one(d, "job", "stranger"), "sub": one[any](d, "", nil, 5), "cnf": map[string]any{}, "org_id": nil, "permissions": "upload:files",
	}
	if d.IntN(4) == 0 {
		name := one(d, slices.Sorted(mapsKeys(change))...)
		if c[name] = change[name]; change[name] == nil {
			delete(c, name)
		}
	}
	return c
}

func mapsKeys(m map[string]any) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func (d dice) token(t *testing.T, auth0 *localauth0.Server, issuer string) string {
	t.Helper()
	token, err := auth0.Mint(d.claims(issuer, time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	if d.IntN(12) != 0 {
		return token
	}
	parts := strings.Split(token, ".")
	return one(d, "", "opaque", parts[0]+"."+parts[1]+".", parts[0]+"."+parts[1]+"."+parts[2][:len(parts[2])-8]+"AAAAAAAA",
		"e30."+parts[1]+"."+parts[2], token+strings.Repeat("A", 8200), "x y."+parts[1]+"."+parts[2])
}

func (d dice) request(token string) explain.Request {
	r := explain.Request{Token: broker.NewSecret(token), Address: "127.0.0.1"}
	if d.IntN(6) == 0 {
		r.Grant = one(d, "g0", "g0", "g1", "g2", "nobody's")
	}
	if d.IntN(5) == 0 {
		r.Access = one(d, "read", "read", "read", "list,read", "read,write", "list", "fly", "read,read", ",")
	}
	if d.IntN(5) == 0 {
		r.Path = one(d, "in/", "in/", "in/", "in/a.txt", "../", "a//b", "/", "a*b", "in/deep/er/")
	}
	if d.IntN(5) == 0 {
		r.Duration = one(d, "900", "900", "15m", "20m", "1h", "13h", "5m", "x", "-1", "0")
	}
	if d.IntN(8) == 0 {
		r.Tenant = one(d, "org_acme", "org_gone", "ORG", "org_*")
	}
	return r
}

// answer is what the server says.
type answer struct {
	Code, Bucket, Region, Prefix, Grant string
	Access                              []string
}

// Explain and the server have to agree on whatever comes: the server is a real one,
// asked over HTTP, before a local STS that enforces.
func TestExplainAndTheServerAgree(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("SEED"); text != "" {
		_, _ = fmt.Sscan(text, &seed)
	}
	t.Logf("SEED=%d", seed)
	d := dice{mathrand.New(mathrand.NewPCG(seed, 0))}
	outcomes := map[string]int{}
	auth0, issuer := newAuth0(t)
	for range 10 {
		compare(t, d, newWorld(t, d, auth0, issuer), 100, outcomes)
	}
	t.Logf("%v", outcomes)
	for _, code := range []string{"", "missing_token", "invalid_token", "expired_token", "invalid_request", "no_grant", "invalid_tenant", "scope_not_allowed", "revoked"} {
		if outcomes[code] == 0 {
			t.Errorf("of 1,000 requests none is answered %q", code)
		}
	}
}

// compare asks both under one configuration.
func compare(t *testing.T, d dice, w *world, requests int, outcomes map[string]int) {
	t.Helper()
	engine, err := explain.New(t.Context(), w.cfg, explain.Options{JWKS: w.jwks})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	for range requests {
		token := d.token(t, w.auth0, w.issuer)
		r := d.request(token)
		status, served := w.ask(t, token, r)
		v, err := engine.Explain(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		got := answer{Code: string(v.Code)}
		if v.Scope != nil {
			got = answer{string(v.Code), v.Scope.Bucket, v.Scope.Region, v.Scope.Prefix, v.Scope.Grant, v.Scope.Access}
		}
		outcomes[served.Code]++
		if v.Status != status || got.Code != served.Code || got.Bucket+got.Region+got.Prefix+got.Grant != served.Bucket+served.Region+served.Prefix+served.Grant || !slices.Equal(got.Access, served.Access) {
			text, _ := json.MarshalIndent(v, "", " ")
			t.Fatalf("%+v\nserver: %d %+v\nexplain: %d %+v\n%s\n%s", r, status, served, v.Status, got, text, w.text)
		}
		if !v.Allowed && (v.Reason == "" || v.Advice == "") || v.Allowed && !v.Policy.Confined {
			t.Fatalf("a verdict that says too little: %+v", v)
		}
		holdsNoToken(t, token, v)
	}
}

// holdsNoToken fails if any way of printing shows the token or its signature.
func holdsNoToken(t *testing.T, token string, v explain.Verdict) {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 || len(parts[2]) < 20 {
		return
	}
	var text strings.Builder
	explain.Print(&text, v, true)
	asJSON, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{token, parts[2], parts[1], parts[2][:20]} {
		if strings.Contains(text.String()+string(asJSON), part) {
			t.Fatalf("%s is in %s", part, &text)
		}
	}
}

// world is a broker before a local Auth0 and a local AWS.
type world struct {
	cfg         config.Config
	text        string
	auth0       *localauth0.Server
	issuer, url string
	jwks        []byte
}

func newAuth0(t *testing.T) (*localauth0.Server, string) {
	t.Helper()
	l, address := servetest.Listen(t)
	issuer := address + "/"
	auth0, err := brokertest.NewAuth0(issuer, "", false)
	if err != nil {
		t.Fatal(err)
	}
	servetest.Handle(t, l, auth0)
	return auth0, issuer
}

func newWorld(t *testing.T, d dice, auth0 *localauth0.Server, issuer string) *world {
	t.Helper()
	awsListener, aws := servetest.Listen(t)
	self, selfURL := servetest.Listen(t)
	w := &world{auth0: auth0, issuer: issuer, url: selfURL}
	w.text = d.configuration(w.issuer, selfURL, aws, servetest.SigningKey(t))
	var err error
	if w.cfg, err = config.Parse("random.yaml", []byte(w.text), os.LookupEnv); err != nil {
		t.Fatalf("%v\n%s", err, w.text)
	}
	servetest.Handle(t, awsListener, servetest.AWS(t, w.cfg, nil))
	servetest.Start(t, w.cfg, serve.Options{Listener: self})
	w.jwks = get(t, w.issuer+".well-known/jwks.json")
	return w
}

func get(t *testing.T, url string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%d, %v", resp.StatusCode, err)
	}
	return body
}

func (w *world) ask(t *testing.T, token string, r explain.Request) (int, answer) {
	t.Helper()
	query := url.Values{}
	for name, value := range map[string]string{"grant": r.Grant, "access": r.Access, "path": r.Path, "duration": r.Duration, "tenant": r.Tenant} {
		if value != "" {
			query.Set(name, value)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+"/v1/credentials?"+query.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var a answer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, a
}

package doctor_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/brokertest"
	"credential-broker/broker/brokertest/localauth0"
	"credential-broker/broker/escape"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/cmd/credential-broker/doctor"
	"credential-broker/cmd/credential-broker/servetest"
	"credential-broker/policy"
)

// examine runs the doctor as alice.
func (w *world) examine(change func(*config.Config, *doctor.Options)) doctor.Report {
	w.t.Helper()
	cfg, o := w.cfg, doctor.Options{Token: w.token("alice@acme.test", nil), Grant: "uploads", S3Endpoint: w.s3, HTTP: w.http}
	if w.cfg.WebIdentity.Mode == forwarded {
		o.OtherToken, o.OtherObject = w.idToken(), w.bobs(w.cfg.Grants[0].Name)
	}
	if change != nil {
		change(&cfg, &o)
	}
	return doctor.Examine(w.t.Context(), cfg, o)
}

// idToken is of the same log-in, for the page itself, with the tenant's tag.
func (w *world) idToken() broker.Secret {
	return w.token("alice@acme.test", map[string]any{"aud": localauth0.DemoSPA, "azp": nil, "permissions": nil, "scope": nil})
}

// bobs is the name of an object of bob's that is there.
func (w *world) bobs(grant string) doctor.ObjectName {
	w.t.Helper()
	victims, _ := w.seed(false)
	i := 0
	for _, g := range w.cfg.Grants {
		if g.Name == grant {
			return doctor.ObjectName{Bucket: victims[i].Bucket, Key: victims[i].Key}
		}
		i++
	}
	w.t.Fatal(grant)
	return doctor.ObjectName{}
}

func (w *world) mustBeGreen(r doctor.Report) {
	w.t.Helper()
	for _, f := range r.Findings {
		if f.Status != doctor.Proved || f.Remedy != "" {
			w.t.Errorf("%s: %s: %s → %s", f.Status, f.Name, f.Detail, f.Remedy)
		}
	}
	if !r.OK || r.Attempts < 300 {
		w.t.Errorf("ok %t, %d attempts", r.OK, r.Attempts)
	}
}

func TestTheDoctorIsGreenWhereAllIsWell(t *testing.T) {
	t.Run("minted, every grant", func(t *testing.T) {
		w := newWorld(t, minted, shapes+actFor, local(nil))
		for _, g := range w.cfg.Grants {
			w.mustBeGreen(w.examine(func(_ *config.Config, o *doctor.Options) {
				o.Grant, o.SourceIP = g.Name, "127.0.0.1"
				if g.Bucket.PerTenant() {
					o.OtherTenant = "globex"
				}
				if g.Tenant.Request {
					o.Tenant = "org_acme"
					o.Object = w.object(o.Token, ask{grant: "uploads"})
				}
			}))
		}
	})
	t.Run("forwarded", func(t *testing.T) {
		w := newWorld(t, forwarded, only("uploads"), local(nil))
		w.mustBeGreen(w.examine(nil))
	})
	// Without session tags a role can be bounded for one tenant only.
	t.Run("versitygw", func(t *testing.T) {
		own := strings.ReplaceAll(`{"Version":"2012-10-17","Statement":[
			{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject","s3:DeleteObject","s3:AbortMultipartUpload","s3:ListMultipartUploadParts"],"Resource":"arn:aws:s3:::acme-uploads/PREFIX"},
			{"Effect":"Allow","Action":"s3:ListBucket","Resource":"arn:aws:s3:::acme-uploads","Condition":{"StringLike":{"s3:prefix":"PREFIX"}}}]}`, "PREFIX", "tenants/org_acme/*")
		w := newWorld(t, minted, only("uploads"), third(own))
		w.mustBeGreen(w.examine(func(_ *config.Config, o *doctor.Options) { o.OtherObject = w.other }))
	})
}

// only is one of the shapes.
func only(name string) string {
	for line := range strings.Lines(shapes) {
		if strings.Contains(line, "{name: "+name+",") {
			return "grants:\n" + line
		}
	}
	panic(name)
}

// without takes a part out of the role's trust policy.
func without(pattern string) func(*world, *brokertest.AWSConfig) {
	return func(w *world, c *brokertest.AWSConfig) {
		w.t.Helper()
		before := c.Roles[0].TrustPolicy
		c.Roles[0].TrustPolicy = regexp.MustCompile(pattern).ReplaceAll(before, nil)
		if bytes.Equal(before, c.Roles[0].TrustPolicy) {
			w.t.Fatalf("%s is not in %s", pattern, before)
		}
	}
}

// session is the ARN under which alice's sessions act.
func (w *world) sessionARN() string {
	claims, err := w.auth0.UserClaims("alice@acme.test")
	if err != nil {
		w.t.Fatal(err)
	}
	tenant, err := policy.ParseTenant("org_acme")
	if err != nil {
		w.t.Fatal(err)
	}
	subject, _ := claims["sub"].(string)
	return w.cfg.Grants[0].RoleARN.SessionARN(broker.SessionName(w.cfg.Issuers[0].URL, subject, tenant))
}

func allowTo(principal string) map[string][]byte {
	return map[string][]byte{"acme-uploads": []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + principal + `"},"Action":"s3:*","Resource":["arn:aws:s3:::acme-uploads","arn:aws:s3:::acme-uploads/*"]}]}`)}
}

// Each of these is wrong in one way. The doctor is red, names it, and says what
// to change; what else it says may be a consequence, but the named finding comes
// with the right remedy.
func TestTheDoctorIsRedWithTheRemedy(t *testing.T) {
	const role = "role/tenant-uploads"
	for name, tc := range map[string]struct {
		mode    string
		account func(*world, *brokertest.AWSConfig)
		finding string
		remedy  []string
	}{
		"an unbounded role, forwarded": {
			forwarded, unbound, "bypass: the caller's token at STS, without a policy", []string{role, "${aws:PrincipalTag/tenant}"},
		},
		"an unbounded role, minted": {
			minted, unbound, "bypass: a minted token without a policy, on another tenant", []string{role, "${aws:PrincipalTag/tenant}"},
		},
		"no condition on the audience, forwarded": {
			forwarded, without(`"ForAnyValue:StringEquals":\{[^}]*\},`), "a token for another audience at STS", []string{role, "ForAnyValue:StringEquals", ":oaud", brokertest.Audience},
		},
		"no condition on the audience, minted": {
			minted, func(w *world, c *brokertest.AWSConfig) {
				without(`,?"StringEquals":\{[^}]*\},?`)(w, c)
				c.Providers[0].ClientIDs = append(c.Providers[0].ClientIDs, "credential-broker-doctor")
			}, "a token for another audience at STS", []string{role, "StringEquals", ":aud", brokertest.STSAudience},
		},
		"session policies are ignored": {
			minted, func(_ *world, c *brokertest.AWSConfig) { c.IgnoreSessionPolicies = true }, "the session policy is honoured", []string{"ignores the Policy of AssumeRoleWithWebIdentity"},
		},
		"a bucket policy that names the session": {
			minted, func(w *world, c *brokertest.AWSConfig) { c.BucketPolicies = allowTo(w.sessionARN()) }, "outside: the root", []string{"policy of bucket acme-uploads", "remove the statement", ":assumed-role/tenant-uploads/cb-"},
		},
		"a bucket policy for everybody": {
			minted, func(_ *world, c *brokertest.AWSConfig) { c.BucketPolicies = allowTo("*") }, "the session policy is honoured", []string{"bucket policy's statement with Principal \"*\""},
		},
		"a role that lacks sts:TagSession": {
			minted, without(`"sts:TagSession",`), "STS", []string{role, "sts:TagSession"},
		},
		"a role that lacks sts:SetSourceIdentity": {
			minted, without(`,"sts:SetSourceIdentity"`), "STS", []string{role, "sts:SetSourceIdentity"},
		},
		"no OIDC provider": {
			minted, func(_ *world, c *brokertest.AWSConfig) { c.Providers = nil }, "STS", []string{"IAM OIDC provider 127.0.0.1:", brokertest.STSAudience},
		},
		"another client ID": {
			minted, func(_ *world, c *brokertest.AWSConfig) { c.Providers[0].ClientIDs = []string{"other"} }, "STS", []string{"add sts.amazonaws.com to the client IDs"},
		},
		"callers' tokens are trusted, too": {
			minted, func(w *world, c *brokertest.AWSConfig) {
				issuer := w.cfg.Issuers[0].URL
				c.Providers = append(c.Providers, brokertest.Provider{URL: issuer, ClientIDs: []string{localauth0.DemoSPA}})
				c.Roles[0].TrustPolicy = bytes.Replace(c.Roles[0].TrustPolicy, []byte(`"Statement":[`), []byte(`"Statement":[{"Effect":"Allow","Principal":{"Federated":"arn:aws:iam::123456789012:oidc-provider/`+
					strings.TrimPrefix(issuer, "http://")+`"},"Action":["sts:AssumeRoleWithWebIdentity","sts:TagSession"]},`), 1)
			}, "bypass: the caller's token at STS, without a policy", []string{"trust policy", "remove the statement whose Principal is the OIDC provider of http://"},
		},
		"nothing is enforced": {
			minted, func(_ *world, c *brokertest.AWSConfig) { c.EnforceNothing = true }, "outside: the root", []string{"honours the Policy"},
		},
		"a role that may not write": {
			minted, func(_ *world, c *brokertest.AWSConfig) {
				c.Roles[0].Policy = bytes.ReplaceAll(c.Roles[0].Policy, []byte(`"s3:PutObject",`), nil)
			}, "inside: PutObject", []string{role, "PutObject"},
		},
		"a longer life than the role's": {
			minted, func(w *world, c *brokertest.AWSConfig) { c.Roles[0].MaxSession = 15 * time.Minute }, "STS", []string{"MaxSessionDuration of", role},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tc.mode, only("uploads"), local(tc.account))
			w.mustBeRed(w.examine(nil), tc.finding, tc.remedy...)
		})
	}
}

func (w *world) mustBeRed(r doctor.Report, finding string, remedy ...string) {
	w.t.Helper()
	if r.OK {
		w.t.Error("the report is green")
	}
	i := slices.IndexFunc(r.Findings, func(f doctor.Finding) bool { return strings.HasPrefix(f.Name, finding) && f.Status == doctor.Failed })
	if i < 0 {
		for _, f := range r.Findings {
			w.t.Logf("%s: %s: %s → %s", f.Status, f.Name, f.Detail, f.Remedy)
		}
		w.t.Fatalf("%s did not fail", finding)
	}
	for _, words := range remedy {
		if !strings.Contains(r.Findings[i].Remedy, words) {
			w.t.Errorf("%q is not in the remedy %q (%s)", words, r.Findings[i].Remedy, r.Findings[i].Detail)
		}
	}
	for _, f := range r.Findings {
		if f.Status != doctor.Proved && f.Remedy == "" {
			w.t.Errorf("%s has no remedy", f.Name)
		}
	}
}

// The configuration, the token, or what was asked for is wrong; the account is
// as it should be.
func TestTheDoctorExplainsTokensAndConfigurations(t *testing.T) {
	w := newWorld(t, minted, shapes+actFor, local(nil))
	as := func(change map[string]any) func(*config.Config, *doctor.Options) {
		return func(_ *config.Config, o *doctor.Options) { o.Token = w.token("alice@acme.test", change) }
	}
	issuer := w.cfg.Issuers[0].URL
	edit := func(change func(*config.Issuer)) func(*config.Config, *doctor.Options) {
		return func(c *config.Config, _ *doctor.Options) {
			c.Issuers = slices.Clone(c.Issuers)
			change(&c.Issuers[0])
		}
	}
	for name, tc := range map[string]struct {
		change  func(*config.Config, *doctor.Options)
		finding string
		remedy  []string
	}{
		"an issuer without its slash": {
			edit(func(i *config.Issuer) { i.URL = strings.TrimSuffix(i.URL, "/") }), "keys of", []string{"write issuers[].url as \"" + issuer + "\""},
		},
		"a token of an issuer without its slash": {
			as(map[string]any{"iss": strings.TrimSuffix(issuer, "/")}), "token", []string{"the last slash counts"},
		},
		"an issuer that is not there": {
			edit(func(i *config.Issuer) { i.URL = "http://127.0.0.1:1/" }), "keys of", []string{"let this machine reach http://127.0.0.1:1/.well-known/openid-configuration"},
		},
		"a wrong audience":   {as(map[string]any{"aud": "https://other.test"}), "token", []string{brokertest.Audience, "https://other.test"}},
		"two wrong ones":     {as(map[string]any{"aud": []string{"https://a.test", "https://b.test"}}), "token", []string{"https://a.test"}},
		"another issuer's":   {as(map[string]any{"iss": "https://other.test/"}), "token", []string{"add an issuer with url: https://other.test/"}},
		"an expired one":     {as(map[string]any{"exp": time.Now().Add(-time.Hour).Unix(), "iat": time.Now().Add(-2 * time.Hour).Unix()}), "token", []string{"take a fresh token"}},
		"an opaque one":      {func(_ *config.Config, o *doctor.Options) { o.Token = broker.NewSecret("opaque") }, "token", []string{"--token-file", "did not ask Auth0 for an audience"}},
		"another client's":   {edit(func(i *config.Issuer) { i.Clients = []string{"other"} }), "token", []string{"add \"demo-spa\" to issuers[].clients"}},
		"without a sub":      {as(map[string]any{"sub": nil}), "token", []string{"as the issuer made it"}},
		"without permission": {as(map[string]any{"permissions": nil}), "decision", []string{"grants[].match", "RBAC"}},
		"without a tenant":   {as(map[string]any{"org_id": nil}), "decision", []string{"organisation"}},
		"revoked": {func(c *config.Config, _ *doctor.Options) {
			c.Revoked.Tenants = map[string]bool{"org_acme": true}
		}, "decision", []string{"revoked"}},
		"no tenant named":   {func(_ *config.Config, o *doctor.Options) { o.Grant = "act-for" }, "decision", []string{"--tenant"}},
		"no address":        {func(_ *config.Config, o *doctor.Options) { o.Grant = "bound" }, "decision", []string{"--source-ip"}},
		"another's address": {func(_ *config.Config, o *doctor.Options) { o.Grant, o.SourceIP = "bound", "192.0.2.7" }, "inside: PutObject", []string{"allow what PutObject needs"}},
		"other keys": {func(c *config.Config, _ *doctor.Options) {
			c.WebIdentity.SigningKeys = []string{servetest.SigningKey(t)}
		}, "published keys", []string{"of other keys"}},
		"keys that AWS does not find": {func(c *config.Config, _ *doctor.Options) {
			c.WebIdentity.SigningKeys = []string{servetest.SigningKey(t)}
		}, "STS", []string{"let AWS reach"}},
		"keys that cannot be read": {func(c *config.Config, _ *doctor.Options) {
			c.WebIdentity.SigningKeys = []string{"/nowhere.pem"}
		}, "published keys", []string{"web_identity.signing_keys must be PEM files"}},
		"STS that is not there": {func(c *config.Config, _ *doctor.Options) { c.STS.Endpoint = "http://127.0.0.1:1" }, "STS", []string{"let this machine reach STS"}},
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			w.mustBeRed(w.examine(tc.change), tc.finding, tc.remedy...)
		})
	}
}

func TestWhatCannotBeTriedIsNotProved(t *testing.T) {
	w := newWorld(t, forwarded, only("uploads"), local(nil))
	r := w.examine(func(_ *config.Config, o *doctor.Options) { o.OtherToken = broker.Secret{} })
	w.mustBeUnproved(r, "a token for another audience at STS", "--other-token-file")
	w = newWorld(t, minted, shapes+actFor, local(nil))
	r = w.examine(func(c *config.Config, o *doctor.Options) {
		c.Grants = slices.Clone(c.Grants)
		c.Grants[0].Access = policy.Read
	})
	w.mustBeUnproved(r, "inside: GetObject", "--object")
	r = w.examine(func(c *config.Config, _ *doctor.Options) { c.WebIdentity.Issuer = "http://127.0.0.1:1" })
	w.mustBeUnproved(r, "published keys", "AWS has to reach http://127.0.0.1:1")
}

func (w *world) mustBeUnproved(r doctor.Report, finding, remedy string) {
	w.t.Helper()
	i := slices.IndexFunc(r.Findings, func(f doctor.Finding) bool { return f.Name == finding })
	if r.OK || i < 0 || r.Findings[i].Status != doctor.NotProved || !strings.Contains(r.Findings[i].Remedy, remedy) {
		w.t.Errorf("%t: %+v", r.OK, r.Findings)
	}
}

// MinIO answers a listing for one prefix with the permission for another.
func TestALeakOfListingsIsRecognised(t *testing.T) {
	w := newWorld(t, minted, only("uploads"), local(nil))
	real, err := url.Parse(w.s3)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(real)
	w.s3 = listen(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Prefix") != "" && r.URL.Query().Has("list-type") {
			_, _ = io.WriteString(rw, `<ListBucketResult><Prefix>tenants/</Prefix><Contents><Key>tenants/org_globex/secret.txt</Key></Contents></ListBucketResult>`)
			return
		}
		proxy.ServeHTTP(rw, r)
	}))
	w.mustBeRed(w.examine(nil), "outside: listings with two prefixes", "takes a listing's prefix from elsewhere", "give each tenant a bucket")
}

func TestTheDoctorCleansUp(t *testing.T) {
	for name, change := range map[string]func(*world, *brokertest.AWSConfig){
		"where all is well": nil, "where nothing holds": func(_ *world, c *brokertest.AWSConfig) { c.EnforceNothing = true },
	} {
		w := newWorld(t, minted, only("uploads"), local(change))
		r := w.examine(nil)
		if name == "where all is well" {
			w.mustBeGreen(r)
		}
		session, err := w.session(w.token("alice@acme.test", nil), url.Values{}, "")
		if err != nil {
			t.Fatal(err)
		}
		keys, err := escape.Leftovers(t.Context(), escape.Target{S3: w.s3, Region: brokertest.Region, Session: session, Scope: w.scope(ask{grant: "uploads"})})
		if err != nil || len(keys) != 0 {
			t.Errorf("%s: %q, %v", name, keys, err)
		}
	}
}

func TestNothingOfAReportIsSecret(t *testing.T) {
	w := newWorld(t, minted, only("uploads"), local(nil))
	token := w.token("alice@acme.test", nil)
	var printed bytes.Buffer
	r := w.examine(func(_ *config.Config, o *doctor.Options) {
		o.Token, o.Found = token, func(f doctor.Finding) { doctor.Print(&printed, f) }
	})
	doctor.Sum(&printed, r)
	for _, part := range strings.Split(token.Reveal(), ".")[1:] {
		if strings.Contains(printed.String(), part) {
			t.Error("the token is printed")
		}
	}
	if !strings.Contains(printed.String(), "✔ token: issuer http://") || !strings.Contains(printed.String(), " proved, 0 failed, 0 not proved; ") {
		t.Errorf("%s", printed.String())
	}
}

func TestARemedyStandsBelowItsFinding(t *testing.T) {
	var b bytes.Buffer
	doctor.Print(&b, doctor.Finding{Name: "a", Status: doctor.Failed, Detail: "d", Remedy: "r"})
	doctor.Print(&b, doctor.Finding{Name: "b", Status: doctor.NotProved, Remedy: "s"})
	doctor.Print(&b, doctor.Finding{Name: "c\x1b[2K", Status: doctor.Failed, Detail: "https://x/\r✔ d", Remedy: "add https://x/\u009b"}) // of a token that nobody verified
	if want := "✘ a: d\n    → r\n– b: not proved\n    → s\n✘ c\\u001b[2K: https://x/\\u000d✔ d\n    → add https://x/\\u009b\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

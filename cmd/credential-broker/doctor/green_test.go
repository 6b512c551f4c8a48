package doctor_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/brokertest"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/cmd/credential-broker/doctor"
)

// opened puts "*" in place of a principal tag in the role's own policy.
func opened(tag string) func(*world, *brokertest.AWSConfig) {
	return func(w *world, c *brokertest.AWSConfig) {
		w.t.Helper()
		variable := []byte("${aws:PrincipalTag/" + tag + "}")
		if !bytes.Contains(c.Roles[0].Policy, variable) {
			w.t.Fatalf("%s is not in %s", variable, c.Roles[0].Policy)
		}
		c.Roles[0].Policy = bytes.ReplaceAll(c.Roles[0].Policy, variable, []byte("*"))
	}
}

// reading adds the right to read every object of the bucket: neither to list nor
// to write. S3 then denies what is not there just as it would without it.
func reading(w *world, c *brokertest.AWSConfig) {
	before := c.Roles[0].Policy
	c.Roles[0].Policy = bytes.Replace(before, []byte(`"Statement":[`), []byte(`"Statement":[{"Effect":"Allow","Action":["s3:GetObject"],"Resource":"arn:aws:s3:::acme-uploads/*"},`), 1)
	if bytes.Equal(before, c.Roles[0].Policy) {
		w.t.Fatalf("%s", before)
	}
}

const (
	middle    = `{name: middle, role_arn: "ROLE", tenant: {claim: org_id}, bucket: acme-uploads, region: ap-northeast-1, prefix: "tenants/{tenant}/files/", access: [list, read, write, delete]}`
	byUser    = `{name: mine, role_arn: "ROLE", tenant: {claim: org_id}, bucket: acme-uploads, region: ap-northeast-1, prefix: "users/{tenant}/{user}/", access: [list, read, write, delete]}`
	perTenant = `{name: bucket, role_arn: "ROLE", tenant: {claim: "https://acme.test/tenant"}, bucket: "{tenant}-files", region: ap-northeast-1, prefix: "data/", access: [list, read, write, delete]}`
	readOnly  = `{name: reader, role_arn: "ROLE", tenant: {claim: org_id}, bucket: acme-uploads, region: ap-northeast-1, prefix: "tenants/{tenant}/", access: [list, read]}`
)

// For each shape of grant: a role that is open in just the place of the variable,
// or to just reading, is found out.
func TestARoleThatIsOpenAnywhereIsFoundOut(t *testing.T) {
	const secondLock = "bypass: a minted token without a policy, on another tenant"
	const direct = "bypass: the caller's token at STS, without a policy"
	for name, tc := range map[string]struct {
		mode, grants string
		account      func(*world, *brokertest.AWSConfig)
		finding      string
	}{
		"a tenant in the middle, minted":    {minted, middle, opened("tenant"), secondLock},
		"a tenant in the middle, forwarded": {forwarded, middle, opened("tenant"), direct},
		"users":                             {minted, byUser, opened("user"), secondLock},
		"tenants above users":               {minted, byUser, opened("tenant"), secondLock},
		"a bucket for each tenant":          {minted, perTenant, opened("tenant"), secondLock},
		"to reading, minted":                {minted, only("uploads"), reading, secondLock},
		"to reading, forwarded":             {forwarded, only("uploads"), reading, direct},
	} {
		t.Run(name, func(t *testing.T) {
			grants := tc.grants
			if !strings.HasPrefix(grants, "grants:") {
				grants = "grants:\n  - " + grants + "\n"
			}
			w := newWorld(t, tc.mode, grants, local(tc.account))
			w.mustBeRed(w.examine(func(_ *config.Config, o *doctor.Options) {
				o.Grant = ""
				o.OtherTenant = map[bool]string{true: "globex"}[grants[12:] == perTenant+"\n"]
			}), tc.finding, "${aws:PrincipalTag/tenant}")
		})
	}
}

// Two grants share a role, and one lies within the other: nothing is wrong.
func TestARoleMayServeSeveralGrants(t *testing.T) {
	within := strings.NewReplacer("users/{tenant}/{user}/", "tenants/{tenant}/u/{user}/").Replace(byUser)
	w := newWorld(t, minted, only("uploads")+"  - "+within+"\n", local(nil))
	for _, grant := range []string{"uploads", "mine", ""} {
		w.mustBeGreen(w.examine(func(_ *config.Config, o *doctor.Options) { o.Grant = grant }))
	}
}

// Without --grant, exit 0 speaks of every role.
func TestEachRoleIsExamined(t *testing.T) {
	second := strings.NewReplacer("middle", "second", "ROLE", "arn:aws:iam::123456789012:role/path/second", "tenants/", "second/").Replace(middle)
	grants := only("uploads") + "  - " + second + "\n"
	all := func(_ *config.Config, o *doctor.Options) { o.Grant = "" }
	w := newWorld(t, minted, grants, local(nil))
	w.mustBeGreen(w.examine(all))
	w = newWorld(t, minted, grants, local(func(_ *world, c *brokertest.AWSConfig) { c.Roles[1].Policy = []byte(wholeRole) }))
	w.mustBeRed(w.examine(all), "grant second: bypass: a minted token without a policy, on another tenant", "role/path/second")
	w = newWorld(t, minted, strings.Replace(grants, "name: second,", "name: second, match: {permissions: [none]},", 1), local(nil))
	w.mustBeUnproved(w.examine(all), "grant second: role arn:aws:iam::123456789012:role/path/second", "--grant second")
}

// before puts a handler in front of STS or S3.
func (w *world) before(address *string, handle func(http.ResponseWriter, *http.Request) bool) {
	w.t.Helper()
	to, err := url.Parse(*address)
	if err != nil {
		w.t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	*address = listen(w.t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if !handle(rw, r) {
			proxy.ServeHTTP(rw, r)
		}
	}))
}

// What STS says for another reason is no refusal; nor is any word of it in mode
// forwarded, where it has just taken this very token.
func TestAnAnswerOfSTSThatIsNoRefusalProvesNothing(t *testing.T) {
	const name = "bypass: the caller's token at STS, without a policy"
	for _, code := range []string{"Throttling", "IDPCommunicationError", "ExpiredTokenException", "AccessDenied", "InvalidIdentityToken"} {
		w := newWorld(t, forwarded, only("uploads"), local(unbound))
		sts := w.cfg.STS.Endpoint
		w.before(&sts, func(rw http.ResponseWriter, r *http.Request) bool {
			if err := r.ParseForm(); err != nil || r.Form.Get("Action") != "AssumeRoleWithWebIdentity" || r.Form.Has("Policy") {
				r.Body = http.NoBody
				if err == nil {
					body := r.PostForm.Encode()
					r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
				}
				return false
			}
			rw.WriteHeader(http.StatusBadRequest)
			_, _ = rw.Write([]byte("<ErrorResponse><Error><Code>" + code + "</Code></Error></ErrorResponse>"))
			return true
		})
		r := w.examine(func(c *config.Config, _ *doctor.Options) { c.STS.Endpoint = sts })
		if i := finding(r, name); r.OK || i.Status != doctor.NotProved {
			t.Errorf("%s: %+v", code, i)
		}
	}
}

func TestAServerThatOnlySaysLaterProvesNothing(t *testing.T) {
	w := newWorld(t, minted, only("uploads"), local(func(_ *world, c *brokertest.AWSConfig) { c.EnforceNothing = true }))
	asked := 0
	w.before(&w.s3, func(rw http.ResponseWriter, _ *http.Request) bool {
		asked++
		if asked > 25 { // all that is inside
			rw.WriteHeader(http.StatusTooManyRequests)
		}
		return asked > 25
	})
	r := w.examine(nil)
	for _, f := range r.Findings {
		if strings.HasPrefix(f.Name, "outside: ") && f.Name != "outside: other credentials of these" && f.Status == doctor.Proved || f.Name == "nothing is left behind" && f.Status == doctor.Proved {
			t.Errorf("%+v", f)
		}
	}
	if r.OK {
		t.Error("it is green")
	}
}

func finding(r doctor.Report, name string) doctor.Finding {
	i := slices.IndexFunc(r.Findings, func(f doctor.Finding) bool { return f.Name == name })
	if i < 0 {
		return doctor.Finding{}
	}
	return r.Findings[i]
}

// A refusal of the other token has to be for its audience.
func TestTheOtherTokenHasToBeGoodInAllElse(t *testing.T) {
	w := newWorld(t, forwarded, only("uploads"), local(without(`"ForAnyValue:StringEquals":\{[^}]*\},`)))
	other := map[string]any{"aud": "https://other.test", "permissions": nil, "scope": nil}
	with := func(name string, value any) map[string]any {
		c := map[string]any{name: value}
		for k, v := range other {
			if k != name {
				c[k] = v
			}
		}
		return c
	}
	for name, tc := range map[string]struct {
		token broker.Secret
		says  string
	}{
		"garbage":          {broker.NewSecret("garbage"), "issuer"},
		"another issuer's": {w.token("alice@acme.test", with("iss", "https://other.test/")), "issuer"},
		"for the broker":   {w.token("alice@acme.test", with("aud", brokertest.Audience)), "which the broker takes"},
		"another client's": {w.token("alice@acme.test", with("azp", "other")), "none of issuers[].clients"},
		"without tags":     {w.token("alice@acme.test", with("https://aws.amazon.com/tags", nil)), "tag"},
		"ended": {w.token("alice@acme.test", map[string]any{
			"aud": "https://other.test", "iat": time.Now().Add(-2 * time.Hour).Unix(), "exp": time.Now().Add(-time.Hour).Unix(),
		}), "not good"},
	} {
		f := finding(w.examine(func(_ *config.Config, o *doctor.Options) { o.OtherToken = tc.token }), "a token for another audience at STS")
		if f.Status != doctor.NotProved || !strings.Contains(f.Detail, tc.says) {
			t.Errorf("%s: %+v", name, f)
		}
	}
	f := finding(w.examine(func(_ *config.Config, o *doctor.Options) { o.OtherToken = w.token("alice@acme.test", other) }), "a token for another audience at STS")
	if f.Status != doctor.Failed {
		t.Errorf("a good one: %+v", f)
	}
}

func TestWithoutAVictimReadingIsNotProved(t *testing.T) {
	const name = "another's object, to be tried"
	w := newWorld(t, forwarded, only("uploads"), local(nil))
	w.mustBeUnproved(w.examine(func(_ *config.Config, o *doctor.Options) { o.OtherObject = doctor.ObjectName{} }), name, "--other-object")
	w = newWorld(t, minted, "grants:\n  - "+readOnly+"\n", local(reading))
	w.mustBeUnproved(w.examine(func(_ *config.Config, o *doctor.Options) { o.Grant = "" }), name, "--other-object")
	w = newWorld(t, minted, "grants:\n  - "+perTenant+"\n", local(nil))
	w.mustBeUnproved(w.examine(func(_ *config.Config, o *doctor.Options) { o.Grant = "" }), name, "--other-tenant")
}

func TestAnotherIssuerIsNotProvedByATokenOfOne(t *testing.T) {
	w := newWorld(t, forwarded, only("uploads"), local(nil))
	r := w.examine(func(c *config.Config, o *doctor.Options) {
		second := c.Issuers[0]
		second.URL = "http://127.0.0.1:1/"
		c.Issuers, o.Grant = append(slices.Clone(c.Issuers), second), ""
	})
	w.mustBeUnproved(r, "issuer http://127.0.0.1:1/", "a token of this issuer")
}

func TestAnObjectIsNamedAsByTheCLI(t *testing.T) {
	if o, err := doctor.ParseObjectName("s3://b/k/x y"); err != nil || o != (doctor.ObjectName{Bucket: "b", Key: "k/x y"}) {
		t.Error(o, err)
	}
	for _, s := range []string{"b/k", "s3://b", "s3://b/", "s3:///k", "https://b/k"} {
		if _, err := doctor.ParseObjectName(s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}

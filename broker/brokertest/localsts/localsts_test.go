package localsts_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"credential-broker/broker/brokertest/iam"
	"credential-broker/broker/brokertest/localauth0"
	"credential-broker/broker/brokertest/localsts"
)

const (
	roleARN  = "arn:aws:iam::123456789012:role/path/uploads"
	audience = "https://api.test"
	tagClaim = "https://aws.amazon.com/tags"
)

// world is an issuer and an STS that trusts it. Its clock stands still.
type world struct {
	auth0  *localauth0.Server
	issuer string
	host   string // the issuer as IAM names it
	sts    *localsts.Server
	url    string
	now    time.Time
}

func newWorld(t testing.TB, change func(*localsts.Config)) *world {
	t.Helper()
	w := &world{now: time.Now().Truncate(time.Second)}
	issuer := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.auth0.ServeHTTP(rw, r) }))
	t.Cleanup(issuer.Close)
	w.issuer = issuer.URL + "/"
	w.host = strings.TrimPrefix(w.issuer, "http://")
	var err error
	demo := localauth0.Demo(w.issuer, audience, "")
	demo.Keys = keys()
	if w.auth0, err = localauth0.New(demo); err != nil {
		t.Fatal(err)
	}
	cfg := localsts.Config{
		Region: "eu-west-1", AccountID: "123456789012", Now: func() time.Time { return w.now },
		Providers: []localsts.Provider{{URL: w.issuer, ClientIDs: []string{"client", "sts.amazonaws.com"}}},
		Roles: []localsts.Role{{
			Name: "path/uploads", MaxSession: 2 * time.Hour,
			TrustPolicy: trust(w.host, `"StringEquals":{"%s:aud":["client","sts.amazonaws.com"]}`),
			Policy:      []byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject"],"Resource":"arn:aws:s3:::b/${aws:PrincipalTag/tenant}/*"}}`),
		}},
		Authenticate: func(r *http.Request) (string, error) { return r.Header.Get("X-Test-Key"), nil },
	}
	if change != nil {
		change(&cfg)
	}
	if w.sts, err = localsts.New(cfg); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(w.sts)
	t.Cleanup(server.Close)
	w.url = server.URL
	return w
}

// keys are the issuer's in all tests: making them takes longer than the tests.
var keys = sync.OnceValue(func() []*rsa.PrivateKey {
	all := make([]*rsa.PrivateKey, 2)
	for i := range all {
		var err error
		if all[i], err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			panic(err)
		}
	}
	return all
})

// trust is a trust policy under a condition, in which %s is the issuer's host.
func trust(host, condition string) []byte {
	return []byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"Federated":"arn:aws:iam::123456789012:oidc-provider/` + host + `"},` +
		`"Action":["sts:AssumeRoleWithWebIdentity","sts:TagSession","sts:SetSourceIdentity"],"Condition":{` + strings.ReplaceAll(condition, "%s", host) + `}}}`)
}

// claims are those of a good token; change makes it another.
func (w *world) claims(change map[string]any) map[string]any {
	c := map[string]any{
		"iss": w.issuer, "sub": "auth0|alice", "aud": audience, "azp": "client", "iat": w.now.Unix(), "exp": w.now.Unix() + 3600,
		tagClaim: map[string]any{"principal_tags": map[string]any{"tenant": []string{"acme"}}},
	}
	maps.Copy(c, change)
	for name, v := range c {
		if v == nil {
			delete(c, name)
		}
	}
	return c
}

func (w *world) mint(t testing.TB, claims map[string]any) string {
	t.Helper()
	token, err := w.auth0.Mint(claims)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// call makes the call with the real SDK.
func (w *world) call(ctx context.Context, token string, change func(*sts.AssumeRoleWithWebIdentityInput)) (*sts.AssumeRoleWithWebIdentityOutput, error) {
	in := &sts.AssumeRoleWithWebIdentityInput{RoleArn: aws.String(roleARN), RoleSessionName: aws.String("session"), WebIdentityToken: aws.String(token)}
	if change != nil {
		change(in)
	}
	client := sts.New(sts.Options{Region: "eu-west-1", BaseEndpoint: &w.url, Credentials: aws.AnonymousCredentials{}, Retryer: aws.NopRetryer{}})
	return client.AssumeRoleWithWebIdentity(ctx, in)
}

func mustRefuse(t testing.TB, err error, code string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

func TestAGoodTokenOpensASession(t *testing.T) {
	w := newWorld(t, nil)
	out, err := w.call(t.Context(), w.mint(t, w.claims(map[string]any{
		"https://aws.amazon.com/source_identity": "alice", "https://aws.amazon.com/roles": roleARN,
	})), func(in *sts.AssumeRoleWithWebIdentityInput) { in.DurationSeconds = aws.Int32(900) })
	if err != nil {
		t.Fatal(err)
	}
	if aws.ToString(out.AssumedRoleUser.Arn) != "arn:aws:sts::123456789012:assumed-role/uploads/session" || aws.ToString(out.SubjectFromWebIdentityToken) != "auth0|alice" ||
		aws.ToString(out.Audience) != "client" || aws.ToString(out.Provider) != "arn:aws:iam::123456789012:oidc-provider/"+w.host || aws.ToString(out.SourceIdentity) != "alice" {
		t.Errorf("%+v", out)
	}
	if got := out.Credentials.Expiration.Sub(w.now); got != 15*time.Minute || !strings.HasPrefix(*out.Credentials.AccessKeyId, "ASIA") || len(*out.Credentials.AccessKeyId) != 20 ||
		len(*out.Credentials.SecretAccessKey) != 40 || len(*out.Credentials.SessionToken) < 400 {
		t.Errorf("%s, %+v", got, out.Credentials)
	}
	session, ok := w.sts.Session(*out.Credentials.AccessKeyId)
	if !ok || session.Tags["tenant"] != "acme" || session.SourceIdentity != "alice" || w.sts.Calls("AssumeRoleWithWebIdentity") != 1 {
		t.Errorf("%t, %+v", ok, session.Tags)
	}
	if _, ok := w.sts.Session("ASIAUNKNOWN"); ok {
		t.Error("an unknown key has a session")
	}
}

func TestEachRuleForTheToken(t *testing.T) {
	at := func(w *world, seconds int64) any { return w.now.Unix() + seconds }
	for name, tc := range map[string]struct {
		change func(*world) map[string]any
		code   string
	}{
		"as it is":                    {func(*world) map[string]any { return nil }, ""},
		"no iss":                      {func(*world) map[string]any { return map[string]any{"iss": nil} }, "InvalidIdentityToken"},
		"no sub":                      {func(*world) map[string]any { return map[string]any{"sub": nil} }, "InvalidIdentityToken"},
		"no aud":                      {func(*world) map[string]any { return map[string]any{"aud": nil} }, "InvalidIdentityToken"},
		"no iat":                      {func(*world) map[string]any { return map[string]any{"iat": nil} }, "InvalidIdentityToken"},
		"no exp":                      {func(*world) map[string]any { return map[string]any{"exp": nil} }, "InvalidIdentityToken"},
		"another issuer":              {func(w *world) map[string]any { return map[string]any{"iss": strings.TrimSuffix(w.issuer, "/")} }, "InvalidIdentityToken"},
		"ended 300 s ago":             {func(w *world) map[string]any { return map[string]any{"exp": at(w, -300)} }, ""},
		"ended 301 s ago":             {func(w *world) map[string]any { return map[string]any{"exp": at(w, -301)} }, "ExpiredTokenException"},
		"issued in 300 s":             {func(w *world) map[string]any { return map[string]any{"iat": at(w, 300)} }, ""},
		"issued in 301 s":             {func(w *world) map[string]any { return map[string]any{"iat": at(w, 301)} }, "InvalidIdentityToken"},
		"good from in 301 s":          {func(w *world) map[string]any { return map[string]any{"nbf": at(w, 301)} }, "InvalidIdentityToken"},
		"a fraction":                  {func(w *world) map[string]any { return map[string]any{"exp": float64(w.now.Unix()) + 3600.5} }, "InvalidIdentityToken"},
		"an azp that is not there":    {func(*world) map[string]any { return map[string]any{"azp": "other"} }, "InvalidIdentityToken"},
		"an empty azp":                {func(*world) map[string]any { return map[string]any{"azp": ""} }, "InvalidIdentityToken"},
		"aud, no azp":                 {func(*world) map[string]any { return map[string]any{"azp": nil, "aud": "client"} }, ""},
		"one aud in an array, no azp": {func(*world) map[string]any { return map[string]any{"azp": nil, "aud": []string{"client"}} }, ""},
		"two aud, no azp": {func(*world) map[string]any {
			return map[string]any{"azp": nil, "aud": []string{"client", "sts.amazonaws.com"}}
		}, "InvalidIdentityToken"},
		"two aud, azp":             {func(*world) map[string]any { return map[string]any{"aud": []string{"x", "y"}} }, ""},
		"an aud that is not there": {func(*world) map[string]any { return map[string]any{"azp": nil} }, "InvalidIdentityToken"},
		"a tag as text": {func(*world) map[string]any {
			return map[string]any{tagClaim: map[string]any{"principal_tags": map[string]any{"tenant": "acme"}}}
		}, "InvalidIdentityToken"},
		"a tag of two values": {func(*world) map[string]any {
			return map[string]any{tagClaim: map[string]any{"principal_tags": map[string]any{"tenant": []string{"a", "b"}}}}
		}, "InvalidIdentityToken"},
		"tags of no object": {func(*world) map[string]any { return map[string]any{tagClaim: "x"} }, "InvalidIdentityToken"},
		"a tag with a wildcard": {func(*world) map[string]any {
			return map[string]any{tagClaim: map[string]any{"principal_tags": map[string]any{"tenant": []string{"*"}}}}
		}, "ValidationError"},
		"a tag too long": {func(*world) map[string]any {
			return map[string]any{tagClaim: map[string]any{"principal_tags": map[string]any{"tenant": []string{strings.Repeat("a", 257)}}}}
		}, "ValidationError"},
		"51 tags": {func(*world) map[string]any {
			tags := map[string]any{}
			for i := range 51 {
				tags[fmt.Sprint("k", i)] = []string{"v"}
			}
			return map[string]any{tagClaim: map[string]any{"principal_tags": tags}}
		}, "ValidationError"},
		"a flat tag": {func(*world) map[string]any {
			return map[string]any{tagClaim: nil, tagClaim + "/principal_tags/tenant": "acme"}
		}, ""},
		"a flat tag of an array": {func(*world) map[string]any {
			return map[string]any{tagClaim: nil, tagClaim + "/principal_tags/tenant": []string{"acme"}}
		}, "InvalidIdentityToken"},
		"a tag twice": {func(*world) map[string]any { return map[string]any{tagClaim + "/principal_tags/tenant": "other"} }, "InvalidIdentityToken"},
		"a wrong source identity": {func(*world) map[string]any {
			return map[string]any{"https://aws.amazon.com/source_identity": "auth0|alice"}
		}, "InvalidIdentityToken"},
		"a source identity of aws":     {func(*world) map[string]any { return map[string]any{"https://aws.amazon.com/source_identity": "aws:x"} }, "InvalidIdentityToken"},
		"another role":                 {func(*world) map[string]any { return map[string]any{"https://aws.amazon.com/roles": roleARN + "2"} }, "InvalidIdentityToken"},
		"one of two roles":             {func(*world) map[string]any { return map[string]any{"https://aws.amazon.com/roles": "x;" + roleARN} }, ""},
		"a role in an array":           {func(*world) map[string]any { return map[string]any{"https://aws.amazon.com/roles": []string{roleARN}} }, ""},
		"no role at all, in the claim": {func(*world) map[string]any { return map[string]any{"https://aws.amazon.com/roles": []string{}} }, "InvalidIdentityToken"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			_, err := w.call(t.Context(), w.mint(t, w.claims(tc.change(w))), nil)
			if tc.code != "" {
				mustRefuse(t, err, tc.code)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestASignatureMustBeThePublishedKeys(t *testing.T) {
	w := newWorld(t, nil)
	token := w.mint(t, w.claims(nil))
	parts := strings.Split(token, ".")
	other, err := localauth0.New(localauth0.Demo(w.issuer, audience, "")) // with keys of its own
	if err != nil {
		t.Fatal(err)
	}
	foreignToken, err := other.Mint(w.claims(nil))
	if err != nil {
		t.Fatal(err)
	}
	foreign := strings.Split(foreignToken, ".")
	for name, bad := range map[string]string{
		"another payload":   parts[0] + "." + strings.Split(w.mint(t, w.claims(map[string]any{"sub": "bob"})), ".")[1] + "." + parts[2],
		"another's key":     parts[0] + "." + foreign[1] + "." + foreign[2],
		"none":              parts[0] + "." + parts[1] + ".",
		"an unknown key id": foreign[0] + "." + parts[1] + "." + parts[2],
		"two segments":      parts[0] + "." + parts[1],
		"not base64":        "*." + parts[1] + "." + parts[2],
	} {
		_, err := w.call(t.Context(), bad, nil)
		if err == nil {
			t.Errorf("%s: taken", name)
			continue
		}
		mustRefuse(t, err, "InvalidIdentityToken")
	}
	for name, header := range map[string]localauth0.MintOption{
		"a key id that is not published": localauth0.WithHeader("kid", "other"),
		"another algorithm":              localauth0.WithHeader("alg", "ES256"),
		"a critical header":              localauth0.WithHeader("crit", []string{"b64"}),
	} {
		token, err := w.auth0.Mint(w.claims(nil), header)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.call(t.Context(), token, nil); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if err := w.auth0.Rotate(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.call(t.Context(), w.mint(t, w.claims(nil)), nil); err != nil {
		t.Errorf("after a rotation: %v", err)
	}
}

func TestEachRuleForTheParameters(t *testing.T) {
	w := newWorld(t, nil)
	token := w.mint(t, w.claims(nil))
	for name, tc := range map[string]struct {
		change func(*sts.AssumeRoleWithWebIdentityInput)
		code   string
	}{
		"a session of one": {func(in *sts.AssumeRoleWithWebIdentityInput) { in.RoleSessionName = aws.String("a") }, "ValidationError"},
		"a session of 65":  {func(in *sts.AssumeRoleWithWebIdentityInput) { in.RoleSessionName = aws.String(strings.Repeat("a", 65)) }, "ValidationError"},
		"a session with |": {func(in *sts.AssumeRoleWithWebIdentityInput) { in.RoleSessionName = aws.String("auth0|a") }, "ValidationError"},
		"a short role":     {func(in *sts.AssumeRoleWithWebIdentityInput) { in.RoleArn = aws.String("arn:aws:iam::1:role") }, "ValidationError"},
		"an unknown role":  {func(in *sts.AssumeRoleWithWebIdentityInput) { in.RoleArn = aws.String(roleARN + "2") }, "AccessDenied"},
		"a short token":    {func(in *sts.AssumeRoleWithWebIdentityInput) { in.WebIdentityToken = aws.String("abc") }, "ValidationError"},
		"a long token": {func(in *sts.AssumeRoleWithWebIdentityInput) {
			in.WebIdentityToken = aws.String(strings.Repeat("a", 20_001))
		}, "ValidationError"},
		"899 s":               {func(in *sts.AssumeRoleWithWebIdentityInput) { in.DurationSeconds = aws.Int32(899) }, "ValidationError"},
		"43201 s":             {func(in *sts.AssumeRoleWithWebIdentityInput) { in.DurationSeconds = aws.Int32(43_201) }, "ValidationError"},
		"more than the role":  {func(in *sts.AssumeRoleWithWebIdentityInput) { in.DurationSeconds = aws.Int32(7201) }, "ValidationError"},
		"as long as the role": {func(in *sts.AssumeRoleWithWebIdentityInput) { in.DurationSeconds = aws.Int32(7200) }, ""},
		"an empty policy":     {func(in *sts.AssumeRoleWithWebIdentityInput) { in.Policy = aws.String("") }, "ValidationError"},
		"a long policy":       {func(in *sts.AssumeRoleWithWebIdentityInput) { in.Policy = aws.String(strings.Repeat(" ", 2049)) }, "ValidationError"},
		"beyond Latin-1":      {func(in *sts.AssumeRoleWithWebIdentityInput) { in.Policy = aws.String("日本") }, "ValidationError"},
		"a broken policy":     {func(in *sts.AssumeRoleWithWebIdentityInput) { in.Policy = aws.String("{}") }, "MalformedPolicyDocument"},
		"a policy for others": {func(in *sts.AssumeRoleWithWebIdentityInput) {
			in.Policy = aws.String(`{"Statement":{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"*"}}`)
		}, "MalformedPolicyDocument"},
		"a policy of no place": {func(in *sts.AssumeRoleWithWebIdentityInput) {
			in.Policy = aws.String(`{"Statement":{"Effect":"Allow","Action":"s3:*"}}`)
		}, "MalformedPolicyDocument"},
		"a provider id": {func(in *sts.AssumeRoleWithWebIdentityInput) { in.ProviderId = aws.String("www.amazon.com") }, "InvalidIdentityToken"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.call(t.Context(), token, tc.change)
			if tc.code != "" {
				mustRefuse(t, err, tc.code)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTheTrustPolicyDecides(t *testing.T) {
	for name, tc := range map[string]struct {
		condition string
		without   string // an action that is not in the policy
		change    map[string]any
		code      string
	}{
		"the subject":             {`"StringEquals":{"%s:sub":"auth0|alice"}`, "", nil, ""},
		"another subject":         {`"StringEquals":{"%s:sub":"auth0|bob"}`, "", nil, "AccessDenied"},
		"the true audience":       {`"ForAnyValue:StringEquals":{"%s:oaud":"` + audience + `"}`, "", nil, ""},
		"another true audience":   {`"ForAnyValue:StringEquals":{"%s:oaud":"other"}`, "", nil, "AccessDenied"},
		"aud is azp":              {`"StringEquals":{"%s:aud":"` + audience + `"}`, "", nil, "AccessDenied"},
		"a tag that must be":      {`"Null":{"aws:RequestTag/tenant":"false"}`, "", map[string]any{tagClaim: nil}, "AccessDenied"},
		"a tag of a value":        {`"StringEquals":{"aws:RequestTag/tenant":"acme"}`, "", nil, ""},
		"roles must be named":     {`"Bool":{"sts:RoleAuthorizedByIdp":"true"}`, "", nil, "AccessDenied"},
		"roles are named":         {`"Bool":{"sts:RoleAuthorizedByIdp":"true"}`, "", map[string]any{"https://aws.amazon.com/roles": roleARN}, ""},
		"the session's name":      {`"StringLike":{"sts:RoleSessionName":"cb-*"}`, "", nil, "AccessDenied"},
		"tags without TagSession": {`"StringEquals":{"%s:aud":"client"}`, `,"sts:TagSession"`, nil, "AccessDenied"},
		"no tags, no TagSession":  {`"StringEquals":{"%s:aud":"client"}`, `,"sts:TagSession"`, map[string]any{tagClaim: nil}, ""},
		"an identity without SetSourceIdentity": {
			`"StringEquals":{"%s:aud":"client"}`, `,"sts:SetSourceIdentity"`, map[string]any{"https://aws.amazon.com/source_identity": "alice"}, "AccessDenied",
		},
		"no identity, no SetSourceIdentity": {`"StringEquals":{"%s:aud":"client"}`, `,"sts:SetSourceIdentity"`, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(c *localsts.Config) {
				host := strings.TrimPrefix(c.Providers[0].URL, "http://")
				c.Roles[0].TrustPolicy = []byte(strings.Replace(string(trust(host, tc.condition)), tc.without, "", 1))
			})
			_, err := w.call(t.Context(), w.mint(t, w.claims(tc.change)), nil)
			if tc.code != "" {
				mustRefuse(t, err, tc.code)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	w := newWorld(t, func(c *localsts.Config) { c.Roles[0].TrustPolicy = trust("other.example", `"Null":{"a":"true"}`) })
	_, err := w.call(t.Context(), w.mint(t, w.claims(nil)), nil)
	mustRefuse(t, err, "AccessDenied")
}

func TestASessionMayDoWhatBothPoliciesAllow(t *testing.T) {
	w := newWorld(t, nil)
	open := func(policy string) localsts.Session {
		t.Helper()
		out, err := w.call(t.Context(), w.mint(t, w.claims(nil)), func(in *sts.AssumeRoleWithWebIdentityInput) {
			if policy != "" {
				in.Policy = aws.String(policy)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		s, _ := w.sts.Session(*out.Credentials.AccessKeyId)
		return s
	}
	const wide = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}`
	const reads = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::b/acme/in/*"}}`
	const denies = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"s3:PutObject","Resource":"*"},{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}`
	for _, tc := range []struct {
		policy, action, key string
		want                iam.Decision
	}{
		{"", "s3:GetObject", "acme/x", iam.Allow}, // no policy: the whole role
		{"", "s3:GetObject", "other/x", iam.ImplicitDeny},
		{wide, "s3:GetObject", "acme/x", iam.Allow},
		{wide, "s3:GetObject", "other/x", iam.ImplicitDeny}, // a session policy never grants
		{wide, "s3:DeleteObject", "acme/x", iam.ImplicitDeny},
		{reads, "s3:GetObject", "acme/in/x", iam.Allow},
		{reads, "s3:GetObject", "acme/x", iam.ImplicitDeny},
		{reads, "s3:PutObject", "acme/in/x", iam.ImplicitDeny},
		{denies, "s3:PutObject", "acme/x", iam.ExplicitDeny},
		{denies, "s3:GetObject", "acme/x", iam.Allow},
	} {
		// What the request brings cannot stand for what the session has.
		got := open(tc.policy).Authorize(tc.action, "arn:aws:s3:::b/"+tc.key, map[string][]string{"aws:PrincipalTag/tenant": {"other"}, "AWS:PRINCIPALTAG/tenant": {"other"}})
		if got != tc.want {
			t.Errorf("%s on %s under %q: %d", tc.action, tc.key, tc.policy, got)
		}
	}
}

// post sends a form as it is.
func (w *world) post(t testing.TB, method, query, form string, header http.Header) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, w.url+"/"+query, strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestWhatIsAmbiguousOrUnknownIsRefused(t *testing.T) {
	w := newWorld(t, nil)
	form := url.Values{
		"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "RoleArn": {roleARN}, "RoleSessionName": {"session"}, "WebIdentityToken": {w.mint(t, w.claims(nil))},
	}.Encode()
	if status, body := w.post(t, http.MethodPost, "", form, nil); status != 200 {
		t.Fatalf("as it is: %d %s", status, body)
	}
	if status, body := w.post(t, http.MethodGet, "?"+form, "", nil); status != 200 {
		t.Fatalf("by GET: %d %s", status, body)
	}
	for name, tc := range map[string]struct{ method, query, form, code string }{
		"a parameter twice":     {http.MethodPost, "", form + "&RoleSessionName=other", "MalformedInput"},
		"in the query too":      {http.MethodPost, "?Policy=x", form, "MalformedInput"},
		"an unknown parameter":  {http.MethodPost, "", form + "&Polcy=x", "ValidationError"},
		"managed policies":      {http.MethodPost, "", form + "&PolicyArns.member.1.arn=x", "ValidationError"},
		"another version":       {http.MethodPost, "", strings.Replace(form, "2011-06-15", "2026-01-01", 1), "InvalidAction"},
		"an unknown action":     {http.MethodPost, "", strings.Replace(form, "Action=Assume", "Action=Xssume", 1), "InvalidAction"},
		"no action":             {http.MethodPost, "", "", "InvalidAction"},
		"chaining":              {http.MethodPost, "", "Action=AssumeRole&Version=2011-06-15", "AccessDenied"},
		"who, without a key":    {http.MethodPost, "", "Action=GetCallerIdentity&Version=2011-06-15", "InvalidClientTokenId"},
		"too long":              {http.MethodPost, "", form + "&x=" + strings.Repeat("a", 65<<10), "MalformedInput"},
		"no role":               {http.MethodPost, "", strings.Replace(form, "RoleArn=", "ProviderX=", 1), "ValidationError"},
		"no token in the form":  {http.MethodPost, "", "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleSessionName=ab&RoleArn=" + url.QueryEscape(roleARN), "ValidationError"},
		"a duration of a word":  {http.MethodPost, "", form + "&DurationSeconds=long", "ValidationError"},
		"a form that is broken": {http.MethodPost, "", "%zz", "MalformedInput"},
	} {
		status, body := w.post(t, tc.method, tc.query, tc.form, nil)
		if status < 400 || !strings.Contains(body, "<Code>"+tc.code+"</Code>") {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
}

func TestTwoAudiencesWithoutAnAuthorizedPartyAreExplained(t *testing.T) {
	w := newWorld(t, nil)
	_, err := w.call(t.Context(), w.mint(t, w.claims(map[string]any{"azp": nil, "aud": []string{"client", "x"}})), nil)
	if err == nil || !strings.Contains(err.Error(), "more than one audience") {
		t.Errorf("got %v", err)
	}
}

// A session without a tag does not get one from what the request brings.
func TestARequestBringsNoTags(t *testing.T) {
	w := newWorld(t, nil)
	out, err := w.call(t.Context(), w.mint(t, w.claims(map[string]any{tagClaim: nil})), nil)
	if err != nil {
		t.Fatal(err)
	}
	s, _ := w.sts.Session(*out.Credentials.AccessKeyId)
	for _, key := range []string{"aws:PrincipalTag/tenant", "AWS:principaltag/tenant"} {
		if s.Authorize("s3:GetObject", "arn:aws:s3:::b/acme/x", map[string][]string{key: {"acme"}}).Allowed() {
			t.Errorf("%s is believed", key)
		}
	}
}

func TestASignatureThatIsRefusedIsNobodys(t *testing.T) {
	var id string
	w := newWorld(t, func(c *localsts.Config) {
		c.Authenticate = func(*http.Request) (string, error) { return id, errors.New("refused") }
	})
	out, err := w.call(t.Context(), w.mint(t, w.claims(nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	id = *out.Credentials.AccessKeyId
	if status, body := w.post(t, http.MethodPost, "", "Action=GetCallerIdentity&Version=2011-06-15", http.Header{"Authorization": {"x"}}); status != 403 {
		t.Errorf("%d %s", status, body)
	}
}

func TestWhoASessionIs(t *testing.T) {
	w := newWorld(t, nil)
	out, err := w.call(t.Context(), w.mint(t, w.claims(nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	ask := func() (int, string) {
		return w.post(t, http.MethodPost, "", "Action=GetCallerIdentity&Version=2011-06-15", http.Header{"Authorization": {"x"}, "X-Test-Key": {*out.Credentials.AccessKeyId}})
	}
	if status, body := ask(); status != 200 || !strings.Contains(body, "<Arn>arn:aws:sts::123456789012:assumed-role/uploads/session</Arn>") {
		t.Errorf("%d %s", status, body)
	}
	w.now = w.now.Add(time.Hour)
	if status, body := ask(); status < 400 || !strings.Contains(body, "ExpiredToken") {
		t.Errorf("after its end: %d %s", status, body)
	}
}

func TestAnIssuerWhoseKeysCannotBeReadIsSaid(t *testing.T) {
	for name, change := range map[string]func(map[string]any, []any){
		"no response types": func(d map[string]any, _ []any) { delete(d, "response_types_supported") },
		"no subject types":  func(d map[string]any, _ []any) { delete(d, "subject_types_supported") },
		"no algorithms":     func(d map[string]any, _ []any) { delete(d, "id_token_signing_alg_values_supported") },
		"no claims":         func(d map[string]any, _ []any) { delete(d, "claims_supported") },
		"another issuer":    func(d map[string]any, _ []any) { d["issuer"] = "http://other/" },
		"no key set":        func(d map[string]any, _ []any) { delete(d, "jwks_uri") },
		"keys to encrypt": func(_ map[string]any, keys []any) {
			for _, k := range keys {
				if key, ok := k.(map[string]any); ok {
					key["use"] = "enc"
				}
			}
		},
		"key_ops": func(_ map[string]any, keys []any) {
			for _, k := range keys {
				if key, ok := k.(map[string]any); ok {
					key["key_ops"] = []string{"verify"}
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			real := w.auth0
			front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				answer := httptest.NewRecorder()
				r.Host = w.host[:len(w.host)-1]
				real.ServeHTTP(answer, r)
				var document map[string]any
				if err := json.Unmarshal(answer.Body.Bytes(), &document); err != nil {
					t.Error(err)
				}
				keys, _ := document["keys"].([]any)
				change(document, keys)
				_ = json.NewEncoder(rw).Encode(document)
			}))
			defer front.Close()
			w2 := newWorld(t, func(c *localsts.Config) {
				c.Providers[0].URL = w.issuer
				c.Roles[0].TrustPolicy = trust(w.host, `"StringEquals":{"%s:aud":"client"}`)
				c.HTTP = &http.Client{Transport: redirectTo(front.URL)}
			})
			_, err := w2.call(t.Context(), w.mint(t, w.claims(nil)), nil)
			mustRefuse(t, err, "InvalidIdentityToken")
			if !strings.Contains(fmt.Sprint(err), "Couldn't retrieve verification key") {
				t.Errorf("%v", err)
			}
		})
	}
}

// redirectTo sends every request to one address.
type redirectTo string

func (to redirectTo) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Host = strings.TrimPrefix(string(to), "http://")
	return http.DefaultTransport.RoundTrip(r)
}

func TestAnAccountThatIsNotWholeIsNotMade(t *testing.T) {
	good := func() localsts.Config {
		return localsts.Config{
			Region: "r", AccountID: "1", Providers: []localsts.Provider{{URL: "https://i/", ClientIDs: []string{"c"}}},
			Roles: []localsts.Role{{Name: "r", TrustPolicy: trust("i/", `"Null":{"a":"true"}`), Policy: []byte(`{"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}`)}},
		}
	}
	if _, err := localsts.New(good()); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*localsts.Config){
		"no region":                func(c *localsts.Config) { c.Region = "" },
		"no account":               func(c *localsts.Config) { c.AccountID = "" },
		"a provider of no URL":     func(c *localsts.Config) { c.Providers[0].URL = "i" },
		"a provider of no client":  func(c *localsts.Config) { c.Providers[0].ClientIDs = nil },
		"a trust of nobody":        func(c *localsts.Config) { c.Roles[0].TrustPolicy = c.Roles[0].Policy },
		"a role with a principal":  func(c *localsts.Config) { c.Roles[0].Policy = c.Roles[0].TrustPolicy },
		"a role of a broken trust": func(c *localsts.Config) { c.Roles[0].TrustPolicy = []byte("{") },
	} {
		cfg := good()
		change(&cfg)
		if _, err := localsts.New(cfg); err == nil {
			t.Errorf("%s: made", name)
		}
	}
}

func TestATestMayHaveItFail(t *testing.T) {
	w := newWorld(t, func(c *localsts.Config) {
		c.Fail = func(rw http.ResponseWriter, _ *http.Request) bool { rw.WriteHeader(http.StatusBadGateway); return true }
	})
	if _, err := w.call(t.Context(), w.mint(t, w.claims(nil)), nil); err == nil {
		t.Error("it answers")
	}
}

// Whatever the form: no session without a token that verifies.
func FuzzForm(f *testing.F) {
	f.Add("Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=" + roleARN + "&RoleSessionName=ab&WebIdentityToken=a.b.c")
	f.Add("Action=GetCallerIdentity&Version=2011-06-15")
	w := newWorld(f, nil)
	f.Fuzz(func(t *testing.T, form string) {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(form))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		rec := httptest.NewRecorder()
		w.sts.ServeHTTP(rec, r)
		if rec.Code == http.StatusOK {
			t.Fatalf("%q: %s", form, rec.Body)
		}
	})
}

package versitygw_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/xml"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"credential-broker/broker/brokertest/versitygw"
)

const (
	region = "ap-northeast-1"
	bucket = "uploads"

	whole = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":["arn:aws:s3:::uploads","arn:aws:s3:::uploads/*"]}]}`
	acme  = `{"Version":"2012-10-17","Statement":[
{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject"],"Resource":"arn:aws:s3:::uploads/tenants/acme/*"},
{"Effect":"Allow","Action":"s3:ListBucket","Resource":"arn:aws:s3:::uploads","Condition":{"StringLike":{"s3:prefix":"tenants/acme/*"}}}]}`
)

// trust is a trust policy for the issuer's tokens, with one more condition.
func trust(condition string) []byte {
	return []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
"Action":["sts:AssumeRoleWithWebIdentity","sts:TagSession","sts:SetSourceIdentity"],
"Principal":{"Federated":"` + versitygw.ProviderARN(issuerURL) + `"},
"Condition":{"StringEquals":{"` + versitygw.Address + `:aud":"` + audience + `"}` + condition + `}}]}`)
}

// assume exchanges a token for a quarter of an hour; the code is STS's, empty when
// it gave credentials.
func assume(t *testing.T, server *versitygw.Server, role, token, policy string) (keys aws.Credentials, code string) {
	t.Helper()
	return assumeFor(t, server, role, token, policy, "900")
}

func assumeFor(t *testing.T, server *versitygw.Server, role, token, policy, seconds string) (keys aws.Credentials, code string) {
	t.Helper()
	form := url.Values{
		"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "RoleArn": {server.Roles[role]},
		"RoleSessionName": {"session"}, "WebIdentityToken": {token}, "DurationSeconds": {seconds},
	}
	if policy != "" {
		form.Set("Policy", policy)
	}
	resp, err := http.PostForm(server.STS, form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Key    string `xml:"AssumeRoleWithWebIdentityResult>Credentials>AccessKeyId"`
		Secret string `xml:"AssumeRoleWithWebIdentityResult>Credentials>SecretAccessKey"`
		Token  string `xml:"AssumeRoleWithWebIdentityResult>Credentials>SessionToken"`
		Code   string `xml:"Error>Code"`
	}
	if err := xml.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return aws.Credentials{AccessKeyID: answer.Key, SecretAccessKey: answer.Secret, SessionToken: answer.Token}, answer.Code
}

// call sends a signed request to S3.
func call(t *testing.T, server *versitygw.Server, keys aws.Credentials, method, target, body string, header ...string) (int, string) {
	t.Helper()
	return callIn(t, server, region, keys, method, target, body, header...)
}

func callIn(
	t *testing.T, server *versitygw.Server, region string, keys aws.Credentials, method, target, body string, header ...string,
) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, server.S3+"/"+bucket+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	sum := sha256.Sum256([]byte(body))
	hash := hex.EncodeToString(sum[:])
	req.Header.Set("X-Amz-Content-Sha256", hash)
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	if err := signer.SignHTTP(t.Context(), keys, req, hash, "s3", region, time.Now()); err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}

func TestASessionPolicyConfinesWhatTheRoleAllows(t *testing.T) {
	versitygw.Need(t)
	i := newIssuer(t)
	server := start(t, i, versitygw.Role{Name: "tenant-uploads", TrustPolicy: trust(""), Policy: []byte(whole), MaxSession: 2 * time.Hour})
	if status, answer := call(t, server, server.Root, http.MethodPut, "/tenants/other/b.txt", "theirs"); status != http.StatusOK {
		t.Fatalf("seed: %d %s", status, answer)
	}
	keys, code := assume(t, server, "tenant-uploads", i.token(t, nil), acme)
	if code != "" {
		t.Fatal(code)
	}
	for _, tc := range []struct {
		name, method, target string
		want                 int
	}{
		{"put inside", http.MethodPut, "/tenants/acme/a.txt", 200},
		{"get inside", http.MethodGet, "/tenants/acme/a.txt", 200},
		{"list inside", http.MethodGet, "?list-type=2&prefix=tenants%2Facme%2F", 200},
		{"put outside", http.MethodPut, "/tenants/other/a.txt", 403},
		{"put beside, with the name as beginning", http.MethodPut, "/tenants/acme2/a.txt", 403},
		{"get outside", http.MethodGet, "/tenants/other/b.txt", 403},
		{"list outside", http.MethodGet, "?list-type=2&prefix=tenants%2Fother%2F", 403},
		{"list everything", http.MethodGet, "?list-type=2", 403},
		{"delete, which is not granted", http.MethodDelete, "/tenants/acme/a.txt", 403},
	} {
		body := ""
		if tc.method == http.MethodPut {
			body = "mine"
		}
		status, answer := call(t, server, keys, tc.method, tc.target, body)
		if status != tc.want {
			t.Errorf("%s: %d, want %d: %s", tc.name, status, tc.want, answer)
		}
		if strings.HasSuffix(tc.name, "get inside") && answer != "mine" {
			t.Errorf("%s: %q", tc.name, answer)
		}
	}
	keys, code = assume(t, server, "tenant-uploads", i.token(t, nil), "")
	if status, _ := call(t, server, keys, http.MethodGet, "/tenants/other/b.txt", ""); code != "" || status != http.StatusOK {
		t.Errorf("without a session policy the role alone decides: %q, %d", code, status)
	}
}

func TestSTSTakesOnlyTheIssuersTokens(t *testing.T) {
	versitygw.Need(t)
	i := newIssuer(t)
	server := start(t, i, versitygw.Role{Name: "tenant-uploads", TrustPolicy: trust(""), Policy: []byte(whole)})
	stranger := &issuer{key: newKey(t)}
	for _, tc := range []struct{ name, token, want string }{
		{"the issuer's", i.token(t, nil), ""},
		{"another issuer's", stranger.token(t, map[string]any{"iss": "https://203.0.113.8"}), "InvalidIdentityToken"},
		{"signed by another", stranger.token(t, nil), "InvalidIdentityToken"},
		{"for another audience", i.token(t, map[string]any{"aud": "https://elsewhere.example"}), "InvalidIdentityToken"},
		{"expired", i.token(t, map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}), "ExpiredTokenException"},
	} {
		if _, code := assume(t, server, "tenant-uploads", tc.token, acme); code != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, code, tc.want)
		}
	}
}

// What differs from AWS, so that a later version that closes a gap is noticed.
func TestWhatTheServerDoesOtherwiseThanAWS(t *testing.T) {
	versitygw.Need(t)
	i := newIssuer(t)
	byTag := strings.ReplaceAll(whole, "uploads/*", "uploads/tenants/${aws:PrincipalTag/tenant}/*")
	server := start(t, i,
		versitygw.Role{Name: "plain", TrustPolicy: trust(""), Policy: []byte(whole)},
		versitygw.Role{Name: "by-principal-tag", TrustPolicy: trust(""), Policy: []byte(byTag)},
		versitygw.Role{Name: "wants-request-tag", TrustPolicy: trust(`,"StringLike":{"aws:RequestTag/tenant":"?*"}`), Policy: []byte(whole)},
		versitygw.Role{Name: "from-here", TrustPolicy: trust(`,"IpAddress":{"aws:SourceIp":"127.0.0.0/8"}`), Policy: []byte(whole)},
		versitygw.Role{Name: "from-elsewhere", TrustPolicy: trust(`,"IpAddress":{"aws:SourceIp":"198.51.100.0/24"}`), Policy: []byte(whole)},
	)
	full := map[string]any{
		"https://aws.amazon.com/tags": map[string]any{
			"principal_tags": map[string][]string{"tenant": {"acme"}}, "transitive_tag_keys": []string{"tenant"},
		},
		"https://aws.amazon.com/source_identity": "user-1",
		"https://aws.amazon.com/roles":           []string{server.Roles["from-elsewhere"]},
	}
	for _, tc := range []struct {
		name, role string
		claims     map[string]any
		want       string
		put        int // of an object of acme's; 0 without credentials
	}{
		{"the roles claim does not bind", "plain", full, "", 200},
		{"azp stands for aud, and must be a client", "plain", map[string]any{"azp": "app"}, "InvalidIdentityToken", 0},
		{"azp that is a client excuses any aud", "plain", map[string]any{"azp": audience, "aud": "https://api.example"}, "", 200},
		{"a tag of the token is not a principal tag", "by-principal-tag", full, "", 403},
		{"a tag of the token is not a request tag", "wants-request-tag", full, "InvalidIdentityToken", 0},
		{"the source address is seen", "from-here", nil, "", 200},
		{"another source address is refused", "from-elsewhere", nil, "InvalidIdentityToken", 0},
	} {
		keys, code := assume(t, server, tc.role, i.token(t, tc.claims), acme)
		if code != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, code, tc.want)
			continue
		}
		if tc.put == 0 {
			continue
		}
		if status, answer := call(t, server, keys, http.MethodPut, "/tenants/acme/a.txt", "x"); status != tc.put {
			t.Errorf("%s: put: %d, want %d: %s", tc.name, status, tc.put, answer)
		}
	}
	keys, _ := assume(t, server, "plain", i.token(t, nil), acme)
	status, answer := call(t, server, keys, http.MethodPut, "/tenants/acme/k.txt", "x",
		"X-Amz-Server-Side-Encryption", "aws:kms", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id", "arn:aws:kms:x:000000000000:key/none")
	if status != http.StatusOK {
		t.Errorf("encryption by a key that nobody granted: %d, want 200: %s", status, answer)
	}
}

func TestTheCertificateIsForTheAddress(t *testing.T) {
	cert, ca, err := versitygw.NewTLS()
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	if _, err := cert.Leaf.Verify(x509.VerifyOptions{DNSName: versitygw.Address, Roots: roots}); err != nil {
		t.Error(err)
	}
}

func TestARoleHasOnlyWhatItWasGiven(t *testing.T) {
	versitygw.Need(t)
	i := newIssuer(t)
	server, err := versitygw.Start(t.Context(), versitygw.Config{
		Binary: versitygw.Need(t), Dir: t.TempDir(), Buckets: []string{bucket},
		Provider: versitygw.Provider{URL: issuerURL, ClientIDs: []string{audience, "second"}, CA: i.ca},
		Roles: []versitygw.Role{
			{Name: "hour", TrustPolicy: trust("")},
			{Name: "two-hours", TrustPolicy: trust(""), Policy: []byte(whole), MaxSession: 2 * time.Hour},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	for _, tc := range []struct {
		role, seconds, want string
		list                int
	}{
		{"hour", "3600", "", 403},
		{"hour", "3601", "ValidationError", 0},
		{"two-hours", "7200", "", 200},
		{"two-hours", "7201", "ValidationError", 0},
	} {
		keys, code := assumeFor(t, server, tc.role, i.token(t, nil), "", tc.seconds)
		if code != tc.want {
			t.Errorf("%s, %s s: %q, want %q", tc.role, tc.seconds, code, tc.want)
			continue
		}
		if tc.list == 0 {
			continue
		}
		if status, answer := callIn(t, server, "us-east-1", keys, http.MethodGet, "?list-type=2", ""); status != tc.list {
			t.Errorf("%s: list: %d, want %d: %s", tc.role, status, tc.list, answer)
		}
	}
}

func TestStartSaysWhatTheServerRefuses(t *testing.T) {
	binary := versitygw.Need(t)
	_, ca, err := versitygw.NewTLS()
	if err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*versitygw.Config){
		"seed versitygw: CreateOpenIDConnectProvider: 400": func(c *versitygw.Config) { c.Provider.URL = "http://" + versitygw.Address },
		"seed versitygw: role x: CreateRole: 400": func(c *versitygw.Config) {
			c.Roles = []versitygw.Role{{Name: "x", TrustPolicy: []byte("{}")}}
		},
		"seed versitygw: role x: PutRolePolicy: 400": func(c *versitygw.Config) {
			c.Roles = []versitygw.Role{{Name: "x", TrustPolicy: trust(""), Policy: []byte("{}")}}
		},
		"seed versitygw: bucket X: 400": func(c *versitygw.Config) { c.Buckets = []string{"X"} },
	} {
		c := versitygw.Config{Binary: binary, Dir: t.TempDir(), Provider: versitygw.Provider{URL: issuerURL, CA: ca}}
		spoil(&c)
		if _, err := versitygw.Start(t.Context(), c); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestStartSaysWhatIsMissingOrEnded(t *testing.T) {
	_, ca, err := versitygw.NewTLS()
	if err != nil {
		t.Fatal(err)
	}
	good := versitygw.Config{Binary: "/bin/false", Dir: t.TempDir(), Provider: versitygw.Provider{URL: issuerURL, CA: ca}}
	for name, tc := range map[string]struct {
		spoil func(*versitygw.Config)
		want  string
	}{
		"no binary":                    {func(c *versitygw.Config) { c.Binary = "" }, "are needed"},
		"no folder":                    {func(c *versitygw.Config) { c.Dir = "" }, "are needed"},
		"no issuer":                    {func(c *versitygw.Config) { c.Provider.URL = "" }, "are needed"},
		"no root":                      {func(c *versitygw.Config) { c.Provider.CA = nil }, "are needed"},
		"a folder that is a file":      {func(c *versitygw.Config) { c.Dir = "/dev/null" }, "make folder"},
		"a binary that does not exist": {func(c *versitygw.Config) { c.Binary = "/nonexistent" }, "start process"},
		"a binary that ends at once":   {func(*versitygw.Config) {}, "ended before it was ready: exit status 1"},
	} {
		t.Run(name, func(t *testing.T) {
			c := good
			tc.spoil(&c)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := versitygw.Start(ctx, c); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}

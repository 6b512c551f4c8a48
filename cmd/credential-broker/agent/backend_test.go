package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"credential-broker/broker"
	"credential-broker/broker/brokertest"
	"credential-broker/broker/brokertest/localauth0"
	"credential-broker/broker/brokertest/localk8s"
	"credential-broker/cmd/credential-broker/agent"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/cmd/credential-broker/serve"
	"credential-broker/cmd/credential-broker/servetest"
)

const (
	clusterURL   = "https://kubernetes.default.svc.cluster.local"
	uploadClient = "upload-service"
)

// backends is a broker that takes tokens of an Auth0 and of a cluster, before a local
// AWS that enforces.
const backends = `
listen: "127.0.0.1:0"
admin_listen: "127.0.0.1:0"
issuers:
  - {url: "ISSUER", audiences: ["AUDIENCE"]}
  - {url: "` + clusterURL + `", audiences: ["AUDIENCE"]}
web_identity: {mode: minted, issuer: "BROKER", signing_keys: ["KEY"]}
sts: {region: ap-northeast-1, endpoint: "STS"}
grants:
  - name: reports
    match: {permissions: ["broker:act-for-tenant"], claims: {iss: "ISSUER"}}
    role_arn: arn:aws:iam::123456789012:role/tenant-uploads
    tenant: {request: true, pattern: "org_[A-Za-z0-9]{1,40}"}
    bucket: acme-uploads
    region: ap-northeast-1
    prefix: tenants/{tenant}/
    access: [list, read, write]
  - name: uploads
    match: {permissions: ["upload:files"], claims: {iss: "ISSUER"}}
    role_arn: arn:aws:iam::123456789012:role/tenant-uploads
    tenant: {claim: org_id}
    bucket: acme-uploads
    region: ap-northeast-1
    prefix: tenants/{tenant}/
    access: [list, read, write]
  - name: jobs
    match: {claims: {iss: "` + clusterURL + `"}}
    role_arn: arn:aws:iam::123456789012:role/tenant-uploads
    tenant: {claim: /kubernetes.io/namespace}
    bucket: acme-uploads
    region: ap-northeast-1
    prefix: namespaces/{tenant}/
    access: [list, read, write]
`

// scene is what a backend needs to know.
type scene struct {
	*testing.T
	broker, issuer, s3 string
	cluster            *localk8s.Cluster
}

// toCluster stands for the cluster's DNS and network.
type toCluster struct{ cluster http.Handler }

func (n toCluster) RoundTrip(r *http.Request) (*http.Response, error) {
	if "https://"+r.URL.Host != clusterURL {
		return http.DefaultTransport.RoundTrip(r)
	}
	w := httptest.NewRecorder()
	n.cluster.ServeHTTP(w, r)
	return w.Result(), nil
}

func newScene(t *testing.T, rfc9068 bool) *scene {
	t.Helper()
	s := &scene{T: t}
	front := httptest.NewUnstartedServer(nil)
	s.issuer = "http://" + front.Listener.Addr().String() + "/"
	cfg := localauth0.Demo(s.issuer, brokertest.Audience, "")
	cfg.RFC9068 = rfc9068
	cfg.Clients = append(cfg.Clients, localauth0.Client{
		ID: uploadClient, Secret: canary, Permissions: []string{"upload:files"}, Grants: []string{localauth0.GrantClientCredentials}, Organization: localauth0.DemoOrgAcme,
	})
	auth0, err := localauth0.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	front.Config.Handler = auth0
	front.Start()
	t.Cleanup(front.Close)
	if s.cluster, err = localk8s.New(clusterURL); err != nil {
		t.Fatal(err)
	}
	l, address := servetest.Listen(t)
	s.broker = address
	text := strings.NewReplacer("ISSUER", s.issuer, "AUDIENCE", brokertest.Audience, "BROKER", s.broker, "KEY", servetest.SigningKey(t)).Replace(backends)
	s.s3 = s.aws(parse(t, strings.ReplaceAll(text, "STS", "http://127.0.0.1:1")))
	servetest.Start(t, parse(t, strings.ReplaceAll(text, "STS", s.s3)), serve.Options{Listener: l, Transport: toCluster{s.cluster}})
	return s
}

func parse(t testing.TB, text string) config.Config {
	t.Helper()
	cfg, err := config.Parse("test.yaml", []byte(text), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// aws makes the account that the configuration needs, and returns its address.
func (s *scene) aws(cfg config.Config) string {
	s.Helper()
	server := httptest.NewServer(servetest.AWS(s, cfg, nil))
	s.Cleanup(server.Close)
	return server.URL
}

// client are the options of an Auth0 client.
func (s *scene) client(id, secret string) agent.Options {
	return agent.Options{
		BrokerURL: s.broker, ClientID: id, ClientSecret: broker.NewSecret(secret), TokenURL: s.issuer + "oauth/token", Audience: brokertest.Audience,
	}
}

// program starts an agent and returns S3 as a program beside it has it: the SDK's
// own default configuration, and two variables.
func (s *scene) program(t *testing.T, o agent.Options) *s3.Client {
	t.Helper()
	a, err := agent.New(o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := agent.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key")
	authorization, err := agent.ReadAuthorization(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	servetest.Run(t, func(ctx context.Context) error { return a.Serve(ctx, l, authorization) })
	for name, value := range map[string]string{
		"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://" + l.Addr().String() + agent.Path, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": path,
		"AWS_REGION": brokertest.Region, "AWS_ENDPOINT_URL_S3": s.s3, "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "",
		"AWS_CONTAINER_AUTHORIZATION_TOKEN": "", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "", "AWS_WEB_IDENTITY_TOKEN_FILE": "",
	} {
		t.Setenv(name, value)
	}
	cfg, err := awsconfig.LoadDefaultConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
}

// put puts an object and returns the code of what S3, or the agent, said.
func put(t *testing.T, client *s3.Client, object string) string {
	t.Helper()
	bucket := brokertest.Bucket
	_, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &object, Body: bytes.NewReader([]byte("x"))})
	var api smithy.APIError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &api):
		return api.ErrorCode()
	default:
		t.Errorf("put %s: %v", object, err)
		return "?"
	}
}

// Both profiles of Auth0's access tokens: the agent takes them as they are.
func TestABackendWithAClient(t *testing.T) {
	for name, rfc9068 := range map[string]bool{"Auth0's profile": false, "RFC 9068": true} {
		s := newScene(t, rfc9068)
		t.Run(name+", the client's own organization", func(t *testing.T) {
			client := s.program(t, s.client(uploadClient, canary))
			for object, want := range map[string]string{
				"tenants/org_acme/a": "", "tenants/org_globex/a": "AccessDenied", "tenants/org_acme2/a": "AccessDenied", "a": "AccessDenied", "namespaces/org_acme/a": "AccessDenied",
			} {
				if got := put(t, client, object); got != want {
					t.Errorf("%s: %q, want %q", object, got, want)
				}
			}
		})
		t.Run(name+", acting for a tenant", func(t *testing.T) {
			o := s.client(localauth0.DemoMachine, localauth0.DemoMachineSecret)
			o.Grant, o.Tenant = "reports", "org_globex"
			client := s.program(t, o)
			for object, want := range map[string]string{"tenants/org_globex/a": "", "tenants/org_acme/a": "AccessDenied"} {
				if got := put(t, client, object); got != want {
					t.Errorf("%s: %q, want %q", object, got, want)
				}
			}
		})
		t.Run(name+", narrowed", func(t *testing.T) {
			o := s.client(localauth0.DemoMachine, localauth0.DemoMachineSecret)
			o.Tenant, o.Path, o.Access = "org_globex", "in/", "write"
			client := s.program(t, o)
			for object, want := range map[string]string{"tenants/org_globex/in/a": "", "tenants/org_globex/a": "AccessDenied"} {
				if got := put(t, client, object); got != want {
					t.Errorf("%s: %q, want %q", object, got, want)
				}
			}
		})
		// The user of the SDK sees why.
		for why, tc := range map[string]struct {
			change func(*agent.Options)
			code   string
		}{
			"a tenant that no grant lets it name": {func(o *agent.Options) { o.Tenant = "org_globex" }, "scope_not_allowed"},
			"another's grant":                     {func(o *agent.Options) { o.Grant = "reports" }, "no_grant"},
			"a wrong secret":                      {func(o *agent.Options) { o.ClientSecret = broker.NewSecret("wrong") }, "token_refused"},
			"another API":                         {func(o *agent.Options) { o.Audience = "https://other.test" }, "token_refused"},
		} {
			t.Run(name+", "+why, func(t *testing.T) {
				o := s.client(uploadClient, canary)
				tc.change(&o)
				client := s.program(t, o)
				bucket := brokertest.Bucket
				_, err := client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &bucket})
				if err == nil || !strings.Contains(err.Error(), tc.code) {
					t.Errorf("%v does not name %s", err, tc.code)
				}
			})
		}
	}
}

// A service account's token, whose namespace is the tenant.
func TestABackendInACluster(t *testing.T) {
	s := newScene(t, false)
	token := func(a localk8s.Account) string {
		text, err := s.cluster.Token(a)
		if err != nil {
			t.Fatal(err)
		}
		return file(t, "token", text, 0o644)
	}
	t.Run("its own namespace", func(t *testing.T) {
		client := s.program(t, agent.Options{BrokerURL: s.broker, TokenFile: token(localk8s.Account{Namespace: "team-a", Name: "uploader", Audience: brokertest.Audience})})
		for object, want := range map[string]string{
			"namespaces/team-a/a": "", "namespaces/team-b/a": "AccessDenied", "namespaces/team-a2/a": "AccessDenied", "tenants/team-a/a": "AccessDenied",
		} {
			if got := put(t, client, object); got != want {
				t.Errorf("%s: %q, want %q", object, got, want)
			}
		}
	})
	for why, tc := range map[string]struct {
		change func(*agent.Options, *localk8s.Account)
		code   string
	}{
		"for the API server":       {func(_ *agent.Options, a *localk8s.Account) { a.Audience = clusterURL }, "invalid_token"},
		"another namespace, named": {func(o *agent.Options, _ *localk8s.Account) { o.Tenant = "team-b" }, "scope_not_allowed"},
		"the grant of Auth0's":     {func(o *agent.Options, _ *localk8s.Account) { o.Grant = "reports" }, "no_grant"},
		"a path out of its own":    {func(o *agent.Options, _ *localk8s.Account) { o.Path = "../team-b/" }, "invalid_request"},
		"a namespace that is none": {func(_ *agent.Options, a *localk8s.Account) { a.Namespace = "team-a/../team-b" }, "invalid_tenant"},
		"a right it does not have": {func(o *agent.Options, _ *localk8s.Account) { o.Access = "delete" }, "scope_not_allowed"},
		"a namespace with a star":  {func(_ *agent.Options, a *localk8s.Account) { a.Namespace = "*" }, "invalid_tenant"},
		"a namespace with no name": {func(_ *agent.Options, a *localk8s.Account) { a.Namespace = "" }, "invalid_tenant"},
	} {
		t.Run(why, func(t *testing.T) {
			o, a := agent.Options{BrokerURL: s.broker}, localk8s.Account{Namespace: "team-a", Name: "uploader", Audience: brokertest.Audience}
			tc.change(&o, &a)
			o.TokenFile = token(a)
			_, err := agent.Once(t.Context(), o)
			var p *agent.Problem
			if !errors.As(err, &p) || p.Code != tc.code {
				t.Errorf("%v, want %s", err, tc.code)
			}
		})
	}
}

// credential_process prints what the SDKs read: the program's own test is a script;
// here, that the broker's answer is complete.
func TestOnceGetsWhatACredentialProcessPrints(t *testing.T) {
	s := newScene(t, false)
	got, err := agent.Once(t.Context(), s.client(uploadClient, canary))
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if _, err := got.WriteTo(&text); err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Version                                                int
		AccessKeyId, SecretAccessKey, SessionToken, Expiration string
	}
	if err := json.Unmarshal(text.Bytes(), &answer); err != nil || bytes.ContainsRune(text.Bytes(), '\n') {
		t.Fatalf("%v: %q", err, text.String())
	}
	if answer.Version != 1 || answer.AccessKeyId == "" || answer.SecretAccessKey == "" || answer.SessionToken == "" || !strings.HasSuffix(answer.Expiration, "Z") {
		t.Errorf("answered with %s, %s", answer.AccessKeyId, answer.Expiration)
	}
}

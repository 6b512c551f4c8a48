package doctor_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/brokertest"
	"credential-broker/broker/brokertest/localauth0"
	"credential-broker/broker/brokertest/versitygw"
	"credential-broker/broker/escape"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/cmd/credential-broker/doctor"
	"credential-broker/cmd/credential-broker/serve"
	"credential-broker/cmd/credential-broker/servetest"
)

func TestMain(m *testing.M) { os.Exit(versitygw.Isolate(m)) }

const (
	kmsKey      = "arn:aws:kms:ap-northeast-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	tenantClaim = "https://acme.test/tenant" // a name that a bucket can have
)

// shapes are grants of every shape. ROLE is the role's ARN.
const shapes = `
grants:
  - {name: uploads, match: {permissions: ["upload:files"], claims: {plan: gold}}, role_arn: "ROLE", tenant: {claim: org_id, pattern: "org_[a-z0-9]+"}, bucket: acme-uploads, region: ap-northeast-1, prefix: "tenants/{tenant}/", access: [list, read, write, delete]}
  - {name: own, match: {scopes: [profile]}, role_arn: "ROLE", tenant: {claim: /app_metadata/tenant}, bucket: acme-uploads, region: ap-northeast-1, prefix: "users/{tenant}/{user}/", access: [list, read, write, delete]}
  - {name: bucket, role_arn: "ROLE", tenant: {claim: "https://acme.test/tenant"}, bucket: "{tenant}-files", region: ap-northeast-1, prefix: "data/", access: [list, read, write, delete]}
  - {name: sealed, role_arn: "ROLE", tenant: {claim: org_id}, bucket: acme-sealed, region: ap-northeast-1, prefix: "sealed/{tenant}/", access: [list, read, write, delete], kms_key_arn: "` + kmsKey + `"}
  - {name: bound, role_arn: "ROLE", tenant: {claim: org_id}, bucket: acme-uploads, region: ap-northeast-1, prefix: "bound/{tenant}/", access: [list, read, write, delete], bind_source_ip: true}
`

// actFor is for services; it is not in mode forwarded, which cannot bound it.
const actFor = `  - {name: act-for, match: {permissions: ["broker:act-for-tenant"]}, role_arn: "ROLE", tenant: {request: true, pattern: "org_[a-z0-9]+"}, bucket: acme-uploads, region: ap-northeast-1, prefix: "tenants/{tenant}/", access: [list, read]}
`

// world is a broker with its Auth0 and its account.
type world struct {
	t       testing.TB
	cfg     config.Config
	auth0   *localauth0.Server
	broker  string
	s3, sts string
	other   doctor.ObjectName // somebody else's, where the root could put it
	lenient bool              // nothing is enforced: nobody's objects stay as they were
	http    *http.Client      // trusts what publishes the keys; nil: as usual
}

// backend is an account: what the configuration needs to know of it, and how to
// start its STS and S3 for a configuration.
type backend struct {
	issuer    string // of minted tokens; empty: the broker's own address
	account   string
	stsRegion string
	start     func(w *world) (sts, s3 string)
}

// local is the local AWS, made as `credential-broker iam` says; change breaks it.
func local(change func(*world, *brokertest.AWSConfig)) backend {
	return backend{account: brokertest.Account, stsRegion: brokertest.Region, start: func(w *world) (sts, s3 string) {
		aws := servetest.AWS(w.t, w.cfg, func(c *brokertest.AWSConfig) {
			c.Buckets = []brokertest.LocalBucket{
				{Name: "acme-uploads"}, {Name: "acme-files"}, {Name: "globex-files"}, {Name: "acme-sealed", KMSKey: kmsKey},
			}
			if change != nil {
				change(w, c)
			}
		})
		url := listen(w.t, aws)
		return url, url
	}}
}

// third is versitygw. It has no session tags, so that a role that is bounded by
// them would open nothing; the role's own policy is therefore given.
func third(policy string) backend {
	const issuer = "https://" + versitygw.Address
	return backend{issuer: issuer, account: versitygw.AccountID, stsRegion: "us-east-1", start: func(w *world) (sts, s3 string) {
		binary := versitygw.Need(w.t)
		cert, ca, err := versitygw.NewTLS()
		if err != nil {
			w.t.Fatal(err)
		}
		l, err := tls.Listen("tcp", net.JoinHostPort(versitygw.Address, "443"), &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
		if err != nil {
			w.t.Fatal(err)
		}
		to, err := url.Parse(w.broker)
		if err != nil {
			w.t.Fatal(err)
		}
		front := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}}
		go func() { _ = front.Serve(l) }() // until it is closed
		w.t.Cleanup(func() { _ = front.Close() })
		trusted := x509.NewCertPool()
		trusted.AddCert(ca)
		w.http = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}}}
		server, err := versitygw.Start(w.t.Context(), versitygw.Config{
			Binary: binary, Dir: w.t.TempDir(), Region: brokertest.Region, Buckets: []string{"acme-uploads", "acme-files", "globex-files", "acme-sealed"},
			Provider: versitygw.Provider{URL: issuer, ClientIDs: []string{brokertest.STSAudience}, CA: ca},
			Roles: []versitygw.Role{{Name: "tenant-uploads", Policy: []byte(policy), TrustPolicy: []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow",` +
				`"Principal":{"Federated":"` + versitygw.ProviderARN(issuer) + `"},"Action":["sts:AssumeRoleWithWebIdentity","sts:TagSession","sts:SetSourceIdentity"],` +
				`"Condition":{"StringEquals":{"` + versitygw.Address + `:aud":"` + brokertest.STSAudience + `"}}}]}`)}},
		})
		if err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(func() { _ = server.Close() })
		root := escape.Session{AccessKeyID: server.Root.AccessKeyID, SecretAccessKey: broker.NewSecret(server.Root.SecretAccessKey)}
		w.other = doctor.ObjectName{Bucket: "acme-uploads", Key: "tenants/org_globex/theirs.txt"}
		if err := escape.Put(w.t.Context(), escape.Target{S3: server.S3, Region: brokertest.Region, Session: root}, escape.Victim{Bucket: w.other.Bucket, Key: w.other.Key, Text: "theirs"}); err != nil {
			w.t.Fatal(err)
		}
		return server.STS, server.S3
	}}
}

func listen(t testing.TB, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

const (
	minted    = "minted"
	forwarded = "forwarded"
)

// newWorld starts everything. The text is of grants; edit changes the
// configuration that the account and the broker are made of.
func newWorld(t testing.TB, mode, grants string, at backend) *world {
	t.Helper()
	w := &world{t: t}
	auth0 := httptest.NewUnstartedServer(nil)
	issuer := "http://" + auth0.Listener.Addr().String() + "/"
	var err error
	if w.auth0, err = brokertest.NewAuth0(issuer, "", mode == forwarded); err != nil {
		t.Fatal(err)
	}
	auth0.Config.Handler = w.auth0
	auth0.Start()
	t.Cleanup(auth0.Close)

	l, address := servetest.Listen(t)
	w.broker = address
	// The account is made for the configuration, and the configuration has the
	// account's address in it: it is read twice.
	text := w.configuration(mode, issuer, grants, at)
	w.cfg = parse(t, text, "http://127.0.0.1:1")
	w.sts, w.s3 = at.start(w)
	w.cfg = parse(t, text, w.sts)
	servetest.Start(t, w.cfg, serve.Options{Listener: l, Stdout: t.Output()})
	return w
}

func (w *world) configuration(mode, issuer, grants string, at backend) string {
	identity, clients := "{mode: forwarded}", ", clients: [demo-spa, demo-cli]"
	if mode == minted {
		own := at.issuer
		if own == "" {
			own = w.broker
		}
		identity, clients = `{mode: minted, issuer: "`+own+`", signing_keys: ["`+servetest.SigningKey(w.t)+`"]}`, ""
	}
	return `
listen: "127.0.0.1:0"
admin_listen: "127.0.0.1:0"
trusted_proxies: [127.0.0.0/8]
limits: {per_subject_per_minute: 100000, per_tenant_per_minute: 100000}
issuers: [{url: "` + issuer + `", audiences: ["` + brokertest.Audience + `"]` + clients + `}]
web_identity: ` + identity + `
sts: {region: ` + at.stsRegion + `, endpoint: "ENDPOINT"}
` + strings.ReplaceAll(grants, "ROLE", "arn:aws:iam::"+at.account+":role/tenant-uploads")
}

func parse(t testing.TB, text, sts string) config.Config {
	t.Helper()
	cfg, err := config.Parse("test.yaml", []byte(strings.Replace(text, "ENDPOINT", sts, 1)), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// token is an access token of a demo user, with every claim that a grant may ask
// for; change changes it.
func (w *world) token(email string, change map[string]any) broker.Secret {
	w.t.Helper()
	claims, err := w.auth0.UserClaims(email)
	if err != nil {
		w.t.Fatal(err)
	}
	name := strings.TrimPrefix(claims["org_id"].(string), "org_")
	claims["plan"], claims[tenantClaim], claims["app_metadata"] = "gold", name, map[string]any{"tenant": name}
	claims["permissions"] = []string{"upload:files", "broker:act-for-tenant"}
	for k, v := range change {
		claims[k] = v
		if v == nil {
			delete(claims, k)
		}
	}
	token, err := w.auth0.Mint(claims)
	if err != nil {
		w.t.Fatal(err)
	}
	return broker.NewSecret(token)
}

// session asks the running broker, as any client does.
func (w *world) session(token broker.Secret, ask url.Values, from string) (escape.Session, error) {
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.broker+"/v1/credentials?"+ask.Encode(), nil)
	if err != nil {
		return escape.Session{}, err
	}
	req.Header.Set("Authorization", "Bearer "+token.Reveal())
	if from != "" {
		req.Header.Set("X-Forwarded-For", from)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return escape.Session{}, err
	}
	defer resp.Body.Close()
	var answer struct{ AccessKeyID, SecretAccessKey, Token, Code string }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return escape.Session{}, err
	}
	if resp.StatusCode != http.StatusOK {
		return escape.Session{}, errors.New(resp.Status + " " + answer.Code)
	}
	return escape.Session{
		AccessKeyID: answer.AccessKeyID, SecretAccessKey: broker.NewSecret(answer.SecretAccessKey), SessionToken: broker.NewSecret(answer.Token),
	}, nil
}

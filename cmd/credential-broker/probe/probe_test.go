package probe_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"credential-broker/broker"
	"credential-broker/broker/brokertest"
	"credential-broker/broker/brokertest/localauth0"
	"credential-broker/cmd/credential-broker/agent"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/cmd/credential-broker/probe"
	"credential-broker/cmd/credential-broker/serve"
	"credential-broker/cmd/credential-broker/servetest"
)

const (
	elsewhere = "https://elsewhere.acme.test"
	canary    = "tenants/org_globex/credential-broker-canary"
	secret    = "k7vYp2canarysecretq9"
)

const text = `
listen: "127.0.0.1:0"
admin_listen: "127.0.0.1:0"
issuers: [{url: "ISSUER", audiences: [AUDIENCES]}]
web_identity: {mode: minted, issuer: "BROKER", signing_keys: ["KEY"]}
sts: {region: ap-northeast-1, endpoint: "AWS"}
limits: {per_subject_per_minute: 1000, per_address_failures_per_minute: 1000}
grants:
  - {name: uploads, match: {permissions: ["upload:files"]}, role_arn: "arn:aws:iam::123456789012:role/tenant-uploads", tenant: {claim: org_id}, bucket: acme-uploads, region: ap-northeast-1, prefix: "tenants/{tenant}/", access: [ACCESS]}
`

// scene is a running broker before a local Auth0 and a local AWS, with somebody
// else's object in its bucket.
type scene struct {
	*testing.T
	auth0              *localauth0.Server
	aws                *brokertest.AWS
	issuer, broker, s3 string
	folder             string
	access             log
	instead            atomic.Pointer[http.HandlerFunc] // of S3; nil: S3
	fetched            atomic.Int64                     // tokens of the client
}

// log is what S3 has logged.
type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// operations are those that were logged, sorted, each once.
func (l *log) operations() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	seen := regexp.MustCompile(`REST\.[A-Z.]+`).FindAllString(l.b.String(), -1)
	slices.Sort(seen)
	return slices.Compact(seen)
}

// options of a scene that is broken in one way.
type broken struct {
	audiences string // of the broker; empty: its own
	access    string // of the grant; empty: list, read, write
	change    func(*brokertest.AWSConfig)
}

func newScene(t *testing.T, b broken) *scene {
	t.Helper()
	s := &scene{T: t, folder: t.TempDir()}
	front, issuer := servetest.Listen(t)
	s.issuer = issuer + "/"
	demo := localauth0.Demo(s.issuer, brokertest.Audience, "")
	var err error
	if s.auth0, err = localauth0.New(demo); err != nil {
		t.Fatal(err)
	}
	servetest.Handle(t, front, http.HandlerFunc(s.tokens))
	if b.audiences == "" {
		b.audiences = brokertest.Audience
	}
	if b.access == "" {
		b.access = "list, read, write"
	}
	listener, address := servetest.Listen(t)
	s.broker = address
	aws, awsURL := servetest.Listen(t)
	s.s3 = awsURL
	filled := strings.NewReplacer("ISSUER", s.issuer, "AUDIENCES", `"`+strings.ReplaceAll(b.audiences, ",", `","`)+`"`, "BROKER", s.broker,
		"KEY", servetest.SigningKey(t), "AWS", s.s3, "ACCESS", b.access).Replace(text)
	cfg, err := config.Parse("test.yaml", []byte(filled), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	s.aws = servetest.AWS(t, cfg, func(a *brokertest.AWSConfig) {
		a.AccessLog = &s.access
		if b.change != nil {
			b.change(a)
		}
	})
	servetest.Handle(t, aws, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if h := s.instead.Load(); h != nil && r.URL.Path != "/" {
			(*h)(rw, r)
			return
		}
		s.aws.ServeHTTP(rw, r)
	}))
	servetest.Start(t, cfg, serve.Options{Listener: listener})
	return s
}

// tokens is Auth0, with a client that is in both organizations and gets tokens for
// two APIs, as Auth0 gives them.
func (s *scene) tokens(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	form, _ := url.ParseQuery(string(body))
	if form.Get("client_id") != "probe" || form.Get("client_secret") != secret {
		s.auth0.ServeHTTP(rw, r)
		return
	}
	s.fetched.Add(1)
	now := time.Now().Unix()
	token, err := s.auth0.Mint(map[string]any{
		"iss": s.issuer, "sub": "probe@clients", "aud": form.Get("audience"), "azp": "probe", "org_id": form.Get("organization"), "iat": now, "exp": now + 3600,
		"gty": "client-credentials", "permissions": []string{"upload:files"},
	})
	if err != nil {
		s.Error(err)
	}
	rw.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(rw).Encode(map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": 3600})
}

// file makes a file with a token of a demo user, with what change makes of its claims.
func (s *scene) file(email string, change func(map[string]any)) string {
	s.Helper()
	claims, err := s.auth0.UserClaims(email)
	if err != nil {
		s.Fatal(err)
	}
	if change != nil {
		change(claims)
	}
	token, err := s.auth0.Mint(claims)
	if err != nil {
		s.Fatal(err)
	}
	f, err := os.CreateTemp(s.folder, "token-*")
	if err != nil {
		s.Fatal(err)
	}
	if _, err := f.WriteString(token + "\n"); err != nil {
		s.Fatal(err)
	}
	if err := f.Close(); err != nil {
		s.Fatal(err)
	}
	return f.Name()
}

func foreign(c map[string]any) { c["aud"] = elsewhere }

// options are those of a probe that is well.
func (s *scene) options() probe.Options {
	return probe.Options{
		Agent:            agent.Options{BrokerURL: s.broker, TokenFile: s.file("alice@acme.test", nil)},
		ForeignTokenFile: s.file("alice@acme.test", foreign), OwnerTokenFile: s.file("bob@globex.test", nil),
		ForeignBucket: brokertest.Bucket, ForeignKey: canary, S3Endpoint: s.s3,
	}
}

// seed puts the object of another tenant.
func (s *scene) seed() {
	s.Helper()
	if err := s.aws.S3.Seed(brokertest.Bucket, canary, "text/plain", []byte("x")); err != nil {
		s.Fatal(err)
	}
}

// result is a report in short: "inside=held foreign_object=OPEN …".
func result(r probe.Report) string {
	var all []string
	for _, c := range r.Checks {
		word := "unclear"
		switch {
		case c.OK && c.Open:
			word = "held and open"
		case c.OK:
			word = "held"
		case c.Open:
			word = "OPEN"
		}
		all = append(all, c.Check+"="+word)
	}
	return strings.Join(all, " ")
}

func (s *scene) probes(o probe.Options) probe.Report {
	s.Helper()
	p, err := probe.New(o)
	if err != nil {
		s.Fatal(err)
	}
	return p.Run(s.Context())
}

// Each check fails for its own reason and by itself; and where everything is as it
// has to be, nothing does.
func TestEachCheckFailsForItsOwnReason(t *testing.T) {
	const well = "credentials=held inside=held foreign_audience=held owner=held foreign_object=held"
	but := func(check, word string) string { return strings.Replace(well, check+"=held", check+"="+word, 1) }
	s3 := func(h http.HandlerFunc) func(*scene, *probe.Options) {
		return func(s *scene, _ *probe.Options) { s.instead.Store(&h) }
	}
	says := func(status int, code string) http.HandlerFunc {
		return func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", "application/xml")
			rw.WriteHeader(status)
			_, _ = fmt.Fprintf(rw, "<Error><Code>%s</Code></Error>", code)
		}
	}
	whole := newScene(t, broken{}) // for all that break the probe, and not the world
	whole.seed()
	for name, tc := range map[string]struct {
		broken broken
		change func(*scene, *probe.Options)
		want   string
		says   string
	}{
		"nothing is wrong": {want: well, says: "foreign_object: GetObject: 403 AccessDenied, ListObjectsV2: 403 AccessDenied"},

		"the broker takes a foreign audience": {
			broken: broken{audiences: brokertest.Audience + "," + elsewhere}, want: but("foreign_audience", "OPEN"), says: "the broker gave credentials for it",
		},
		"the broker takes a foreign audience, and has no grant for it": {
			broken: broken{audiences: brokertest.Audience + "," + elsewhere},
			change: func(s *scene, o *probe.Options) {
				o.ForeignTokenFile = s.file("alice@acme.test", func(c map[string]any) { foreign(c); c["permissions"] = []string{} })
			},
			want: but("foreign_audience", "OPEN"), says: "no_grant",
		},
		"S3 enforces nothing": {
			broken: broken{change: func(a *brokertest.AWSConfig) { a.EnforceNothing = true }}, want: but("foreign_object", "OPEN"), says: "NOT REFUSED: GetObject: 206, ListObjectsV2: 200",
		},
		"the bucket lets everybody read": {
			broken: broken{change: func(a *brokertest.AWSConfig) {
				a.BucketPolicies = map[string][]byte{brokertest.Bucket: []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::acme-uploads/*"}]}`)}
			}},
			want: but("foreign_object", "OPEN"), says: "NOT REFUSED: GetObject: 206, ListObjectsV2: 403 AccessDenied",
		},
		"the bucket lets everybody list": {
			broken: broken{change: func(a *brokertest.AWSConfig) {
				a.BucketPolicies = map[string][]byte{brokertest.Bucket: []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:ListBucket","Resource":"arn:aws:s3:::acme-uploads"}]}`)}
			}},
			want: but("foreign_object", "OPEN"), says: "NOT REFUSED: GetObject: 403 AccessDenied, ListObjectsV2: 200",
		},
		"the foreign object is in a bucket that is not there": {
			change: s3(says(404, "NoSuchBucket")), want: "credentials=held inside=unclear foreign_audience=held owner=unclear foreign_object=unclear", says: "NoSuchBucket",
		},
		"the foreign object is not there": {
			change: func(_ *scene, o *probe.Options) { o.ForeignKey += "-gone" }, want: but("owner", "unclear"), says: "its owner: GetObject: 404",
		},
		"the foreign object is the caller's own": {
			change: func(_ *scene, o *probe.Options) { o.ForeignKey = "tenants/org_acme/mine" },
			want:   strings.Replace(but("foreign_object", "unclear"), "owner=held", "owner=unclear", 1), says: "inside of the caller's own scope",
		},
		"nobody says whether it is there": {
			change: func(_ *scene, o *probe.Options) { o.OwnerTokenFile = "" }, want: strings.Replace(well, "owner=held ", "", 1),
		},
		"an object inside is not there": {
			change: func(_ *scene, o *probe.Options) { o.Object = "tenants/org_acme/gone" }, want: but("inside", "unclear"), says: "inside: GetObject: 404",
		},
		"a scope that can do nothing that is tried": {
			broken: broken{access: "delete"}, want: "credentials=held inside=unclear foreign_audience=held owner=unclear foreign_object=held", says: "--object",
		},
		"a scope that only writes": {
			broken: broken{access: "write"}, change: func(_ *scene, o *probe.Options) { o.OwnerTokenFile = "" }, want: strings.Replace(well, "owner=held ", "", 1), says: "CreateMultipartUpload: 200",
		},

		"S3 throttles":                      {change: s3(says(503, "SlowDown")), want: "credentials=held inside=unclear foreign_audience=held owner=unclear foreign_object=unclear", says: "503 SlowDown"},
		"S3 knows no session":               {change: s3(says(403, "InvalidAccessKeyId")), want: "credentials=held inside=unclear foreign_audience=held owner=unclear foreign_object=unclear"},
		"S3 refuses a request for its form": {change: s3(says(400, "BadRequest")), want: "credentials=held inside=unclear foreign_audience=held owner=unclear foreign_object=unclear"},
		"S3 has no such operation":          {change: s3(says(405, "MethodNotAllowed")), want: "credentials=held inside=unclear foreign_audience=held owner=unclear foreign_object=unclear"},
		"a proxy says 403":                  {change: s3(says(403, "")), want: "credentials=held inside=unclear foreign_audience=held owner=unclear foreign_object=unclear"},
		"S3 has the name of an object outside": {
			change: s3(says(404, "NoSuchKey")), want: "credentials=held inside=unclear foreign_audience=held owner=unclear foreign_object=OPEN",
		},

		"the good token is over": {
			change: func(s *scene, o *probe.Options) {
				o.Agent.TokenFile = s.file("alice@acme.test", func(c map[string]any) { c["iat"], c["exp"] = time.Now().Unix()-7200, time.Now().Unix()-3600 })
			},
			want: "credentials=unclear inside=unclear foreign_audience=held owner=held foreign_object=unclear", says: "expired_token",
		},
		"the foreign token is over": {
			change: func(s *scene, o *probe.Options) {
				o.ForeignTokenFile = s.file("alice@acme.test", func(c map[string]any) { foreign(c); c["exp"] = time.Now().Unix() - 1 })
			},
			want: but("foreign_audience", "unclear"), says: "is over",
		},
		"the foreign token is the broker's own": {
			change: func(s *scene, o *probe.Options) { o.ForeignTokenFile = s.file("bob@globex.test", nil) }, want: but("foreign_audience", "unclear"), says: "is for the broker's own",
		},
		"the foreign token is of another issuer": {
			change: func(s *scene, o *probe.Options) {
				o.ForeignTokenFile = s.file("alice@acme.test", func(c map[string]any) { foreign(c); c["iss"] = "https://else.example/" })
			},
			want: but("foreign_audience", "unclear"), says: "has another issuer",
		},
		"there is no foreign token": {
			change: func(_ *scene, o *probe.Options) { o.ForeignTokenFile = "/nowhere" }, want: but("foreign_audience", "unclear"), says: "no token to try",
		},
		"something between says 401": {
			change: func(s *scene, o *probe.Options) {
				server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { http.Error(rw, "no", http.StatusUnauthorized) }))
				s.Cleanup(server.Close)
				o.Agent.BrokerURL = server.URL
			},
			want: "credentials=unclear inside=unclear foreign_audience=unclear owner=unclear foreign_object=unclear", says: "not as a broker does",
		},
		"something between takes the token away": {
			change: func(s *scene, o *probe.Options) {
				server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
					rw.Header().Set("Content-Type", "application/json")
					rw.WriteHeader(http.StatusUnauthorized)
					_, _ = io.WriteString(rw, `{"Code":"missing_token"}`)
				}))
				s.Cleanup(server.Close)
				o.Agent.BrokerURL = server.URL
			},
			want: "credentials=unclear inside=unclear foreign_audience=unclear owner=unclear foreign_object=unclear", says: "missing_token",
		},
		"the broker is dead": {
			change: func(_ *scene, o *probe.Options) { o.Agent.BrokerURL = "http://127.0.0.1:1" },
			want:   "credentials=unclear inside=unclear foreign_audience=unclear owner=unclear foreign_object=unclear", says: "broker_unavailable",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := whole
			if tc.broken.audiences+tc.broken.access != "" || tc.broken.change != nil {
				s = newScene(t, tc.broken)
				s.seed()
			}
			s.T = t
			s.instead.Store(nil)
			o := s.options()
			if tc.change != nil {
				tc.change(s, &o)
			}
			r := s.probes(o)
			if got := result(r); got != tc.want {
				t.Errorf("%s\nwant %s\n%+v", got, tc.want, r)
			}
			if r.OK != !strings.Contains(tc.want, "unclear") && r.OK != !strings.Contains(tc.want, "OPEN") {
				t.Errorf("%+v", r)
			}
			var out bytes.Buffer
			probe.Print(&out, r)
			if !strings.Contains(out.String(), tc.says) || strings.Contains(out.String(), "eyJ") {
				t.Errorf("%s\ndoes not say %q", &out, tc.says)
			}
		})
	}
}

// It only looks: of all that S3 logged, nothing has made, changed or removed
// anything, whatever the answers were.
func TestNothingIsLeftBehind(t *testing.T) {
	for name, tc := range map[string]struct {
		broken broken
		want   []string
	}{
		"walls that hold":   {broken{}, []string{"REST.GET.BUCKET", "REST.GET.OBJECT"}},
		"no walls":          {broken{change: func(a *brokertest.AWSConfig) { a.EnforceNothing = true }}, []string{"REST.GET.BUCKET", "REST.GET.OBJECT"}},
		"a scope of writes": {broken{access: "write"}, []string{"REST.DELETE.OBJECT", "REST.GET.BUCKET", "REST.GET.OBJECT", "REST.POST.OBJECT"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, tc.broken)
			s.seed()
			s.probes(s.options())
			if diff := cmp.Diff(tc.want, s.access.operations()); diff != "" {
				t.Error(diff)
			}
			for line := range strings.Lines(s.access.b.String()) { // begun and aborted, and nothing else
				if strings.Contains(line, "REST.DELETE") && !strings.Contains(line, "uploadId=") || strings.Contains(line, "REST.POST") && !strings.Contains(line, "?uploads") {
					t.Error(line)
				}
			}
			if posts, deletes := strings.Count(s.access.b.String(), "REST.POST"), strings.Count(s.access.b.String(), "REST.DELETE"); posts != deletes {
				t.Errorf("%d begun, %d aborted", posts, deletes)
			}
		})
	}
}

// A machine client gets all its tokens itself, and keeps them from run to run.
func TestAClientGetsItsTokens(t *testing.T) {
	s := newScene(t, broken{})
	s.seed()
	p, err := probe.New(probe.Options{
		Agent: agent.Options{
			BrokerURL: s.broker, ClientID: "probe", ClientSecret: broker.NewSecret(secret), TokenURL: s.issuer + "oauth/token", Audience: brokertest.Audience,
			Organization: "org_acme",
		},
		ForeignAudience: elsewhere, OwnerOrganization: "org_globex", ForeignBucket: brokertest.Bucket, ForeignKey: canary, S3Endpoint: s.s3,
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if r := p.Run(t.Context()); !r.OK || len(r.Checks) != 5 {
			t.Errorf("%+v", r)
		}
	}
	if n := s.fetched.Load(); n != 3 {
		t.Errorf("%d tokens were fetched: for two runs three are enough", n)
	}
}

func TestWhatIsWrongWithTheOptionsIsSaid(t *testing.T) {
	good := probe.Options{
		Agent: agent.Options{BrokerURL: "https://broker.acme.example", TokenFile: "a"}, ForeignTokenFile: "b", ForeignBucket: "bucket", ForeignKey: "key",
	}
	if _, err := probe.New(good); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*probe.Options){
		"--broker-url":                                func(o *probe.Options) { o.Agent.BrokerURL = "http://broker.acme.example" },
		"--client-id is needed, or":                   func(o *probe.Options) { o.Agent.TokenFile = "" },
		"--foreign-token-file is needed":              func(o *probe.Options) { o.ForeignTokenFile = "" },
		"and not both":                                func(o *probe.Options) { o.ForeignAudience = elsewhere },
		"--token-file stands for itself":              func(o *probe.Options) { o.ForeignTokenFile, o.ForeignAudience = "", elsewhere },
		"--foreign-object is needed":                  func(o *probe.Options) { o.ForeignKey = "" },
		"--owner-token-file or --owner-organization,": func(o *probe.Options) { o.OwnerTokenFile, o.OwnerOrganization = "a", "b" },
		"--s3-endpoint":                               func(o *probe.Options) { o.S3Endpoint = "s3" },
	} {
		o := good
		change(&o)
		if _, err := probe.New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func report() probe.Report {
	return probe.Report{Broker: `a"b\c`, Time: time.Unix(1764000000, 0), Checks: []probe.Check{
		{Check: probe.Credentials, OK: true, Detail: "d"}, {Check: probe.Inside, Detail: "\x1b[2Jd"}, {Check: probe.ForeignObject, Open: true, Detail: "d"},
	}}
}

// The file is what Prometheus reads, whole, and readable for its exporter.
func TestTheTextfileIsWrittenAsAWhole(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "probe.prom")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := probe.WriteTextfile(path, report()); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(path)
	if err != nil || os.SameFile(before, after) || after.Mode().Perm() != 0o644 {
		t.Errorf("it was written over, or has mode %v (%v)", after.Mode(), err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(data))
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	var got []string
	for name, family := range families {
		for _, m := range family.Metric {
			line := name
			for _, l := range m.Label {
				line += " " + l.GetName() + "=" + l.GetValue()
			}
			got = append(got, fmt.Sprintf("%s %.0f", line, m.GetGauge().GetValue()))
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{
		`credential_broker_probe_open broker=a"b\c check=credentials 0`, `credential_broker_probe_open broker=a"b\c check=foreign_object 1`, `credential_broker_probe_open broker=a"b\c check=inside 0`,
		`credential_broker_probe_success broker=a"b\c check=credentials 1`, `credential_broker_probe_success broker=a"b\c check=foreign_object 0`, `credential_broker_probe_success broker=a"b\c check=inside 0`,
		`credential_broker_probe_timestamp_seconds broker=a"b\c 1764000000`,
	}, got); diff != "" {
		t.Error(diff)
	}
	// What cannot be put in its place leaves nothing, and the old one as it is.
	if err := os.Mkdir(filepath.Join(folder, "taken"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(folder, "taken"), filepath.Join(folder, "nowhere", "probe.prom")} {
		if probe.WriteTextfile(path, report()) == nil {
			t.Errorf("%s was written", path)
		}
	}
	if entries, err := os.ReadDir(folder); err != nil || len(entries) != 2 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestAReportIsPrintedForPeople(t *testing.T) {
	var out bytes.Buffer
	probe.Print(&out, report())
	if diff := cmp.Diff("✔ credentials: d\n✘ inside: ?[2Jd\n✘ foreign_object: NOT REFUSED: d\n", out.String()); diff != "" {
		t.Error(diff)
	}
}

// The page says which metrics there are, with which labels, and which checks.
func TestThePageHasEachMetricAndEachCheck(t *testing.T) {
	page, err := os.ReadFile("../../../deploy/probe/README.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(credential_broker_[a-z_]+)` \\| gauge \\| ([^|]*) \\|").FindAllStringSubmatch(string(page), -1) {
		documented[row[1]] = strings.NewReplacer("`", "", " ", "").Replace(row[2])
	}
	path := filepath.Join(t.TempDir(), "probe.prom")
	if err := probe.WriteTextfile(path, report()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	written := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^([a-z_]+)\{(.*)\} [0-9]+$`).FindAllStringSubmatch(string(data), -1) {
		var labels []string
		for _, l := range regexp.MustCompile(`([a-z]+)="`).FindAllStringSubmatch(m[2], -1) {
			labels = append(labels, l[1])
		}
		written[m[1]] = strings.Join(labels, ",")
	}
	if diff := cmp.Diff(written, documented); diff != "" || len(written) != 3 {
		t.Errorf("%d metrics\n%s", len(written), diff)
	}
	var checks []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| .* \\| (?:is no success|proves nothing) \\|$").FindAllStringSubmatch(string(page), -1) {
		checks = append(checks, row[1])
	}
	if diff := cmp.Diff([]string{probe.Credentials, probe.Inside, probe.ForeignAudience, probe.Owner, probe.ForeignObject}, checks); diff != "" {
		t.Error(diff)
	}
}

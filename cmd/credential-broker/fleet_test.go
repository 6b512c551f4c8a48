package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/brokertest"
	"credential-broker/broker/brokertest/localauth0"
	"credential-broker/broker/brokertest/localredis"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/cmd/credential-broker/servetest"
	"credential-broker/policy"
)

// fleet is some brokers, each a process of its own, with one Auth0, one AWS and
// perhaps one Redis, behind a proxy that takes those that are ready in turn.
type fleet struct {
	*testing.T
	redis  *localredis.Server // nil: nothing is shared
	auth0  *localauth0.Server
	aws    *brokertest.AWS
	issuer string
	file   string
	proxy  string
	life   time.Duration // of a session, less what STS rounds off

	mu       sync.Mutex
	calls    map[string][]time.Time           // :: session → when STS was asked for one
	served   map[string]map[*process]struct{} // :: token → by whom
	replicas []*process                       // that are ready
	turn     int                              // whose it is
	asked    int                              // requests for credentials
	putOff   int                              // answers that said to try again
	took     []time.Duration                  // requests for credentials, since the last summary
}

type process struct {
	cmd           *exec.Cmd
	public, admin string
	target        *url.URL
	ended         chan struct{}

	mu   sync.Mutex
	said []string // what went wrong with it
}

const fleetText = `
listen: "127.0.0.1:0"
admin_listen: "127.0.0.1:0"
issuers: [{url: "ISSUER", audiences: ["` + brokertest.Audience + `"], clients: [demo-spa], logout_audiences: [demo-spa]}]
web_identity: {mode: forwarded}
sts: {region: ` + brokertest.Region + `, endpoint: "STS"}
audit: {output: /dev/null}
limits: {per_subject_per_minute: 1000000, per_tenant_per_minute: 1000000, sts_per_second: 1000}
grants:
  - {name: uploads, match: {permissions: ["upload:files"]}, role_arn: "` + brokertest.RoleARN + `", tenant: {claim: org_id}, bucket: acme-uploads, region: ` + brokertest.Region + `, prefix: "tenants/{tenant}/", access: [list, read]}
`

const sharedText = `shared_cache: {url: "${REDIS_URL}", key_file: "KEY", timeout: 500ms}
`

// stsRounds is what STS takes off a session: it says when one ends in whole seconds.
const stsRounds = time.Second

// newFleet starts nobody yet. STS ends each session after so long, whatever it was
// asked for: the broker has no clock that could be told to go faster.
func newFleet(t *testing.T, shared bool, session time.Duration) *fleet {
	t.Helper()
	f := &fleet{T: t, life: session - stsRounds, calls: map[string][]time.Time{}, served: map[string]map[*process]struct{}{}}
	l, issuer := servetest.Listen(t)
	f.issuer = issuer + "/"
	var err error
	if f.auth0, err = brokertest.NewAuth0(f.issuer, "", true); err != nil {
		t.Fatal(err)
	}
	servetest.Handle(t, l, f.auth0)
	l, sts := servetest.Listen(t)
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	folder := t.TempDir()
	f.write(folder+"/key", base64.StdEncoding.EncodeToString(key)+"\n")
	f.file = folder + "/config.yaml"
	text := fleetText
	if shared {
		f.redis = localredis.Start(t)
		text += sharedText
	}
	text = strings.NewReplacer("ISSUER", f.issuer, "STS", sts, "KEY", folder+"/key").Replace(text)
	f.write(f.file, text)
	cfg, err := config.Parse("config.yaml", []byte(text), func(string) (string, bool) { return "redis://127.0.0.1/", true })
	if err != nil {
		t.Fatal(err)
	}
	f.aws = servetest.AWS(t, cfg, func(c *brokertest.AWSConfig) { c.SessionLife = session })
	servetest.Handle(t, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if form, _ := url.ParseQuery(string(body)); form.Get("Action") == "AssumeRoleWithWebIdentity" {
			f.mu.Lock()
			f.calls[form.Get("RoleSessionName")] = append(f.calls[form.Get("RoleSessionName")], time.Now())
			f.mu.Unlock()
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		f.aws.ServeHTTP(w, r)
	}))
	proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.turn++
		p := f.replicas[f.turn%len(f.replicas)]
		token := r.In.Header.Get("Authorization")
		if f.served[token] == nil {
			f.served[token] = map[*process]struct{}{}
		}
		f.served[token][p] = struct{}{}
		r.SetURL(p.target)
	}})
	t.Cleanup(proxy.Close)
	f.proxy = proxy.URL
	return f
}

func (f *fleet) write(name, text string) {
	f.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		f.Fatal(err)
	}
}

// start runs a broker that finds Redis there, and returns when it shares with the
// others, if it is to.
func (f *fleet) start(redis string, env ...string) *process {
	f.Helper()
	p := f.launch(redis, env...)
	if f.redis != nil {
		f.until(p, "shared_cache_up", 1)
		if f.metric(p, "shared_cache_configured") != 1 || f.metric(p, "shared_cache_breaker_open") != 0 {
			f.Error("the metrics do not say that something is shared, or that it is left alone")
		}
	}
	f.mu.Lock()
	f.replicas = append(f.replicas, p)
	f.mu.Unlock()
	return p
}

// program is this one under the name by which the test's program is the broker: see
// TestMain.
func (f *fleet) program() string {
	f.Helper()
	self, err := os.Executable()
	if err != nil {
		f.Fatal(err)
	}
	name := filepath.Join(f.TempDir(), "credential-broker")
	if err := os.Symlink(self, name); err != nil {
		f.Fatal(err)
	}
	return name
}

// launch runs this program as a broker, and returns when it is ready.
func (f *fleet) launch(redis string, env ...string) *process {
	f.Helper()
	p := &process{cmd: exec.Command(f.program(), "serve", "--config", f.file), ended: make(chan struct{})}
	p.cmd.Env = append(append(os.Environ(), "REDIS_URL="+redis), env...)
	p.cmd.SysProcAttr = localredis.DieTogether()
	log, err := p.cmd.StderrPipe()
	if err != nil {
		f.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if p.stop(syscall.SIGKILL); f.Failed() {
			f.Logf("%s said:\n%s", p.public, p.warnings())
		}
	})
	lines := bufio.NewScanner(log)
	keep := func() {
		if !strings.Contains(lines.Text(), `"level":"INFO"`) {
			p.mu.Lock()
			p.said = append(p.said[max(0, len(p.said)-50):], lines.Text())
			p.mu.Unlock()
		}
	}
	for lines.Scan() {
		keep()
		var line struct {
			Msg         string
			Listen      string
			AdminListen string `json:"admin_listen"`
		}
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "ready" {
			p.public, p.admin = "http://"+line.Listen, "http://"+line.AdminListen
			break
		}
	}
	go func() {
		defer close(p.ended)
		for lines.Scan() {
			keep()
		}
		_ = p.cmd.Wait()
	}()
	if p.public == "" {
		f.Fatal("a replica did not start")
	}
	if p.target, err = url.Parse(p.public); err != nil {
		f.Fatal(err)
	}
	return p
}

// all starts so many.
func (f *fleet) all(n int) {
	f.Helper()
	where := ""
	if f.redis != nil {
		where = f.redis.URL("")
	}
	for range n {
		f.start(where)
	}
}

// warnings are its last.
func (p *process) warnings() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.said, "\n")
}

func (p *process) stop(s syscall.Signal) {
	_ = p.cmd.Process.Signal(s)
	<-p.ended
}

// replace starts another and ends one as a cluster does: it is told to stop, and who
// balances the load learns by asking that it is not ready any more.
func (f *fleet) replace(old *process) {
	f.Helper()
	f.start(f.redis.URL(""))
	if err := old.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		f.Fatal(err)
	}
	for status := http.StatusOK; status == http.StatusOK; status, _ = f.ask(http.MethodGet, old.public+"/readyz", "") {
		<-time.After(10 * time.Millisecond)
	}
	f.mu.Lock()
	f.replicas = slices.DeleteFunc(f.replicas, func(p *process) bool { return p == old })
	f.mu.Unlock()
	<-old.ended
}

// metric is a number of a replica.
func (f *fleet) metric(p *process, series string) int {
	f.Helper()
	_, body := f.ask(http.MethodGet, p.admin+"/metrics", "")
	m := regexp.MustCompile(`(?m)^credential_broker_` + regexp.QuoteMeta(series) + ` ([0-9]+)$`).FindStringSubmatch(body)
	if m == nil {
		f.Fatalf("there is no %s", series)
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

func (f *fleet) events(p *process, event string) int {
	f.Helper()
	return f.metric(p, `shared_cache_events_total{event="`+event+`"}`)
}

// patience is how long a test waits for what has to come. Only one that has failed
// waits for so long.
const patience = time.Minute

// await waits until something is so.
func (f *fleet) await(what string, is func() bool) {
	f.Helper()
	for end := time.Now().Add(patience); !is(); <-time.After(10 * time.Millisecond) {
		if time.Now().After(end) {
			f.Fatalf("in vain: %s", what)
		}
	}
}

// until waits until a replica's number is so much.
func (f *fleet) until(p *process, series string, is int) {
	f.Helper()
	f.await(fmt.Sprintf("%s is %d", series, is), func() bool { return f.metric(p, series) == is })
}

func (f *fleet) ask(method, url, token string) (int, string) {
	r, err := http.NewRequestWithContext(f.Context(), method, url, nil)
	if err != nil {
		f.Error(err)
		return 0, ""
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return f.send(r)
}

func (f *fleet) send(r *http.Request) (int, string) {
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		f.Error(err)
		return 0, ""
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		f.Error(err)
	}
	return resp.StatusCode, string(body)
}

// caller is a subject with a token, and what he is to get.
type caller struct{ subject, token, session, prefix string }

// callers are so many, in seven tenants. What is changed in the claims may be nil.
func (f *fleet) callers(name string, n int, change func(claims map[string]any)) []caller {
	f.Helper()
	claims, err := f.auth0.UserClaims("alice@acme.test")
	if err != nil {
		f.Fatal(err)
	}
	if change != nil {
		change(claims)
	}
	var all []caller
	for i := range n {
		c := caller{subject: fmt.Sprintf("auth0|%s-%d", name, i)}
		tenant, err := policy.ParseTenant(fmt.Sprintf("org_%d", i%7))
		if err != nil {
			f.Fatal(err)
		}
		claims["sub"], claims["org_id"] = c.subject, tenant.String()
		if c.token, err = f.auth0.Mint(claims); err != nil {
			f.Fatal(err)
		}
		c.session, c.prefix = broker.SessionName(f.issuer, c.subject, tenant), "tenants/"+tenant.String()+"/"
		all = append(all, c)
	}
	return all
}

// credentials asks for a caller's, and holds the answer against what STS has of it.
// It returns the access key's ID.
func (f *fleet) credentials(url string, c caller) string {
	begin := time.Now()
	status, body := f.asks(url, c)
	for (status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests) && time.Since(begin) < patience {
		f.mu.Lock()
		f.putOff++
		f.mu.Unlock()
		status, body = f.asks(url, c)
	}
	var creds struct {
		AccessKeyID, SecretAccessKey, Token, Prefix string
		Expiration                                  time.Time
	}
	if err := json.Unmarshal([]byte(body), &creds); status != http.StatusOK || err != nil {
		f.Errorf("refused: %d %s", status, body)
		return ""
	}
	s, known := f.aws.STS.Session(creds.AccessKeyID)
	switch {
	case !known || creds.SecretAccessKey != s.SecretAccessKey || creds.Token != s.SessionToken || !creds.Expiration.Equal(s.Expiration):
		f.Errorf("STS gave no such credentials: %s", body)
	case !strings.HasSuffix(s.AssumedRoleARN, "/"+c.session) || creds.Prefix != c.prefix:
		f.Errorf("somebody else's: %s for %s in %s", s.AssumedRoleARN, c.session, c.prefix)
	case !creds.Expiration.After(begin):
		f.Errorf("ended at %s, asked for at %s", creds.Expiration, begin)
	}
	return creds.AccessKeyID
}

func (f *fleet) asks(url string, c caller) (int, string) {
	begin := time.Now()
	status, body := f.ask(http.MethodGet, url+"/v1/credentials", c.token)
	f.mu.Lock()
	f.took = append(f.took, time.Since(begin))
	f.asked++
	f.mu.Unlock()
	return status, body
}

// refused is how many answers said to try again. A machine that is busy lets STS or the
// broker overrun its time; it is few of them all the same.
func (f *fleet) refused() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.putOff > f.asked/20 {
		f.Errorf("%d of %d requests were put off", f.putOff, f.asked)
	}
	return f.putOff
}

// visit is a page that asks three times at once.
func (f *fleet) visit(c caller) {
	var requests sync.WaitGroup
	for range 3 {
		requests.Go(func() { f.credentials(f.proxy, c) })
	}
	requests.Wait()
}

// live has each caller visit again and again, once in so long if the machine can,
// until the returned function is called. The other one waits until each has been
// there once more.
func (f *fleet) live(callers []caller, every time.Duration) (round, stop func()) {
	f.Helper()
	end, work := make(chan struct{}), make(chan caller)
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for c := range work {
				f.visit(c)
			}
		})
	}
	var mu sync.Mutex
	rounds, change := 0, make(chan struct{})
	workers.Go(func() {
		defer close(work)
		pace := time.NewTicker(every / time.Duration(len(callers)))
		defer pace.Stop()
		for i := 0; ; i++ {
			if i == len(callers) {
				i = 0
				mu.Lock()
				rounds++
				close(change)
				change = make(chan struct{})
				mu.Unlock()
			}
			select {
			case <-pace.C:
			case <-end:
				return
			}
			work <- callers[i]
		}
	})
	stop = sync.OnceFunc(func() {
		close(end)
		workers.Wait()
	})
	f.Cleanup(stop)
	round = func() {
		mu.Lock()
		want := rounds + 2 // the one that is under way is not whole
		mu.Unlock()
		for {
			mu.Lock()
			now, next := rounds, change
			mu.Unlock()
			if now >= want {
				return
			}
			<-next
		}
	}
	return round, stop
}

// summary prints how long requests took, for who looks: a machine that is busy fails
// nothing. It returns the time in which 99 of 100 were answered.
func (f *fleet) summary(of string) time.Duration {
	f.mu.Lock()
	took := slices.Sorted(slices.Values(f.took))
	f.took = nil
	f.mu.Unlock()
	p99 := took[len(took)*99/100]
	f.Logf("%s: %d requests, p50 %s, p99 %s, the slowest %s", of, len(took), took[len(took)/2], p99, took[len(took)-1])
	return p99
}

// called returns when STS was asked for each, from then on.
func (f *fleet) called(callers []caller, from time.Time) [][]time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([][]time.Time, len(callers))
	for i, c := range callers {
		all[i] = slices.DeleteFunc(slices.Clone(f.calls[c.session]), from.After)
	}
	return all
}

package serve_test

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	static "github.com/aws/aws-sdk-go-v2/credentials" // the package has a type of that name
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"credential-broker/broker/brokertest"
	"credential-broker/broker/brokertest/localauth0"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/cmd/credential-broker/localaws"
	"credential-broker/cmd/credential-broker/serve"
)

const (
	// chaosTime is how long it lasts unless $CHAOS says otherwise (`make chaos`: ten
	// minutes). Every fault and every event has its turn, however long that takes.
	chaosTime = 10 * time.Second
	// sessionLife is so short that sessions are renewed, and reach the floor, all the
	// time: at 3 s and 4 s.
	sessionLife = 6 * time.Second
	workers     = 10
	// think is between two questions of a worker: 250 a second in all leave room for
	// whatever else the machine does.
	think = 40 * time.Millisecond
	// mostHeap is what the heap may have grown by when all is over: the service's own
	// bounds (counters, sessions, tokens), which are far below it, and nothing that
	// grows with time.
	mostHeap = 32 << 20
)

// chaos is the real service on real connections, between a local Auth0 and a local
// AWS that fail in every way that a network has, with all that an operator, the
// issuer and callers do at the same time. It takes real time, because connections do:
// nothing that is asserted depends on how much.
type chaos struct {
	oracle *oracle
	seed   uint64
	ends   time.Time
	pace   time.Duration // of faults and events

	network               *network
	upAuth0, upSTS, upS3  *upstream
	front                 *frontSTS
	auth0                 *localauth0.Server
	aws                   *brokertest.AWS
	client                *http.Client
	foreign               *rsa.PrivateKey
	own                   net.Listener
	url, issuer, identity string // where the broker is; whose tokens it takes; who it is to STS
	endpoint              string // of STS
	folder, file          string
	hangup                chan os.Signal
	people                []*person // the last is the machine
	nobody                *person   // of no tenant
	tenants               []string
	shut                  map[string]*standing // :: tenant → whether it is shut out
	uses                  atomic.Int64         // answers that could be used

	version                         int // of the configuration, as it was written last
	revokedSubjects, revokedTenants []string
	readVersion, readAt             atomic.Int64 // as the service read it last, and when
	loadedAs                        chan loaded
	previous                        []string          // keys that signed before, the oldest first
	relic                           string            // one that was withdrawn
	relics                          map[string]bearer // :: kid → a token of it

	longest   time.Duration // that an event took, and which
	longestOf string

	mu   sync.Mutex
	did  map[string]int
	used map[string]int // of what was asked of S3
}

func TestChaos(t *testing.T) {
	lasts := chaosTime
	if text := os.Getenv("CHAOS"); text != "" {
		var err error
		if lasts, err = time.ParseDuration(text); err != nil {
			t.Fatalf("CHAOS: %v", err)
		}
	}
	binary := findToxiproxy(t)
	if testing.Short() && os.Getenv("CI") != "true" {
		t.Skip("chaos takes real time: without -short")
	}
	before, others := goleak.IgnoreCurrent(), runtime.NumGoroutine()
	c := &chaos{
		seed: rand.Uint64(), pace: min(max(lasts/34, 300*time.Millisecond), 5*time.Second), folder: t.TempDir(),
		hangup: make(chan os.Signal, 1), loadedAs: make(chan loaded, 100), relics: map[string]bearer{}, shut: map[string]*standing{},
		did: map[string]int{}, used: map[string]int{},
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: workers}},
	}
	ctx, cancel := context.WithTimeout(t.Context(), lasts+5*time.Minute) // for what is stuck
	defer cancel()
	c.build(t, ctx, binary)
	run, stop := context.WithCancel(ctx)
	stopped := c.serve(t, run)
	c.oracle.peace(t, ctx, c)
	goroutines, heap := runtime.NumGoroutine(), heapInUse()

	began := time.Now()
	c.ends = began.Add(lasts)
	if err := c.rages(ctx); err != nil {
		t.Error(err)
	}
	lasted := time.Since(began)
	if !t.Failed() {
		c.oracle.peace(t, ctx, c) // all are served again
		if err := c.hangsUp(ctx, nil); err != nil {
			t.Error(err)
		}
	}
	c.client.CloseIdleConnections()
	c.forget()
	goroutinesAfter, heapAfter := runtime.NumGoroutine(), heapInUse()
	stop()
	if err := <-stopped; err != nil {
		t.Errorf("stop: %v", err)
	}
	c.client.CloseIdleConnections()
	c.upAuth0.away()
	c.upSTS.away()
	if err := c.network.stop(); err != nil {
		t.Error(err)
	}
	http.DefaultClient.CloseIdleConnections() // what the local STS asks with
	if err := eventually(ctx, func() error { return goleak.Find(before) }); err != nil {
		t.Error(err)
	}
	if heapAfter > heap+mostHeap {
		t.Errorf("the heap grew from %d to %d bytes", heap, heapAfter)
	}
	c.report(t, lasted, fmt.Sprintf("goroutines: %d with the service in peace before, %d after; %d before it, %d after it stopped\nheap: %.1f MB before, %.1f MB after",
		goroutines, goroutinesAfter, others, runtime.NumGoroutine(), float64(heap)/1e6, float64(heapAfter)/1e6))
}

// heapInUse is what is on the heap once what is garbage has gone; twice, because of
// finalizers.
func heapInUse() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// forget lets go of what the test itself remembers, so that what is left is the
// service's.
func (c *chaos) forget() {
	c.upS3.away()
	c.oracle.mu.Lock()
	defer c.oracle.mu.Unlock()
	c.oracle.sessions, c.oracle.records, c.oracle.sts, c.aws, c.relics = nil, nil, nil, nil, nil
	c.upS3, c.front.aws, c.front.last = nil, nil, nil
}

func (c *chaos) over() bool { return time.Now().After(c.ends) }

func (c *chaos) happened(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.did[what]++
}

// build makes the world around the service.
func (c *chaos) build(t *testing.T, ctx context.Context, binary string) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	c.foreign = keysOf[otherURL]()[0]
	late := func(h func() http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h().ServeHTTP(w, r) })
	}
	c.upAuth0 = &upstream{address: "127.0.0.1:0", handler: late(func() http.Handler { return c.auth0 })}
	c.upSTS = &upstream{address: "127.0.0.1:0", handler: late(func() http.Handler { return c.front })}
	c.upS3 = &upstream{address: "127.0.0.1:0", handler: late(func() http.Handler { return c.aws })}
	check(errors.Join(c.upAuth0.up(ctx), c.upSTS.up(ctx), c.upS3.up(ctx)))
	own, err := brokertest.Listen(ctx, "127.0.0.1:0") // held until the service has it
	check(err)
	c.own = own
	c.url = "http://" + own.Addr().String()
	c.network = &network{binary: binary, client: &http.Client{Transport: &http.Transport{}}, links: []*link{
		{Name: "auth0", Listen: "127.0.0.1:0", Upstream: c.upAuth0.address},
		{Name: "sts", Listen: "127.0.0.1:0", Upstream: c.upSTS.address},
		{Name: "keys", Listen: "127.0.0.1:0", Upstream: own.Addr().String()}, // by which STS gets the broker's
	}}
	check(c.network.start(ctx))
	c.issuer, c.endpoint, c.identity = "http://"+c.network.links[0].Listen+"/", "http://"+c.network.links[1].Listen, "http://"+c.network.links[2].Listen
	c.oracle = newOracle(c.issuer)
	cfg := localauth0.Demo(c.issuer, brokertest.Audience, "")
	cfg.Keys = keysOf[issuerURL]()
	c.auth0, err = localauth0.New(cfg)
	check(err)
	check(c.published(c.oracle.now()))
	c.populate()
	for _, name := range []string{"a.pem", "b.pem"} {
		signingKey(t, filepath.Join(c.folder, name))
	}
	c.file = filepath.Join(c.folder, "config.yaml")
	check(c.writes(c.version, c.configuration(c.version)))
	check(os.Symlink("..data/config.yaml", c.file))
	read, err := c.load()
	check(err)
	check(c.account(read))
}

// populate fills the tenants.
func (c *chaos) populate() {
	for i := range 6 {
		tenant := fmt.Sprintf("org_%d", i)
		c.tenants = append(c.tenants, tenant)
		c.shut[tenant] = &standing{}
		for j := range 4 {
			c.people = append(c.people, &person{subject: fmt.Sprintf("auth0|%d-%d", i, j), tenant: tenant})
		}
	}
	c.people = append(c.people, &person{subject: "reports-service@clients", machine: true})
	c.nobody = &person{subject: "auth0|nobody"}
	c.signIn()
}

// account makes the AWS that `credential-broker iam` describes, but for the role's own
// policy: it allows everything, so that the session policy alone is what bounds.
func (c *chaos) account(cfg config.Config) error {
	local, err := localaws.Of(cfg)
	if err != nil {
		return err
	}
	local.SessionLife = sessionLife
	for i := range local.Roles {
		local.Roles[i].MaxSession = 12 * time.Hour
		local.Roles[i].Policy = []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}`)
	}
	if c.aws, err = brokertest.NewAWS(local); err != nil {
		return err
	}
	if err := c.aws.S3.Seed(brokertest.Bucket, "tenants/org_other/object", "text/plain", []byte("not yours")); err != nil {
		return err
	}
	c.oracle.sts = c.aws.STS
	c.front = &frontSTS{aws: c.aws, oracle: c.oracle, last: map[string][]byte{}}
	return nil
}

// load reads the configuration for the service, and notes which it was and when.
func (c *chaos) load() (config.Config, error) {
	c.readAt.Store(c.oracle.now())
	data, err := os.ReadFile(c.file)
	if err != nil {
		return config.Config{}, err
	}
	first, _, _ := strings.Cut(string(data), "\n")
	version, _ := strconv.Atoi(strings.TrimPrefix(first, "# "))
	c.readVersion.Store(int64(version))
	return config.Parse(c.file, data, os.LookupEnv)
}

// serve runs the service until ctx ends.
func (c *chaos) serve(t *testing.T, ctx context.Context) <-chan error {
	t.Helper()
	cfg, err := c.load()
	if err != nil {
		t.Fatal(err)
	}
	ready, done := make(chan struct{}), make(chan error, 1)
	service, err := serve.New(cfg, serve.Options{
		Stdout: c.oracle, Log: slog.New(slog.NewJSONHandler(c.oracle, nil)), Listener: c.own, Ready: func() { close(ready) },
		Load: c.load, Hangup: c.hangup, Watch: c.file, Reloaded: c.reloaded,
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() { done <- service.Run(ctx) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("not ready: %v", err)
	}
	return done
}

// peace waits until everybody is served.
func (o *oracle) peace(t *testing.T, ctx context.Context, c *chaos) {
	t.Helper()
	if err := c.network.calm(ctx); err != nil {
		t.Error(err)
	}
	r := rand.New(rand.NewPCG(c.seed, 2000))
	for _, p := range c.people {
		err := eventually(ctx, func() error {
			a := c.right(r, p)
			a.patience = 0
			if got := c.asks(ctx, a); !strings.HasPrefix(got, "200 ") {
				return fmt.Errorf("%s got %s", p.subject, got)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// rages has load, faults and events at once, until each fault and each event was and
// the time is over.
func (c *chaos) rages(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.oracle.mu.Lock()
	c.oracle.enough = cancel
	c.oracle.mu.Unlock()
	load, stop := context.WithCancel(ctx)
	var working sync.WaitGroup
	for i := range workers {
		r := rand.New(rand.NewPCG(c.seed, uint64(i)))
		working.Go(func() { c.works(load, r) })
	}
	var parts errgroup.Group
	parts.Go(func() error { return c.disturbs(ctx) })
	parts.Go(func() error { return c.events(ctx) })
	err := parts.Wait()
	stop()
	working.Wait()
	return err
}

// works asks one question after the other, as callers do: some of them far more often
// than others.
func (c *chaos) works(ctx context.Context, r *rand.Rand) {
	ticker := time.NewTicker(think)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		switch n := len(c.people); {
		case r.IntN(4) == 0:
			c.asks(ctx, c.bad(r))
		case r.IntN(6) == 0:
			c.asks(ctx, c.right(r, c.people[n-1]))
		default:
			c.asks(ctx, c.right(r, c.people[min(r.IntN(n), r.IntN(n))]))
		}
	}
}

// use asks S3 itself: inside there is no denial, in the neighbour's there is nothing else.
func (c *chaos) use(ctx context.Context, q question, a answer) {
	g, err := read(q.format, a.body)
	if err != nil {
		return // judged already
	}
	client := s3.New(s3.Options{
		Region: brokertest.Region, BaseEndpoint: aws.String("http://" + c.upS3.address), UsePathStyle: true, HTTPClient: c.client,
		Credentials: static.NewStaticCredentialsProvider(g.ID, g.Secret, g.Token), Retryer: aws.NopRetryer{},
	})
	try := func(key string) string {
		out, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(q.wants.Bucket), Key: aws.String(key)})
		if err != nil {
			return codeOf(err)
		}
		_ = out.Body.Close()
		return "OK"
	}
	key := q.wants.Prefix
	if strings.HasSuffix(key, "/") {
		key += "object"
	}
	beside := try("tenants/org_other/object") // which is there
	inside := "not asked"
	switch access := q.wants.Access; {
	case slices.Contains(access, "write"):
		inside = "OK"
		if _, err := client.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(q.wants.Bucket), Key: aws.String(key)}); err != nil {
			inside = codeOf(err)
		}
	case slices.Contains(access, "list"): // without, what is not there is denied as well
		inside = try(key)
	}
	c.mu.Lock()
	c.used["inside: "+inside]++
	c.used["beside: "+beside]++
	c.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	if !slices.Contains([]string{"not asked", "OK", "NoSuchKey", "ExpiredToken"}, inside) {
		c.oracle.wrongly("%s by %s: S3 says %s inside", q.kind, q.who.subject, inside)
	}
	if beside != "AccessDenied" && beside != "ExpiredToken" {
		c.oracle.wrongly("%s by %s: S3 says %s beside", q.kind, q.who.subject, beside)
	}
}

// codeOf is what S3 said.
func codeOf(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return err.Error()
}

// slow notes the longest time that an answer took.
func (c *chaos) slow(d time.Duration) {
	c.oracle.mu.Lock()
	defer c.oracle.mu.Unlock()
	c.oracle.slowest = max(c.oracle.slowest, d)
}

// report prints what happened, and fails on what must not or did not.
func (c *chaos) report(t *testing.T, lasted time.Duration, last string) {
	t.Helper()
	lines, all := c.oracle.report()
	var b strings.Builder
	fmt.Fprintf(&b, "chaos: %s, seed %d: %d requests, %d wrong answers, the slowest after %s\n", lasted.Round(time.Second), c.seed, all, c.oracle.wrongs, c.oracle.slowest.Round(time.Millisecond))
	fmt.Fprintf(&b, "answers:\n%s\n", strings.Join(lines, "\n"))
	table := func(title string, m map[string]int) {
		fmt.Fprintln(&b, title)
		for _, name := range slices.Sorted(maps.Keys(m)) {
			fmt.Fprintf(&b, "%9d  %s\n", m[name], name)
		}
	}
	table("faults and events:", c.did)
	fmt.Fprintf(&b, "the longest event: %s, %s\n", c.longestOf, c.longest.Round(time.Millisecond))
	table("asked of S3 with what was given:", c.used)
	fmt.Fprintf(&b, "calls of STS: %d; lies: %v (another's, no secret, ended, without end, a page); toxiproxy was stuck or gone %d times\n", c.front.calls.Load(), c.front.told, c.network.killed)
	fmt.Fprint(&b, last)
	t.Log(b.String())
	for _, what := range c.oracle.wrong {
		t.Errorf("wrong: %s", what)
	}
	if c.oracle.wrongs > len(c.oracle.wrong) {
		t.Errorf("and %d more", c.oracle.wrongs-len(c.oracle.wrong))
	}
	for _, what := range []string{
		"200 from sts", "200 from cache", "400 invalid_request", "401 missing_token", "401 invalid_token", "401 expired_token", "403 no_grant",
		"403 invalid_tenant", "403 scope_not_allowed", "403 revoked", "429 rate_limited", "503 sts_unavailable",
	} {
		if c.oracle.counted(what) == 0 {
			t.Errorf("nothing was answered by %s", what)
		}
	}
}

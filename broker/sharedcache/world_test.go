package sharedcache_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"credential-broker/broker"
	"credential-broker/broker/brokertest/localredis"
	"credential-broker/broker/credcache"
	"credential-broker/broker/sessions"
	"credential-broker/broker/sharedcache"
	"credential-broker/policy"
)

// clock is one time for all replicas.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// sts answers as STS does, and counts.
type sts struct {
	clock  *clock
	calls  atomic.Int64
	late   atomic.Int64 // calls whose time had passed before they came here
	before func(context.Context, broker.Order) error
	change func(*broker.Credentials)

	mu  sync.Mutex
	per map[string]int // :: session name → calls
}

func (s *sts) Issue(ctx context.Context, o broker.Order) (broker.Credentials, error) {
	n := s.calls.Add(1)
	if ctx.Err() != nil {
		s.late.Add(1)
	}
	s.mu.Lock()
	if s.per == nil {
		s.per = map[string]int{}
	}
	s.per[o.SessionName]++
	s.mu.Unlock()
	if s.before != nil {
		if err := s.before(ctx, o); err != nil {
			return broker.Credentials{}, err
		}
	}
	now := s.clock.now()
	c := broker.Credentials{
		AccessKeyID: fmt.Sprintf("ASIA%d", n), SecretAccessKey: broker.NewSecret("canary-secret-key"), SessionToken: broker.NewSecret("canary-session-token"),
		IssuedAt: now, Expiration: now.Add(o.Lifetime), SessionName: o.SessionName, Scope: o.Scope, Source: broker.FromSTS,
	}
	if s.change != nil {
		s.change(&c)
	}
	return c, nil
}

// events are counted, and can be waited for.
type events struct {
	mu     sync.Mutex
	counts map[sharedcache.Event]int
	change chan struct{}
}

func (e *events) observe(what sharedcache.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.counts == nil {
		e.counts = map[sharedcache.Event]int{}
	}
	e.counts[what]++
	if e.change != nil {
		close(e.change)
		e.change = nil
	}
}

func (e *events) of(what sharedcache.Event) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.counts[what]
}

// await waits until there were so many.
func (e *events) await(t testing.TB, what sharedcache.Event, n int) {
	t.Helper()
	end := time.After(30 * time.Second) // only a test that has failed waits for it
	for {
		e.mu.Lock()
		if e.counts[what] >= n {
			e.mu.Unlock()
			return
		}
		if e.change == nil {
			e.change = make(chan struct{})
		}
		change := e.change
		e.mu.Unlock()
		select {
		case <-change:
		case <-end:
			t.Fatalf("%d × %s did not come: %v", n, what, e.counts)
		}
	}
}

// world is what replicas share.
type world struct {
	t     testing.TB
	redis *localredis.Server
	sts   *sts
	clock *clock
	keys  []broker.Secret
}

func newWorld(t testing.TB, args ...string) *world {
	t.Helper()
	return worldAround(t, localredis.Start(t, args...))
}

func worldAround(t testing.TB, redis *localredis.Server) *world {
	c := &clock{at: time.Now().Round(0)}
	return &world{t: t, redis: redis, clock: c, sts: &sts{clock: c}, keys: []broker.Secret{newKey()}}
}

func newKey() broker.Secret {
	key := make([]byte, sharedcache.KeyBytes)
	_, _ = rand.Read(key)
	return broker.NewSecret(string(key))
}

// replica is one broker's part: its own cache, and what it shares.
type replica struct {
	events
	store    *sharedcache.Store
	shared   broker.Issuer
	cache    *credcache.Cache
	forget   broker.Forgetter
	sessions broker.Sessions
}

// replica starts one; change may alter its configuration.
func (w *world) replica(change ...func(*sharedcache.Config)) *replica {
	w.t.Helper()
	r := &replica{}
	known := sessions.New()
	cfg := sharedcache.Config{
		URL: broker.NewSecret(w.redis.URL("")), Keys: w.keys, Timeout: 10 * time.Second, Now: w.clock.now, Observe: r.observe,
		Forget: func(issuer, subject string) { r.cache.Forget(issuer, subject) }, Clear: func() { r.cache.Clear() }, Session: known.Subject,
	}
	for _, c := range change {
		c(&cfg)
	}
	var err error
	ready := make(chan struct{})
	observe := cfg.Observe
	cfg.Observe = func(e sharedcache.Event) { <-ready; observe(e) } // the cache is there by then
	if r.store, err = sharedcache.Open(cfg); err != nil {
		w.t.Fatal(err)
	}
	r.shared = r.store.Issuer(w.sts, 30*time.Second)
	if r.cache, err = credcache.New(credcache.Config{Issuer: r.shared, Entries: 10_000, Now: w.clock.now, Random: func() float64 { return 0.5 }}); err != nil {
		w.t.Fatal(err)
	}
	close(ready)
	r.forget, r.sessions = r.store.Forgetter(r.cache), r.store.Sessions(known)
	w.t.Cleanup(func() {
		r.cache.Close()
		r.store.Close()
	})
	return r
}

// through has a replica's way to Redis lead over a wire.
func through(wire *localredis.Wire) func(*sharedcache.Config) {
	return func(c *sharedcache.Config) { c.URL = broker.NewSecret(wire.URL()) }
}

// joined starts replicas and waits until they hear each other.
func (w *world) joined(n int, change ...func(*sharedcache.Config)) []*replica {
	w.t.Helper()
	var all []*replica
	for range n {
		r := w.replica(change...)
		r.await(w.t, sharedcache.Joined, 1)
		all = append(all, r)
	}
	return all
}

// raw is a client that can do anything: the attacker's.
func (w *world) raw() rueidis.Client { w.t.Helper(); return w.rawTo(w.redis) }

func (w *world) rawTo(redis *localredis.Server) rueidis.Client {
	w.t.Helper()
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{fmt.Sprintf("127.0.0.1:%d", redis.Port)}, DisableCache: true, ForceSingleClient: true})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Close)
	return c
}

// entries are the sealed entries that are in Redis. :: name → value
func (w *world) entries(c rueidis.Client) map[string]string {
	w.t.Helper()
	names, err := c.Do(w.t.Context(), c.B().Keys().Pattern("cb:{*}").Build()).AsStrSlice()
	if err != nil {
		w.t.Fatal(err)
	}
	all := map[string]string{}
	for _, name := range names {
		if all[name], err = c.Do(w.t.Context(), c.B().Get().Key(name).Build()).ToString(); err != nil {
			w.t.Fatal(err)
		}
	}
	return all
}

func (w *world) set(c rueidis.Client, name, value string) {
	w.t.Helper()
	if err := c.Do(w.t.Context(), c.B().Set().Key(name).Value(value).Build()).Error(); err != nil {
		w.t.Fatal(err)
	}
}

// order is a good order for the subject in the tenant; change makes it another.
func (w *world) order(subject string, change ...func(*broker.Order)) broker.Order {
	w.t.Helper()
	o := broker.Order{
		Revision: "r1",
		Identity: broker.Identity{
			Issuer: "https://i/", Subject: subject, Client: "c", Audience: []string{"https://api"}, KeyID: "a", KeyThumbprint: "A",
		},
		Lifetime: time.Hour, NotAfter: w.clock.now().Add(10 * time.Hour),
	}
	w.tenant("org_acme")(&o)
	for _, c := range change {
		c(&o)
	}
	return o
}

// tenant makes an order one in the tenant.
func (w *world) tenant(name string) func(*broker.Order) {
	w.t.Helper()
	tenant, err0 := policy.ParseTenant(name)
	template, err1 := policy.ParseTemplate("tenants/{tenant}/")
	bucket, err2 := policy.ParseBucket("acme-uploads")
	prefix, err3 := template.Render(tenant, policy.User{})
	role, err4 := broker.ParseRoleARN("arn:aws:iam::123456789012:role/uploads")
	s3 := policy.Scope{Partition: policy.AWS, Bucket: bucket, Prefix: prefix, Access: policy.Read}
	document, err5 := policy.Generate(s3)
	if err := errors.Join(err0, err1, err2, err3, err4, err5); err != nil {
		w.t.Fatal(err)
	}
	return func(o *broker.Order) {
		o.Scope = broker.Scope{Grant: "g", Tenant: tenant, RoleARN: role, Region: "eu-west-1", S3: s3, Duration: time.Hour}
		o.Document, o.SessionName = document, "cb-"+o.Identity.Subject+"-"+name
	}
}

func (w *world) issue(i broker.Issuer, o broker.Order) broker.Credentials {
	w.t.Helper()
	c, err := i.Issue(w.t.Context(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	if c.Scope != o.Scope || c.SessionName != o.SessionName || !c.Fresh(w.clock.now()) {
		w.t.Fatalf("an answer to something else: %+v", c)
	}
	return c
}

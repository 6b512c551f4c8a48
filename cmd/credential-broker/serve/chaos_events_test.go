package serve_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"credential-broker/broker/brokertest"
	"credential-broker/broker/brokertest/localauth0"
	"credential-broker/cmd/credential-broker/serve"
)

// ways in which STS itself can fail, which no network does.
const (
	truthful int32 = iota
	throttles
	fails
	lies
)

// frontSTS stands before the local AWS: it notes when STS was asked for what it
// opens, and has it fail.
type frontSTS struct {
	aws    http.Handler
	oracle *oracle
	manner atomic.Int32
	out    atomic.Bool // answers nobody
	calls  atomic.Int64
	did    [lies + 1]atomic.Int64 // by manner

	mu   sync.Mutex
	last map[string][]byte // :: session name → the last answer
	told [5]int            // lies, by kind
}

var accessKeyID = regexp.MustCompile(`<AccessKeyId>([A-Z0-9]+)</AccessKeyId>`)

func (f *frontSTS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begun := f.oracle.now()
	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	form, err2 := url.ParseQuery(string(body))
	if errors.Join(err, err2) != nil || form.Get("Action") != "AssumeRoleWithWebIdentity" {
		http.Error(w, "not for STS", http.StatusBadRequest)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	n := f.calls.Add(1)
	if f.out.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	manner := f.manner.Load()
	if n%2 == 0 { // every other call is well
		manner = truthful
	}
	if manner != lies { // of which there are only as many as answers
		f.did[manner].Add(1)
	}
	switch manner {
	case throttles:
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `<ErrorResponse><Error><Type>Sender</Type><Code>Throttling</Code><Message>Rate exceeded</Message></Error><RequestId>1</RequestId></ErrorResponse>`)
		return
	case fails:
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	kept := &keeping{ResponseWriter: w, status: http.StatusOK}
	f.aws.ServeHTTP(kept, r)
	answer := kept.body.Bytes()
	if id := accessKeyID.FindSubmatch(answer); id != nil {
		f.oracle.opened(string(id[1]), begun)
		answer = f.tell(form.Get("RoleSessionName"), answer, manner == lies)
	}
	w.WriteHeader(kept.status)
	_, _ = w.Write(answer)
}

// keeping keeps an answer instead of sending it.
type keeping struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (k *keeping) WriteHeader(status int)      { k.status = status }
func (k *keeping) Write(p []byte) (int, error) { return k.body.Write(p) }

var (
	secretElement     = regexp.MustCompile(`<SecretAccessKey>[^<]*<`)
	expirationElement = regexp.MustCompile(`<Expiration>[^<]*<`)
)

// tell returns the answer, or something else: another session's answer, one without a
// secret, one that has ended, one that never ends, or a page.
func (f *frontSTS) tell(name string, answer []byte, lie bool) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !lie {
		f.last[name] = answer
		return answer
	}
	kind := int(f.did[lies].Add(1)) % len(f.told) // each in turn
	f.told[kind]++
	switch kind {
	case 0:
		for other, theirs := range f.last {
			if other != name {
				return theirs
			}
		}
		return nil
	case 1:
		return secretElement.ReplaceAll(answer, []byte("<SecretAccessKey><"))
	case 2:
		return expirationElement.ReplaceAll(answer, []byte("<Expiration>2020-01-01T00:00:00Z<"))
	case 3:
		return expirationElement.ReplaceAll(answer, []byte("<Expiration>2099-01-01T00:00:00Z<"))
	default:
		return []byte("<html><body>Welcome</body></html>")
	}
}

// fault is something that the network or an upstream does for a while.
type fault struct {
	name       string
	begin, end func(context.Context) error
	felt       func() bool // nil, or whether there was enough of it
}

// faults are all kinds of them, on every link that they make sense on.
func (c *chaos) faults(toxicity float64) []fault {
	var all []fault
	both := func(kind string, attributes map[string]int64) []toxic {
		return []toxic{{kind, "upstream", toxicity, attributes}, {kind, "downstream", toxicity, attributes}}
	}
	for _, kind := range []struct {
		name   string
		toxics []toxic
	}{
		{"latency of 300 ms", both("latency", map[string]int64{"latency": 300, "jitter": 200})[1:]},
		{"latency of 3 s", both("latency", map[string]int64{"latency": 3000})[1:]},
		{"resets", both("reset_peer", map[string]int64{"timeout": 0})[:1]},
		{"half-open: nothing arrives", both("timeout", map[string]int64{"timeout": 0})[:1]},
		{"half-open: nothing comes back", both("timeout", map[string]int64{"timeout": 0})[1:]},
		{"cut off after 300 bytes", both("limit_data", map[string]int64{"bytes": 300})[1:]},
		{"1 kB/s", both("bandwidth", map[string]int64{"rate": 1})},
	} {
		for _, l := range c.network.links {
			all = append(all, fault{
				name:  l.Name + ": " + kind.name,
				begin: func(ctx context.Context) error { return c.network.disturb(ctx, l.Name, kind.toxics...) },
				end:   c.network.calm,
			})
		}
	}
	for name, manner := range map[string]int32{"sts: throttles": throttles, "sts: fails": fails, "sts: lies": lies} {
		var before int64
		all = append(all, fault{
			name: name,
			begin: func(context.Context) error {
				before = c.front.did[manner].Load()
				c.front.manner.Store(manner)
				return nil
			},
			felt: func() bool { return c.front.did[manner].Load() >= before+int64(len(c.front.told)) },
			end:  func(context.Context) error { c.front.manner.Store(truthful); return nil },
		})
	}
	for name, u := range map[string]*upstream{"auth0: restart": c.upAuth0, "sts: restart": c.upSTS} {
		all = append(all, fault{name: name, begin: func(context.Context) error { u.away(); return nil }, end: u.up})
	}
	return all
}

// disturbs has each fault once, and again until the time is over. A fault lasts for
// its time and until the broker has given some answers.
func (c *chaos) disturbs(ctx context.Context) error {
	for round := 0; ; round++ {
		faults := c.faults([]float64{0.5, 1}[round%2]) // half of the connections, or all
		rand.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
		for i, f := range faults {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if round > 0 && c.over() {
				return nil
			}
			if err := f.begin(ctx); err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			c.happened(f.name)
			c.lasts(ctx, c.pace)
			if f.felt != nil {
				_ = eventually(ctx, func() error {
					if !f.felt() {
						return errors.New("not felt")
					}
					return nil
				})
			}
			if err := f.end(context.WithoutCancel(ctx)); err != nil {
				return fmt.Errorf("end of %s: %w", f.name, err)
			}
			if i%3 == 2 { // so that breakers close
				c.lasts(ctx, c.pace)
			}
		}
	}
}

// lasts waits for a time and for 20 answers: this is about real connections, and the
// time that they take.
func (c *chaos) lasts(ctx context.Context, d time.Duration) {
	before := c.oracle.total.Load()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	_ = eventually(ctx, func() error {
		if c.oracle.total.Load() < before+20 {
			return errors.New("too few answers")
		}
		return nil
	})
}

// events has each of what an operator, a user or the issuer does once, and again until
// the time is over.
func (c *chaos) events(ctx context.Context) error {
	r := rand.New(rand.NewPCG(c.seed, 1000))
	for round := 0; ; round++ {
		for _, e := range []struct {
			name string
			do   func(context.Context, *rand.Rand) error
		}{
			{"key rotation", c.rotates},
			{"subject revoked, and let in again", c.revokesSubject},
			{"configuration refused", c.spoils},
			{"DELETE /v1/credentials", c.deletes},
			{"log-out by sub", func(ctx context.Context, r *rand.Rand) error { return c.logsOut(ctx, r, "sub") }},
			{"key withdrawn", c.withdraws},
			{"tenant revoked, and let in again", c.revokesTenant},
			{"reload", func(ctx context.Context, _ *rand.Rand) error { return c.reloads(ctx, nil) }},
			{"log-out by sid", func(ctx context.Context, r *rand.Rand) error { return c.logsOut(ctx, r, "sid") }},
			{"SIGHUP", c.hangsUp},
			{"STS out for the life of a session", c.outlives},
			{"one subject in a loop", c.loops},
			{"one address with bad tokens", c.floods},
			{"token of a withdrawn key", c.showsWithdrawn},
		} {
			if round > 0 && c.over() {
				return nil
			}
			began := time.Now()
			if err := e.do(ctx, r); err != nil {
				return fmt.Errorf("%s: %w", e.name, err)
			}
			c.happened(e.name)
			if d := time.Since(began); d > c.longest {
				c.longest, c.longestOf = d, e.name
			}
			c.lasts(ctx, c.pace/2)
		}
	}
}

// configuration is what an operator writes. Each version differs from the last.
func (c *chaos) configuration(version int) string {
	keys := []string{"a.pem", "b.pem"}
	duration := "1h"
	if version%2 == 1 {
		keys[0], keys[1], duration = keys[1], keys[0], "55m"
	}
	return fmt.Sprintf(`# %d
listen: "127.0.0.1:0"
admin_listen: "127.0.0.1:0"
trusted_proxies: ["127.0.0.1/32"]
issuers: [{url: %q, audiences: [%q], logout_audiences: [demo-spa]}]
web_identity: {mode: minted, issuer: %q, signing_keys: [%q, %q]}
sts: {region: %s, endpoint: %q, max_concurrent: 16}
cache: {entries: 150}
limits: {per_subject_per_minute: 240, per_tenant_per_minute: 100000, sts_per_second: 100}
revoked: {subjects: [%s], tenants: [%s]}
grants:
  - {name: uploads, match: {permissions: ["upload:files"]}, role_arn: %[11]q, tenant: {claim: org_id}, bucket: %[12]s, region: %[13]s, prefix: "tenants/{tenant}/", access: [list, read, write, delete], duration: %[14]s}
  - {name: home, match: {permissions: ["upload:files"]}, role_arn: %[11]q, tenant: {claim: org_id}, bucket: %[12]s, region: %[13]s, prefix: "users/{tenant}/{user}/", access: [list, read, write, delete], duration: 1h}
  - {name: reports, match: {permissions: ["broker:act-for-tenant"]}, role_arn: %[11]q, tenant: {request: true}, bucket: %[12]s, region: %[13]s, prefix: "tenants/{tenant}/", access: [list, read], duration: 1h}
`, version, c.issuer, brokertest.Audience, c.identity, filepath.Join(c.folder, keys[0]), filepath.Join(c.folder, keys[1]), brokertest.Region, c.endpoint,
		quoted(c.revokedSubjects), quoted(c.revokedTenants),
		brokertest.RoleARN, brokertest.Bucket, brokertest.Region, duration)
}

func quoted(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return `"` + strings.Join(names, `", "`) + `"`
}

// writes puts a text where the configuration is read: as Kubernetes does, by turning
// a link, or in place.
func (c *chaos) writes(version int, text string) error {
	if version%3 == 2 {
		return os.WriteFile(c.file, []byte(text), 0o600)
	}
	folder := fmt.Sprintf("..%d", version)
	if err := os.Mkdir(filepath.Join(c.folder, folder), 0o700); err != nil {
		return err
	}
	temporary := filepath.Join(c.folder, "..data_tmp")
	before, _ := os.Readlink(filepath.Join(c.folder, "..data"))
	err := errors.Join(
		os.WriteFile(filepath.Join(c.folder, folder, "config.yaml"), []byte(text), 0o600),
		os.Symlink(folder, temporary), os.Rename(temporary, filepath.Join(c.folder, "..data")),
	)
	if before != "" {
		err = errors.Join(err, os.RemoveAll(filepath.Join(c.folder, before)))
	}
	return err
}

// loaded is a reload that came to an end.
type loaded struct {
	serve.Reload
	version int
	begun   moment
}

// reloads writes a configuration and waits until it is in force. The tenants and
// subjects in it are shut out from then on.
func (c *chaos) reloads(ctx context.Context, change func()) error {
	if change != nil {
		change()
	}
	c.version++
	if err := c.writes(c.version, c.configuration(c.version)); err != nil {
		return err
	}
	return c.comes(ctx, func(l loaded) bool { return l.Result != serve.Refused && l.version == c.version }) // after one that was refused it may be unchanged
}

// comes waits for a reload.
func (c *chaos) comes(ctx context.Context, is func(loaded) bool) error {
	for {
		select {
		case l := <-c.loadedAs:
			if is(l) {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// reloaded is told by the service, in the order of things: from here on, what was
// opened before the configuration was read is not to be given.
func (c *chaos) reloaded(r serve.Reload) {
	l := loaded{r, int(c.readVersion.Load()), c.readAt.Load()}
	if r.Result == serve.Loaded {
		c.oracle.barrier.Store(l.begun)
	}
	c.happened("reload " + r.Result)
	select {
	case c.loadedAs <- l:
	default: // nobody waits for so many
	}
}

func (c *chaos) hangsUp(ctx context.Context, _ *rand.Rand) error {
	c.hangup <- os.Interrupt // which signal it is does not matter
	return c.comes(ctx, func(l loaded) bool { return l.Result == serve.Loaded })
}

// spoils writes a configuration that is refused, and puts the old one back.
func (c *chaos) spoils(ctx context.Context, _ *rand.Rand) error {
	c.version++
	if err := c.writes(c.version, c.configuration(c.version)+fmt.Sprintf("nonsense%d: 1\n", c.version)); err != nil {
		return err
	}
	if err := c.comes(ctx, func(l loaded) bool { return l.Result == serve.Refused && l.version == c.version }); err != nil {
		return err
	}
	return c.reloads(ctx, nil)
}

// rotates has the issuer sign with its next key and publish one more; everybody signs
// in again.
func (c *chaos) rotates(context.Context, *rand.Rand) error {
	c.previous = append(c.previous, c.auth0.KeyID())
	begun := c.oracle.now()
	if err := c.auth0.Rotate(); err != nil {
		return err
	}
	if err := c.published(begun); err != nil {
		return err
	}
	c.signIn()
	return nil
}

// published notes the issuer's keys. Those that are new came after begun.
func (c *chaos) published(begun moment) error {
	w := httptest.NewRecorder()
	c.auth0.ServeHTTP(w, httptest.NewRequest(http.MethodGet, c.issuer+".well-known/jwks.json", nil))
	var set struct{ Keys []struct{ Kid string } }
	if err := json.Unmarshal(w.Body.Bytes(), &set); err != nil {
		return err
	}
	for _, k := range set.Keys {
		c.oracle.made(k.Kid, begun)
	}
	return nil
}

// withdraws has the issuer withdraw its old keys but one, and sign with a key that it
// publishes after that.
func (c *chaos) withdraws(ctx context.Context, r *rand.Rand) error {
	if err := c.rotates(ctx, r); err != nil {
		return err
	}
	for len(c.previous) > 1 {
		old := c.previous[0]
		c.previous, c.relic = c.previous[1:], old
		c.oracle.leaving(old)
		if err := c.auth0.Revoke(old); err != nil {
			return err
		}
		c.oracle.gone(old)
	}
	return errors.Join(c.rotates(ctx, r), c.rotates(ctx, r)) // the first takes a key that was published before
}

// showsWithdrawn shows a token of a withdrawn key until it is refused: the broker has
// to hear of it, at the latest when its keys are five minutes old, or at a reload.
func (c *chaos) showsWithdrawn(ctx context.Context, r *rand.Rand) error {
	if err := c.hangsUp(ctx, r); err != nil {
		return err
	}
	token, a := c.relics[c.relic], c.right(r, c.people[0])
	a.bearers, a.kid, a.patience = []string{"Bearer " + token.text}, token.kid, 0
	return c.until(ctx, a, "401 invalid_token")
}

// until asks again and again until the answer is that one.
func (c *chaos) until(ctx context.Context, a ask, want string) error {
	return eventually(ctx, func() error {
		if got := c.asks(ctx, a); got != want {
			return fmt.Errorf("%s: %s, want %s", a.kind, got, want)
		}
		return nil
	})
}

// sure is a question whose answer the broker's keys do not delay, if there is one: it
// asks for a new key twice a minute.
func (c *chaos) sure(r *rand.Rand, p *person) ask {
	for range 20 {
		a := c.right(r, p)
		a.patience = 0
		if has, _ := c.oracle.stands(a.kid); has {
			return a
		}
	}
	a := c.right(r, p)
	a.patience = 0
	return a
}

// served asks until there is an answer 200.
func (c *chaos) served(ctx context.Context, a ask) error {
	return eventually(ctx, func() error {
		if got := c.asks(ctx, a); !strings.HasPrefix(got, "200 ") {
			return fmt.Errorf("%s: %s, want 200", a.kind, got)
		}
		return nil
	})
}

func (c *chaos) anybody(r *rand.Rand) *person { return c.people[r.IntN(len(c.people)-1)] } // the last is the machine

// revokesSubject shuts somebody out, sees that it is so, and lets him in again.
func (c *chaos) revokesSubject(ctx context.Context, r *rand.Rand) error {
	p := c.anybody(r)
	return c.revokes(ctx, r, p, &p.shut, &c.revokedSubjects, p.subject)
}

func (c *chaos) revokesTenant(ctx context.Context, r *rand.Rand) error {
	p := c.anybody(r)
	return c.revokes(ctx, r, p, c.shut[p.tenant], &c.revokedTenants, p.tenant)
}

func (c *chaos) revokes(ctx context.Context, r *rand.Rand, p *person, s *standing, list *[]string, name string) error {
	if err := c.reloads(ctx, func() { s.set(true, false); *list = []string{name} }); err != nil {
		return err
	}
	s.set(true, true)
	a := c.sure(r, p)
	if err := c.until(ctx, a, "403 revoked"); err != nil {
		return err
	}
	c.lasts(ctx, c.pace/2)
	if err := c.reloads(ctx, func() { s.set(true, false); *list = nil }); err != nil {
		return err
	}
	s.set(false, false)
	return nil
}

// drops asks for what is held of somebody to be dropped, until that is acknowledged:
// what STS was asked for before is not to be given from then on.
func (c *chaos) drops(ctx context.Context, p *person, send func() (*http.Response, error), want int) error {
	return eventually(ctx, func() error {
		asked := c.oracle.now()
		response, err := send()
		if err != nil {
			return err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != want {
			return fmt.Errorf("%d %s, want %d: %w", response.StatusCode, body, want, err)
		}
		p.forgotten.Store(asked)
		return nil
	})
}

func (c *chaos) deletes(ctx context.Context, r *rand.Rand) error {
	p := c.anybody(r)
	a := c.sure(r, p)
	if err := c.served(ctx, a); err != nil { // so that something is held
		return err
	}
	forget := a
	forget.method, forget.route, forget.params = http.MethodDelete, "/v1/credentials", nil
	err := c.drops(ctx, p, func() (*http.Response, error) {
		request, err := c.request(ctx, forget)
		if err != nil {
			return nil, err
		}
		return c.client.Do(request)
	}, http.StatusNoContent)
	if err != nil {
		return err
	}
	return c.served(ctx, a) // and not with that
}

// logsOut sends a logout token, and then the same once more, which is refused.
func (c *chaos) logsOut(ctx context.Context, r *rand.Rand, by string) error {
	p := c.anybody(r)
	a := c.sure(r, p)
	if err := c.served(ctx, a); err != nil { // so that the session is known, and something is held
		return err
	}
	var token bearer
	send := func() (*http.Response, error) {
		form := url.Values{"logout_token": {token.text}}
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+"/v1/backchannel-logout", strings.NewReader(form.Encode()))
		if err != nil {
			return nil, err
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return c.client.Do(request)
	}
	mint := func() {
		now := time.Now().Unix()
		claims := map[string]any{
			"iss": c.issuer, "aud": "demo-spa", "iat": now, "exp": now + 120, "jti": fmt.Sprint(r.Uint64()),
			"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
			"sub":    p.subject, "sid": "session of " + p.subject,
		}
		delete(claims, map[string]string{"sub": "sid", "sid": "sub"}[by]) // the other
		token = c.mint(claims, localauth0.WithHeader("typ", "logout+jwt"))
	}
	if err := c.drops(ctx, p, func() (*http.Response, error) { mint(); return send() }, http.StatusOK); err != nil {
		return err
	}
	response, err := send()
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusBadRequest {
		c.oracle.wrongly("a logout token that was shown before: %d", response.StatusCode)
	}
	return c.served(ctx, a) // and not with what was held
}

// outlives has STS away for as long as a session lives, with no reload in between: what
// is cached is given down to its floor, and then there is nothing to give.
func (c *chaos) outlives(ctx context.Context, r *rand.Rand) error {
	c.front.out.Store(true)
	defer c.front.out.Store(false)
	c.lasts(ctx, sessionLife)
	a := c.sure(r, c.anybody(r))
	return c.until(ctx, a, "503 sts_unavailable")
}

// loops asks as one subject until there is enough of it.
func (c *chaos) loops(ctx context.Context, r *rand.Rand) error {
	p := c.anybody(r)
	for {
		a := c.right(r, p)
		a.patience = 0
		if c.asks(ctx, a) == "429 rate_limited" {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// floods sends bad tokens from one address until that is refused before it is read.
func (c *chaos) floods(ctx context.Context, r *rand.Rand) error {
	address := anywhere(r)
	for {
		a := c.bad(r)
		a.address = address
		if c.asks(ctx, a) == "429 rate_limited" {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

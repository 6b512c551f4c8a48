package serve_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"credential-broker/broker/brokertest"
	"credential-broker/broker/brokertest/localauth0"
	"credential-broker/policy"
)

// person is a user of a tenant, or the machine client that acts for any.
type person struct {
	subject string
	tenant  string // "": of none
	machine bool

	shut      standing     // by its subject
	forgotten atomic.Int64 // sessions that began before are not to be given

	mu     sync.Mutex
	tokens []bearer // of different keys and times, the newest last
}

// bearer is a token and the key that signed it.
type bearer struct{ text, kid string }

// claims are those of an access token of the person.
func (p *person) claims(issuer string, life time.Duration) map[string]any {
	now := time.Now()
	c := map[string]any{
		"iss": issuer, "sub": p.subject, "aud": []string{brokertest.Audience}, "azp": "demo-spa", "sid": "session of " + p.subject,
		"iat": now.Unix(), "exp": now.Add(life).Unix(), "permissions": []string{"upload:files"},
	}
	if p.tenant != "" {
		c["org_id"] = p.tenant
	}
	if p.machine {
		c["permissions"], c["azp"] = []string{"broker:act-for-tenant"}, "reports-service"
	}
	return c
}

// mint signs with the issuer's key of the moment.
func (c *chaos) mint(claims map[string]any, o ...localauth0.MintOption) bearer {
	text, err := c.auth0.Mint(claims, o...)
	if err != nil {
		c.oracle.wrongly("mint: %v", err)
		return bearer{}
	}
	head, _, _ := strings.Cut(text, ".")
	data, err := base64.RawURLEncoding.DecodeString(head)
	var header struct{ Kid string }
	if err := errors.Join(err, json.Unmarshal(data, &header)); err != nil {
		c.oracle.wrongly("mint: %v", err)
	}
	return bearer{text, header.Kid}
}

// signIn gives everybody fresh tokens: two, of which one is good for longer.
func (c *chaos) signIn() {
	for _, p := range append(slices.Clone(c.people), c.nobody) {
		fresh := []bearer{c.mint(p.claims(c.issuer, time.Hour)), c.mint(p.claims(c.issuer, 24*time.Hour))}
		if p == c.people[0] {
			c.relics[fresh[0].kid] = fresh[0]
		}
		p.mu.Lock()
		p.tokens = slices.Concat(p.tokens, fresh)
		p.tokens = p.tokens[max(0, len(p.tokens)-8):] // the oldest are of keys that have been withdrawn
		p.mu.Unlock()
	}
}

// token is one of the person's: mostly of the newest, now and then an old one.
func (p *person) token(r *rand.Rand) bearer {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.IntN(10) == 0 {
		return p.tokens[r.IntN(len(p.tokens))]
	}
	return p.tokens[len(p.tokens)-1-r.IntN(2)]
}

// ask is a request before it is sent.
type ask struct {
	question
	method, route string
	params        map[string]string
	bearers       []string // the Authorization headers
	address       string
	patience      time.Duration // 0: until there is an answer
}

// prefixes of the grants, for whoever asks.
func (c *chaos) place(p *person, tenant, grant string) place {
	at := place{Tenant: tenant, Grant: grant, Bucket: brokertest.Bucket, Prefix: "tenants/" + tenant + "/", Access: []string{"list", "read", "write", "delete"}}
	switch grant {
	case "home":
		at.Prefix = "users/" + tenant + "/" + policy.UserOf(c.issuer, p.subject).String() + "/"
	case "reports":
		at.Access = []string{"list", "read"}
	}
	return at
}

// right is a question to which the answer is credentials.
func (c *chaos) right(r *rand.Rand, p *person) ask {
	token := p.token(r)
	a := ask{method: http.MethodGet, route: "/v1/credentials", params: map[string]string{}, bearers: []string{"Bearer " + token.text}, address: anywhere(r)}
	a.kind, a.who, a.kid, a.tenant, a.format = "credentials", p, token.kid, p.tenant, "container"
	grant := "uploads"
	switch {
	case p.machine:
		grant = "reports"
		a.tenant = c.tenants[r.IntN(len(c.tenants))]
		a.params["grant"], a.params["tenant"] = grant, a.tenant
	case r.IntN(5) == 0:
		grant = "home"
		a.params["grant"] = grant
	}
	a.wants = c.place(p, a.tenant, grant)
	switch r.IntN(8) {
	case 0: // one of few folders, or one that nobody asked for before
		a.params["path"] = fmt.Sprintf("folder-%d/", r.IntN(3))
	case 1:
		a.params["path"] = fmt.Sprintf("folder-%d/in/", r.Uint32())
	case 2:
		a.params["path"] = "one-object.txt"
		a.wants.Access = slices.DeleteFunc(a.wants.Access, func(right string) bool { return right == "list" })
	case 3:
		a.params["access"] = "read"
		a.wants.Access = []string{"read"}
	case 4:
		a.wants.Duration = "1200"
		a.params["duration"] = a.wants.Duration
	}
	a.wants.Prefix += a.params["path"]
	switch r.IntN(6) {
	case 0:
		a.method = http.MethodPost
	case 1:
		a.route, a.format = "/s3/sts", "uppy"
	case 2:
		a.format = []string{"process", "js", "uppy"}[r.IntN(3)]
		a.params["format"] = a.format
	}
	if r.IntN(40) == 0 {
		a.bearers = []string{token.text} // as the AWS SDKs send the content of a file
	}
	if r.IntN(60) == 0 {
		a.patience = time.Duration(1+r.IntN(50)) * time.Millisecond // and hangs up
	}
	return a
}

// bad is a question that must be refused, and with what.
func (c *chaos) bad(r *rand.Rand) ask {
	p := c.people[r.IntN(len(c.people))]
	a := c.right(r, p)
	a.patience = 0
	refused := func(kind, code string) { a.kind, a.code = kind, code }
	shows := func(b bearer, kid string) { a.bearers, a.kid = []string{"Bearer " + b.text}, kid }
	another := c.tenants[r.IntN(len(c.tenants))]
	switch r.IntN(13) {
	case 0:
		refused("forged", "invalid_token")
		shows(c.mint(p.claims(c.issuer, time.Hour), localauth0.WithKey(c.foreign)), "")
	case 1:
		refused("unknown key", "invalid_token")
		shows(c.mint(p.claims(c.issuer, time.Hour), localauth0.WithHeader("kid", fmt.Sprint("key-", r.IntN(1000)))), "")
	case 2:
		refused("expired", "expired_token")
		claims := p.claims(c.issuer, -time.Minute)
		claims["iat"] = time.Now().Add(-time.Hour).Unix()
		shows(c.mint(claims), "")
	case 3:
		refused("another audience", "invalid_token")
		claims := p.claims(c.issuer, time.Hour)
		claims["aud"] = "https://elsewhere.test"
		shows(c.mint(claims), "")
	case 4:
		refused("another's tenant written into a token", "invalid_token")
		claims := p.claims(c.issuer, time.Hour)
		claims["org_id"] = another + "x"
		payload, _ := json.Marshal(claims)
		parts := strings.Split(p.token(r).text, ".")
		shows(bearer{text: parts[0] + "." + base64.RawURLEncoding.EncodeToString(payload) + "." + parts[2]}, "")
	case 5:
		refused("no token", "missing_token")
		a.bearers, a.kid = nil, ""
	case 6:
		refused("no JWT", "invalid_token")
		shows(bearer{text: "a.b.c"}, "")
	case 7:
		refused("two headers", "invalid_request")
		a.bearers, a.kid = append(a.bearers, a.bearers[0]), ""
	case 8:
		refused("unknown parameter", "invalid_request")
		a.params["acess"], a.kid = "read", ""
	case 9:
		refused("more than the grant", "scope_not_allowed")
		if p.machine {
			a.params["access"] = "read,write"
		} else {
			a.params["duration"] = "12h"
		}
	case 10:
		refused("a path that leads out", "invalid_request")
		a.params["path"] = "../" + another + "/"
	case 11:
		refused("a grant of others", "no_grant")
		a.params["grant"] = "reports"
		if delete(a.params, "tenant"); p.machine {
			a.params["grant"] = "uploads"
		}
	case 12:
		refused("of no tenant", "invalid_tenant")
		a.who, a.tenant, a.params["grant"] = c.nobody, "", "uploads"
		delete(a.params, "tenant")
		token := c.nobody.token(r)
		shows(token, token.kid)
	}
	return a
}

// anywhere is an address that a trusted proxy speaks for: failures are counted by it.
func anywhere(r *rand.Rand) string {
	return fmt.Sprintf("10.%d.%d.%d", r.IntN(256), r.IntN(256), r.IntN(256))
}

// request writes a question down.
func (c *chaos) request(ctx context.Context, a ask) (*http.Request, error) {
	query, body := url.Values{}, io.Reader(http.NoBody)
	for name, value := range a.params {
		query.Set(name, value)
	}
	target := c.url + a.route
	if a.method == http.MethodPost {
		data, err := json.Marshal(a.params)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(data)
	} else if len(query) > 0 {
		target += "?" + query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, a.method, target, body)
	if err != nil {
		return nil, err
	}
	if a.method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header["Authorization"] = a.bearers
	r.Header.Set("X-Forwarded-For", a.address)
	return r, nil
}

// longest is more than the broker ever takes, on the slowest machine.
const longest = time.Minute

// asks sends a question, has the answer judged, and returns what it came to.
func (c *chaos) asks(ctx context.Context, a ask) string {
	patience := a.patience
	if patience == 0 {
		patience = longest
	}
	hanging, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := c.request(hanging, a)
	if err != nil {
		c.oracle.wrongly("%v", err)
		return "none"
	}
	tenant := c.shut[a.tenant] // nil where there is none
	is := answer{barrier: max(c.oracle.barrier.Load(), a.who.forgotten.Load()), begun: time.Now()}
	is.subject[0], is.tenant[0] = a.who.shut.now(), tenant.now()
	is.has[0], is.hasNot = c.oracle.stands(a.kid)
	response, err := c.client.Do(r)
	if err == nil {
		is.status, is.header = response.StatusCode, response.Header
		is.body, err = io.ReadAll(response.Body)
		_ = response.Body.Close()
	}
	is.ended = time.Now()
	if err != nil {
		if ctx.Err() == nil && a.patience == 0 {
			c.oracle.wrongly("%s by %s: no answer: %v", a.kind, a.who.subject, err)
		}
		c.oracle.count("hung up")
		return "none"
	}
	is.subject[1], is.tenant[1] = a.who.shut.now(), tenant.now()
	is.has[1], _ = c.oracle.stands(a.kid)
	what := c.oracle.judge(a.question, is)
	c.slow(is.ended.Sub(is.begun))
	if is.status == http.StatusOK && c.uses.Add(1)%50 == 0 {
		c.use(ctx, a.question, is)
	}
	return what
}

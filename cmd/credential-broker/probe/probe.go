// Package probe asks a running broker what its callers ask, every few minutes: a good
// token must get credentials that work, a token for another audience must get none,
// and another tenant's object must stay shut. It leaves nothing behind, whatever the
// answers are.
//
// What must be refused counts as held by that one refusal alone: an answer that may
// be about the moment, such as throttling or a proxy's, holds nothing.
package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/escape"
	"credential-broker/cmd/credential-broker/advice"
	"credential-broker/cmd/credential-broker/agent"
	"credential-broker/policy"
)

// The names of the checks, in their order.
const (
	Credentials     = "credentials"      // a good token gets some
	Inside          = "inside"           // and they work where they should
	ForeignAudience = "foreign_audience" // a token for another audience gets none
	Owner           = "owner"            // the object below is there: its owner reads it
	ForeignObject   = "foreign_object"   // another tenant's object stays shut
)

// Options are whom to ask, and with what.
type Options struct {
	Agent agent.Options // the broker, the good token, and what is asked for

	// One of the two is where a token for another audience comes from: a file, or the
	// client of Agent, which asks for this audience.
	ForeignTokenFile, ForeignAudience string

	// The object of another tenant. It should be there: see Owner.
	ForeignBucket, ForeignKey string
	// At most one of the two says who its owner is: a file with a token, or another
	// Auth0 organization that the client of Agent is in. Then it is shown that the
	// object is there, without which a denial to read it says little.
	OwnerTokenFile, OwnerOrganization string

	Object     string // the key of an object inside, to be read; empty: see Prober.inside
	S3Endpoint string // empty: AWS's own
	HTTP       escape.HTTPClient
}

// Check is what came of one.
type Check struct {
	Check string `json:"check"`
	OK    bool   `json:"ok"`
	// Open says that what must be refused was not: somebody has to be woken. Where
	// neither is set, nothing is proved.
	Open   bool   `json:"open"`
	Detail string `json:"detail"` // holds no secret
}

// Report is what came of all.
type Report struct {
	OK     bool      `json:"ok"`
	Broker string    `json:"broker"` // the host that was asked
	Time   time.Time `json:"time"`   // of the end
	Checks []Check   `json:"checks"`
}

// Prober makes the checks, once or again and again. It keeps tokens, as long as they
// are good, and no credentials.
type Prober struct {
	o                    Options
	host                 string
	good, foreign, owner *agent.Asker // owner may be nil
}

// New checks the options and reports everything that is wrong with them, joined.
func New(o Options) (*Prober, error) {
	p := &Prober{o: o}
	var errs []error
	asker := func(o agent.Options) *agent.Asker {
		a, err := agent.NewAsker(o, agent.Container)
		errs = append(errs, err)
		return a
	}
	p.good = asker(o.Agent)
	if (o.ForeignTokenFile == "") == (o.ForeignAudience == "") {
		errs = append(errs, errors.New("--foreign-token-file is needed, or --foreign-audience, and not both"))
	} else {
		p.foreign = asker(o.other(o.ForeignTokenFile, func(a *agent.Options) { a.Audience = o.ForeignAudience }))
	}
	if o.ForeignBucket == "" || o.ForeignKey == "" {
		errs = append(errs, errors.New("--foreign-object is needed: s3://bucket/key, an object of another tenant that is there"))
	}
	switch {
	case o.OwnerTokenFile != "" && o.OwnerOrganization != "":
		errs = append(errs, errors.New("--owner-token-file or --owner-organization, and not both"))
	case o.OwnerTokenFile != "" || o.OwnerOrganization != "":
		p.owner = asker(o.other(o.OwnerTokenFile, func(a *agent.Options) { a.Organization = o.OwnerOrganization }))
	}
	if o.S3Endpoint != "" {
		if u, err := url.Parse(o.S3Endpoint); err != nil || u.Host == "" {
			errs = append(errs, fmt.Errorf("--s3-endpoint %q: not a URL", o.S3Endpoint))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if u, err := url.Parse(o.Agent.BrokerURL); err == nil {
		p.host = u.Host
	}
	return p, nil
}

// other are the options of another caller: whoever's token is in the file, or the
// client of Agent, changed.
func (o Options) other(tokenFile string, change func(*agent.Options)) agent.Options {
	a := o.Agent
	if tokenFile != "" {
		return agent.Options{BrokerURL: a.BrokerURL, TokenFile: tokenFile, Transport: a.Transport}
	}
	change(&a)
	return a
}

// Run makes each check once. When ctx ends on the way, what is left is not proved.
func (p *Prober) Run(ctx context.Context) Report {
	r := Report{Broker: p.host}
	given, credentials := p.credentials(ctx, p.good, Credentials)
	r.Checks = append(r.Checks, credentials, p.inside(ctx, given), p.foreignAudience(ctx))
	if p.owner != nil {
		r.Checks = append(r.Checks, p.ownerReads(ctx))
	}
	r.Checks = append(r.Checks, p.foreignObject(ctx, given))
	r.OK = !slices.ContainsFunc(r.Checks, func(c Check) bool { return !c.OK })
	r.Time = time.Now().UTC()
	return r
}

// given is what the broker gave.
type given struct {
	session                       escape.Session
	Bucket, Region, Prefix, Grant string
	Access                        []string
}

// target is S3 as the session sees it.
func (p *Prober) target(g *given) escape.Target {
	return escape.Target{
		S3: p.o.S3Endpoint, Region: g.Region, Session: g.session, HTTP: p.o.HTTP, Scope: policy.Scope{Partition: policy.PartitionOf(g.Region)},
	}
}

// credentials asks the broker, and returns nil where it gives none.
func (p *Prober) credentials(ctx context.Context, who *agent.Asker, name string) (*given, Check) {
	creds, err := who.Ask(ctx)
	if err != nil {
		return nil, Check{Check: name, Detail: err.Error()}
	}
	var body strings.Builder
	if _, err := creds.WriteTo(&body); err != nil {
		return nil, Check{Check: name, Detail: err.Error()}
	}
	var answer struct {
		SecretAccessKey, Token string
		given
	}
	if err := json.Unmarshal([]byte(body.String()), &answer); err != nil || answer.Bucket == "" || answer.Region == "" || answer.Prefix == "" {
		return nil, Check{Check: name, Detail: "the broker's answer does not say what the credentials are for"}
	}
	g := answer.given
	g.session = escape.Session{AccessKeyID: creds.AccessKeyID, SecretAccessKey: broker.NewSecret(answer.SecretAccessKey), SessionToken: broker.NewSecret(answer.Token)}
	return &g, Check{
		Check: name, OK: true,
		Detail: fmt.Sprintf("grant %s: %s on %s/%s, until %s", g.Grant, strings.Join(g.Access, ","), g.Bucket, g.Prefix, creds.Expiration.Format(time.RFC3339)),
	}
}

const without = "not tried: there are no credentials"

// inside uses the credentials: it reads a byte of the object that is named, or else
// lists, or else begins an upload and aborts it, as the scope has it.
func (p *Prober) inside(ctx context.Context, g *given) Check {
	if g == nil {
		return Check{Check: Inside, Detail: without}
	}
	t := p.target(g)
	var c escape.Check
	switch {
	case p.o.Object != "":
		c = escape.Read(ctx, t, g.Bucket, p.o.Object)
	case slices.Contains(g.Access, "list"):
		c = escape.List(ctx, t, g.Bucket, g.Prefix)
	case slices.Contains(g.Access, "write"):
		key := g.Prefix
		if strings.HasSuffix(key, "/") {
			key += escape.NewName()
		}
		c = escape.BeginUpload(ctx, t, g.Bucket, key)
	default:
		return Check{Check: Inside, Detail: "the scope neither lists nor writes: name an object in it with --object"}
	}
	return Check{Check: Inside, OK: c.Verdict == escape.Held, Detail: c.Name + ": " + c.Detail}
}

// ownerReads shows that the foreign object is there.
func (p *Prober) ownerReads(ctx context.Context) Check {
	g, c := p.credentials(ctx, p.owner, Owner)
	if g == nil {
		return c
	}
	read := escape.Read(ctx, p.target(g), p.o.ForeignBucket, p.o.ForeignKey)
	return Check{Check: Owner, OK: read.Verdict == escape.Held, Detail: "its owner: " + read.Name + ": " + read.Detail}
}

// foreignObject tries another tenant's object.
func (p *Prober) foreignObject(ctx context.Context, g *given) Check {
	if g == nil {
		return Check{Check: ForeignObject, Detail: without}
	}
	if g.Bucket == p.o.ForeignBucket && strings.HasPrefix(p.o.ForeignKey, g.Prefix) {
		return Check{Check: ForeignObject, Detail: fmt.Sprintf("--foreign-object is inside of the caller's own scope, %s/%s: name one of another tenant", g.Bucket, g.Prefix)}
	}
	c := Check{Check: ForeignObject, OK: true}
	var said []string
	for _, tried := range escape.Look(ctx, p.target(g), escape.Victim{Bucket: p.o.ForeignBucket, Key: p.o.ForeignKey}) {
		c.OK = c.OK && tried.Verdict == escape.Held
		c.Open = c.Open || tried.Verdict == escape.Failed
		said = append(said, tried.Name+": "+tried.Detail)
	}
	c.Detail = strings.Join(said, ", ")
	return c
}

// accepted are the refusals that come after a token was taken for good, whoever it
// is for.
func accepted() []string {
	return []string{"no_grant", "invalid_tenant", "scope_not_allowed", "revoked", "sts_rejected", "sts_unavailable"}
}

// foreignAudience shows the broker a token that is good, and for somebody else.
func (p *Prober) foreignAudience(ctx context.Context) Check {
	c := Check{Check: ForeignAudience}
	token, err := p.foreign.Token(ctx)
	if err != nil {
		c.Detail = "no token to try: " + err.Error()
		return c
	}
	good, err := p.good.Token(ctx)
	if err != nil {
		c.Detail = "no good token to compare it with: " + err.Error()
		return c
	}
	if c.Detail = unfit(read(good), read(token), time.Now()); c.Detail != "" {
		return c
	}
	_, err = p.foreign.Ask(ctx)
	var problem *agent.Problem
	switch {
	case err == nil:
		c.Open, c.Detail = true, "the broker gave credentials for it"
	case !errors.As(err, &problem):
		c.Detail = err.Error()
	case problem.Status == 401 && problem.Code == "invalid_token":
		c.OK, c.Detail = true, "401 invalid_token"
	case slices.Contains(accepted(), problem.Code):
		c.Open, c.Detail = true, "the broker took the token for one of its own: "+err.Error()
	default:
		c.Detail = err.Error()
	}
	return c
}

// claims are what of a token says whether it can prove anything.
type claims struct {
	Issuer   string          `json:"iss"`
	Audience advice.Audience `json:"aud"`
	Expiry   float64         `json:"exp"`
}

func read(token broker.Secret) (c claims) {
	_ = json.Unmarshal(advice.Payload(token), &c) // what is none says nothing, and is unfit
	return c
}

// userinfo is in the audience of every token of a log-in at Auth0, beside the API's.
const userinfo = "/userinfo"

// unfit says why a refusal of the foreign token would prove nothing of audiences: it
// has to differ from a good one in that, and in nothing else. Empty: it is fit.
func unfit(good, foreign claims, now time.Time) string {
	shared := slices.ContainsFunc(foreign.Audience, func(a string) bool { return slices.Contains(good.Audience, a) && !strings.HasSuffix(a, userinfo) })
	switch {
	case foreign.Issuer == "" || len(foreign.Audience) == 0:
		return "the token for another audience is no JWT with an issuer and an audience"
	case foreign.Issuer != good.Issuer:
		return fmt.Sprintf("the token for another audience has another issuer, too: %q", foreign.Issuer)
	case shared:
		return fmt.Sprintf("the token for another audience is for the broker's own: %q", []string(foreign.Audience))
	case foreign.Expiry <= float64(now.Unix()):
		return "the token for another audience is over: it would be refused for that"
	default:
		return ""
	}
}

package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"sync"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/awssts"
	"credential-broker/broker/escape"
	"credential-broker/cmd/credential-broker/advice"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/cmd/credential-broker/serve"
	"credential-broker/policy"
)

// verify gets the issuers' keys and verifies the token.
func (d *doctor) verify(ctx context.Context) (broker.Verifier, error) {
	verifier, err := d.keys(ctx)
	if err != nil {
		return nil, err
	}
	if d.identity, err = verifier.Verify(ctx, d.Token); err != nil {
		d.failed("token", advice.Token(d.cfg, d.caller, err), "%v", err)
		return nil, errStop
	}
	d.proved("token", "issuer %s, client %q, good until %s", d.identity.Issuer, d.identity.Client, d.identity.Expiry.UTC().Format(time.RFC3339))
	return verifier, nil
}

// decided reports on the decision, and on the document that comes of it.
func (d *doctor) decided() error {
	s := d.order.Scope
	d.proved("decision", "grant %s, tenant %s: %s on %s/%s", s.Grant, s.Tenant, s.S3.Access, s.S3.Bucket, s.S3.Key())
	if err := policy.Confined(d.order.Document.String(), s.S3); err != nil {
		d.failed("session policy is confined", "this is a bug: please report it", "%v", err)
		return errStop
	}
	d.proved("session policy is confined", "%d of %d bytes", len(d.order.Document.String()), policy.MaxDocumentBytes)
	return nil
}

// keys gets every issuer's keys, once.
func (d *doctor) keys(ctx context.Context) (broker.Verifier, error) {
	verifier, seen, err := startVerifier(ctx, d.cfg)
	if err != nil {
		d.failed("issuers' keys", "mend the issuers in the configuration", "%v", err)
		return nil, errStop
	}
	for _, i := range d.cfg.Issuers {
		if err := seen[i.URL]; err != nil {
			d.failed("keys of "+i.URL, d.keysRemedy(i), "%v", err)
			continue
		}
		d.proved("keys of "+i.URL, "discovery and keys are as they have to be")
	}
	if seen[d.caller.Issuer] != nil {
		return nil, errStop
	}
	return verifier, nil
}

// startVerifier starts a verifier, which runs until ctx ends, and returns when
// the first attempt for the keys of each issuer has come to something: what, by
// issuer.
func startVerifier(ctx context.Context, cfg config.Config) (broker.Verifier, map[string]error, error) {
	var mu sync.Mutex
	seen := map[string]error{}
	all := make(chan struct{})
	verifier, err := serve.NewVerifier(cfg, nil, func(issuer string, err error) {
		mu.Lock()
		defer mu.Unlock()
		if _, again := seen[issuer]; again {
			return
		}
		if seen[issuer] = err; len(seen) == len(cfg.Issuers) {
			close(all)
		}
	})
	if err != nil {
		return nil, nil, err
	}
	if err := verifier.Start(ctx); err != nil {
		return nil, nil, err
	}
	select {
	case <-all:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	mu.Lock()
	defer mu.Unlock()
	return verifier, maps.Clone(seen), nil
}

// errOrdered is what the exchange ends with once its order is known.
var errOrdered = errors.New("ordered")

// recorder takes an exchange's order in place of STS.
type recorder struct{ order broker.Order }

func (r *recorder) Issue(_ context.Context, order broker.Order) (broker.Credentials, error) {
	r.order = order
	return broker.Credentials{}, errOrdered
}

// decide runs the broker's own exchange up to its order. There is no audit
// record: nobody is given anything.
func (d *doctor) decide(ctx context.Context, verifier broker.Verifier, grant string) (broker.Order, error) {
	var r recorder
	b, err := broker.New(broker.Config{
		Revision: d.cfg.Revision, Grants: d.cfg.Grants, Verifier: verifier, Issuer: &r,
		Auditor: broker.NewAuditLog(io.Discard), Revoked: d.cfg.Revoked,
	})
	if err != nil {
		return broker.Order{}, err
	}
	_, err = b.Exchange(ctx, broker.Request{
		Token: d.Token, Grant: grant, Tenant: d.Tenant, Address: d.SourceIP,
	})
	if !errors.Is(err, errOrdered) {
		return broker.Order{}, err
	}
	return r.order, nil
}

// openSession asks STS as the broker does, and sees whose session it got.
func (d *doctor) openSession(ctx context.Context) error {
	d.publishedKeys(ctx)
	session, err := d.issue(ctx, d.order)
	if err != nil {
		d.failed("STS", d.stsRemedy(err), "%v", err)
		return errStop
	}
	d.walls = escape.Target{
		S3: d.S3Endpoint, STS: d.cfg.STS.Endpoint, Region: d.order.Scope.Region, STSRegion: d.cfg.STS.Region,
		Session: session, Scope: d.order.Scope.S3, Role: d.order.Scope.RoleARN.String(), Object: d.Object, HTTP: d.HTTP,
	}
	d.proved("STS", "credentials for %s", d.order.Scope.RoleARN)
	arn, err := escape.Caller(ctx, d.walls)
	if want := d.order.Scope.RoleARN.SessionARN(d.order.SessionName); err != nil || arn != want {
		d.unproved("the session is the role's", "compare web_identity and role_arn with the account: another role's session would be another's rights", "%s, %v; want %s", arn, err, want)
		return nil
	}
	d.proved("the session is the role's", "%s", arn)
	return nil
}

// issue asks STS for an order's credentials.
func (d *doctor) issue(ctx context.Context, order broker.Order) (escape.Session, error) {
	assert, _, err := serve.NewWebIdentity(d.cfg.WebIdentity)
	if err != nil {
		return escape.Session{}, err
	}
	client, err := awssts.New(awssts.Config{
		Region: d.cfg.STS.Region, Endpoint: d.cfg.STS.Endpoint, MaxConcurrent: 1, PerSecond: d.cfg.STS.PerSecond, Assert: assert,
	})
	if err != nil {
		return escape.Session{}, err
	}
	c, err := client.Issue(ctx, order)
	if err != nil {
		return escape.Session{}, err
	}
	return escape.Session{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.SessionToken}, nil
}

// publishedKeys compares what the web identity's issuer publishes with what this
// configuration would: a key that is not there signs tokens that AWS refuses.
func (d *doctor) publishedKeys(ctx context.Context) {
	if d.cfg.WebIdentity.Mode != config.Minted {
		return
	}
	const name = "published keys"
	_, documents, err := serve.NewWebIdentity(d.cfg.WebIdentity)
	if err != nil {
		d.failed(name, "web_identity.signing_keys must be PEM files that this process, and nobody else, can read", "%v", err)
		return
	}
	issuer := strings.TrimSuffix(d.cfg.WebIdentity.Issuer, "/")
	for path, want := range documents {
		where := issuer + path[strings.Index(path, "/.well-known/"):]
		got, err := d.get(ctx, where)
		if err != nil {
			d.unproved(name, "AWS has to reach "+where+" over https, from the internet; a way there from here would let the doctor look at it", "%v", err)
			return
		}
		if got != string(want) {
			d.failed(name, "let the broker that answers at "+issuer+" run with this configuration: what it publishes is of other keys", "%s is not what this configuration publishes", where)
			return
		}
	}
	d.proved(name, "%s publishes this configuration's keys", issuer)
}

func (d *doctor) get(ctx context.Context, address string) (string, error) {
	status, body, err := d.do(ctx, address)
	if err == nil && status != 200 {
		err = fmt.Errorf("%s: status %d", address, status)
	}
	return body, err
}

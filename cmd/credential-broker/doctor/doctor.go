// Package doctor proves on a running account that tenants are apart: it makes the
// real exchange with a real token, uses what comes of it inside its scope, tries
// every way out, and tries to go round the broker. What it cannot prove it says,
// and what is wrong it names with the remedy.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/escape"
	"credential-broker/cmd/credential-broker/advice"
	"credential-broker/cmd/credential-broker/config"
)

// Status is what came of a finding. The zero value proves nothing.
type Status string

// The statuses, as --json has them.
const (
	Proved    Status = "proved"
	Failed    Status = "failed"
	NotProved Status = "not_proved"
)

// Finding is one line of the report.
type Finding struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Detail string `json:"detail,omitempty"`
	Remedy string `json:"remedy,omitempty"` // one sentence; where something failed or was not proved
}

// Report is all that was found.
type Report struct {
	OK       bool      `json:"ok"` // everything is proved
	Attempts int       `json:"attempts"`
	Findings []Finding `json:"findings"`
}

// Options say with what to examine, and where.
type Options struct {
	Token broker.Secret // a caller's, as it would be shown to the broker
	// OtherToken is a token of the same issuer and log-in for another audience, with
	// the same tags. Mode forwarded is not proved without it.
	OtherToken broker.Secret
	// Grant names the one grant to examine. Without it, a grant of every role is
	// examined, and a role of which the token matches none is not proved.
	Grant       string
	Tenant      string        // as a request names it
	OtherTenant string        // one that exists: needed where each tenant has a bucket
	OtherObject ObjectName    // of another tenant, and there: needed where none can be put there
	SourceIP    string        // the address that S3 sees; for grants that bind it
	Object      string        // key of an object inside, for a grant that only reads
	S3Endpoint  string        // of a server that is not AWS; path-style
	Timeout     time.Duration // of the whole examination; 0: 15 minutes
	HTTP        *http.Client
	Found       func(Finding) // told of each finding as it is made; may be nil
}

// ObjectName names an object. The zero value names none.
type ObjectName struct{ Bucket, Key string }

// ParseObjectName reads s3://bucket/key; the empty text gives the zero value.
func ParseObjectName(s string) (ObjectName, error) {
	if s == "" {
		return ObjectName{}, nil
	}
	rest, ok := strings.CutPrefix(s, "s3://")
	bucket, key, _ := strings.Cut(rest, "/")
	if !ok || bucket == "" || key == "" {
		return ObjectName{}, fmt.Errorf("object %q: must be s3://bucket/key", s)
	}
	return ObjectName{bucket, key}, nil
}

// defaultTimeout bounds the examination: about 1,000 small requests for a role,
// one after the other, at some 200 ms each across an ocean; more where walls are
// open, and for several roles.
const defaultTimeout = 15 * time.Minute

// doctor is one examination.
type doctor struct {
	Options
	cfg      config.Config
	findings []Finding
	attempts int
	caller   advice.Claims
	identity broker.Identity
	at       string // begins the names of findings on a further role

	// Of the role that is examined:
	order broker.Order  // what the exchange came to
	walls escape.Target // the session of the exchange, and where it is tried
	seeds []seed        // what was put for others, to be removed
	left  []string      // what could not be removed
}

// Examine runs the examination. It stops early where nothing further can be
// proved; what was left out is then the last finding. What it wrote it removes,
// also when ctx ends or the time is over.
func Examine(ctx context.Context, cfg config.Config, o Options) Report {
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	if o.HTTP == nil {
		o.HTTP = &http.Client{
			Timeout:       30 * time.Second, // of one small request
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	d := &doctor{Options: o, cfg: cfg, caller: advice.ReadClaims(o.Token)}
	d.proved("configuration", "%d grant(s), revision %s, mode %s", len(cfg.Grants), cfg.Revision, cfg.WebIdentity.Mode)
	if err := d.examine(ctx); err != nil {
		remedy := "what failed above has to be mended first; then run the doctor again"
		if ctx.Err() != nil {
			remedy = "run the doctor again, with a longer --timeout if that was too short"
		}
		d.unproved("the rest", remedy, "%v", err)
	}
	report := Report{OK: true, Attempts: d.attempts, Findings: d.findings}
	for _, f := range d.findings {
		report.OK = report.OK && f.Status == Proved
	}
	return report
}

// errStop ends an examination whose next steps have nothing to stand on.
var errStop = errors.New("not examined")

// examine takes the grant that was named; or the one that a request without a
// name gets, and then one of each further role.
func (d *doctor) examine(ctx context.Context) error {
	verifier, err := d.verify(ctx)
	if err != nil {
		return err
	}
	order, err := d.decide(ctx, verifier, d.Grant)
	if err != nil {
		d.failed("decision", advice.Decision(err), "%v", err)
		return errStop
	}
	if err := d.role(ctx, order); err != nil || d.Grant != "" {
		return err
	}
	seen := map[string]bool{order.Scope.RoleARN.String(): true}
	for _, g := range d.cfg.Grants {
		role := g.RoleARN.String()
		if seen[role] {
			continue
		}
		seen[role] = true
		d.at = "grant " + g.Name + ": "
		order, err := d.decide(ctx, verifier, g.Name)
		if err != nil {
			d.unproved("role "+role, "run the doctor with --grant "+g.Name+" and a token that it is for", "%v", err)
			continue
		}
		if err := d.role(ctx, order); err != nil {
			return err
		}
	}
	d.at = ""
	d.otherIssuers()
	return nil
}

// otherIssuers says what a token of one issuer cannot show of the others, which
// STS trusts too in mode forwarded.
func (d *doctor) otherIssuers() {
	for _, i := range d.cfg.Issuers {
		if d.cfg.WebIdentity.Mode == config.Forwarded && i.URL != d.caller.Issuer {
			d.unproved("issuer "+i.URL, "run the doctor with --grant and a token of this issuer, too", "the token is of another")
		}
	}
}

// role examines what one order comes to.
func (d *doctor) role(ctx context.Context, order broker.Order) error {
	d.order, d.walls, d.seeds, d.left = order, escape.Target{}, nil, nil
	if err := d.decided(); err != nil {
		return err
	}
	if err := d.openSession(ctx); err != nil {
		return err
	}
	defer d.leftovers(ctx)
	if err := d.inside(ctx); err != nil {
		return err
	}
	d.victims(ctx)
	narrowed := d.sessionPolicy(ctx)
	d.outside(ctx, narrowed)
	d.bypass(ctx)
	d.audience(ctx)
	return ctx.Err()
}

func (d *doctor) report(f Finding) {
	f.Name = d.at + f.Name
	d.findings = append(d.findings, f)
	if d.Found != nil {
		d.Found(f)
	}
}

func (d *doctor) proved(name, detail string, args ...any) {
	d.report(Finding{Name: name, Status: Proved, Detail: fmt.Sprintf(detail, args...)})
}

func (d *doctor) failed(name, remedy, detail string, args ...any) {
	d.report(Finding{Name: name, Status: Failed, Detail: fmt.Sprintf(detail, args...), Remedy: remedy})
}

func (d *doctor) unproved(name, remedy, detail string, args ...any) {
	d.report(Finding{Name: name, Status: NotProved, Detail: fmt.Sprintf(detail, args...), Remedy: remedy})
}

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
	"time"

	"credential-broker/broker"
	"credential-broker/broker/escape"
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
	// OtherToken is a token of the same issuer for another audience, such as the ID
	// token of the same log-in. Mode forwarded is not proved without it.
	OtherToken    broker.Secret
	Grant, Tenant string // as a request names them
	SourceIP      string // the address that S3 sees; for grants that bind it
	Object        string // key of an object inside, for a grant that only reads
	S3Endpoint    string // of a server that is not AWS; path-style
	HTTP          *http.Client
	Found         func(Finding) // told of each finding as it is made; may be nil
}

// timeout bounds the examination: about a thousand small requests.
const timeout = 5 * time.Minute

// doctor is one examination.
type doctor struct {
	Options
	cfg      config.Config
	findings []Finding
	attempts int

	order  broker.Order // what the exchange came to
	caller tokenClaims
	walls  escape.Target // the session of the exchange, and where it is tried
}

// Examine runs the examination. It stops early where nothing further can be
// proved; what was left out is then the last finding.
func Examine(ctx context.Context, cfg config.Config, o Options) Report {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if o.HTTP == nil {
		o.HTTP = &http.Client{
			Timeout:       30 * time.Second, // of one small request
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	d := &doctor{Options: o, cfg: cfg, caller: readClaims(o.Token)}
	d.proved("configuration", "%d grant(s), revision %s, mode %s", len(cfg.Grants), cfg.Revision, cfg.WebIdentity.Mode)
	if err := d.examine(ctx); err != nil {
		d.unproved("the rest", "what failed above has to be mended first; then run the doctor again", "%v", err)
	}
	report := Report{OK: true, Attempts: d.attempts, Findings: d.findings}
	for _, f := range d.findings {
		report.OK = report.OK && f.Status == Proved
	}
	return report
}

// errStop ends an examination whose next steps have nothing to stand on.
var errStop = errors.New("not examined")

func (d *doctor) examine(ctx context.Context) error {
	if err := d.exchange(ctx); err != nil {
		return err
	}
	if err := d.openSession(ctx); err != nil {
		return err
	}
	if err := d.inside(ctx); err != nil {
		return err
	}
	outside := d.outside(ctx)
	narrowed := d.sessionPolicy(ctx)
	d.explainOutside(ctx, outside, narrowed)
	d.bypass(ctx)
	d.audience(ctx)
	d.leftovers(ctx)
	return nil
}

func (d *doctor) report(f Finding) {
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

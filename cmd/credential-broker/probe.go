package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"credential-broker/cmd/credential-broker/doctor"
	"credential-broker/cmd/credential-broker/probe"
)

type probeCmd struct {
	backendFlags
	ForeignTokenFile  string        `help:"A file with a token of the same issuer for another audience, which has to be refused." placeholder:"FILE"`
	ForeignAudience   string        `help:"Another API for which the client can get such a token, instead of the file." placeholder:"ID"`
	ForeignObject     string        `help:"An object of another tenant, which has to stay shut. It should be there." required:"" placeholder:"s3://BUCKET/KEY"`
	OwnerTokenFile    string        `help:"A token of that object's owner, to show that it is there." placeholder:"FILE"`
	OwnerOrganization string        `help:"The Auth0 organization that it belongs to, where the client is in that one as well, instead of the file." placeholder:"ORG"`
	Object            string        `help:"The key of an object inside, to be read; without it the scope is listed, or an upload is begun and aborted." placeholder:"KEY"`
	S3Endpoint        string        `name:"s3-endpoint" help:"An S3 that is not AWS's, addressed path-style." placeholder:"URL"`
	Textfile          string        `help:"Where to write the result for Prometheus's node exporter: a file in its textfile folder, ending in .prom." placeholder:"FILE"`
	Every             time.Duration `help:"Go on, with a pause of so long between the runs, until told to stop: for a sidecar."`
	Timeout           time.Duration `help:"Of a run." default:"1m"`
	JSON              bool          `name:"json" help:"Print a JSON document, in one line."`
}

// errNotHeld ends a probe whose report has said what is wrong.
var errNotHeld = errors.New("not every check held")

// Run probes once, or until it is told to stop. What was broken off is no result and
// is not written down as one.
func (c probeCmd) Run(w *world) error {
	p, err := c.prober(w)
	if err != nil {
		return usageError{err}
	}
	for {
		held, err := c.once(w, p)
		switch {
		case c.Every == 0 && err == nil && !held:
			return errNotHeld
		case c.Every == 0:
			return err
		case err != nil && w.ctx.Err() == nil:
			_, _ = fmt.Fprintln(w.stderr, "credential-broker:", err)
		}
		select {
		case <-w.ctx.Done():
			return nil
		case <-time.After(c.Every):
		}
	}
}

func (c probeCmd) prober(w *world) (*probe.Prober, error) {
	object, err := doctor.ParseObjectName(c.ForeignObject)
	if c.Every < 0 || c.Timeout <= 0 {
		err = errors.Join(err, errors.New("--every and --timeout: a duration, such as 5m"))
	}
	p, wrong := probe.New(probe.Options{
		Agent: c.options(w), ForeignTokenFile: c.ForeignTokenFile, ForeignAudience: c.ForeignAudience, ForeignBucket: object.Bucket, ForeignKey: object.Key,
		OwnerTokenFile: c.OwnerTokenFile, OwnerOrganization: c.OwnerOrganization, Object: c.Object, S3Endpoint: c.S3Endpoint,
	})
	return p, errors.Join(err, wrong)
}

// once probes, prints and writes, and reports whether every check held.
func (c probeCmd) once(w *world, p *probe.Prober) (bool, error) {
	ctx, cancel := context.WithTimeout(w.ctx, c.Timeout)
	defer cancel()
	report := p.Run(ctx)
	if err := w.ctx.Err(); err != nil {
		return false, err
	}
	var err error
	if c.JSON {
		err = json.NewEncoder(w.stdout).Encode(report)
	} else {
		probe.Print(w.stdout, report)
	}
	if c.Textfile != "" {
		err = errors.Join(err, probe.WriteTextfile(c.Textfile, report))
	}
	return report.OK, err
}

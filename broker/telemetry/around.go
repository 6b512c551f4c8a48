package telemetry

import (
	"context"

	"credential-broker/broker"
)

// Auditor counts what becomes of the records of another.
func (m *Metrics) Auditor(next broker.Auditor) broker.Auditor { return auditor{next, m} }

type auditor struct {
	next broker.Auditor
	m    *Metrics
}

// Record implements broker.Auditor.
func (a auditor) Record(ctx context.Context, r broker.Record) error {
	err := a.next.Record(ctx, r)
	if err != nil {
		a.m.unrecorded.Inc()
		return err
	}
	a.m.records.of(r.Decision).Inc()
	return nil
}

// Issuer counts what orders are passed on to another: the one that asks STS.
func (m *Metrics) Issuer(next broker.Issuer) broker.Issuer { return issuer{next, m} }

type issuer struct {
	next broker.Issuer
	m    *Metrics
}

// Issue implements broker.Issuer.
func (i issuer) Issue(ctx context.Context, order broker.Order) (broker.Credentials, error) {
	i.m.policy.Observe(float64(len(order.Document.String())))
	return i.next.Issue(ctx, order)
}

package account

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"credential-broker/broker"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/policy"
)

// Who says whose sessions are to end; empty is everybody's.
type Who struct {
	Subject string // of any configured issuer, as in revoked.subjects
	Tenant  string
}

// Denial is a policy that ends sessions, and the roles to attach it to.
type Denial struct {
	Roles  []string        `json:"role_arns"`
	Policy json.RawMessage `json:"policy"`
}

// Deny writes what ends the sessions that were issued before a time. A subject is
// known by the source identity of its sessions where the broker writes it, and by
// the name of its sessions where it does not; that name is of the subject in a
// tenant, so that both are needed then.
func Deny(cfg config.Config, before time.Time, who Who) (Denial, error) {
	var d Denial
	for _, g := range cfg.Grants {
		if arn := g.RoleARN.String(); !slices.Contains(d.Roles, arn) {
			d.Roles = append(d.Roles, arn)
		}
	}
	s := policy.Sessions{Before: before}
	if who.Tenant != "" {
		var err error
		if s.Tenant, err = policy.ParseTenant(who.Tenant); err != nil {
			return Denial{}, err
		}
	}
	if who.Subject != "" && who.Tenant == "" && cfg.WebIdentity.Mode == config.Forwarded {
		return Denial{}, errors.New("mode forwarded: name the subject's tenant too: by both is a session named")
	}
	for _, i := range cfg.Issuers {
		switch {
		case who.Subject == "":
		case cfg.WebIdentity.Mode == config.Forwarded:
			s.Names = append(s.Names, broker.SessionName(i.URL, who.Subject, s.Tenant))
		default:
			s.Sources = append(s.Sources, policy.UserOf(i.URL, who.Subject))
		}
	}
	document, err := policy.DenyDocument(s)
	if err != nil {
		return Denial{}, fmt.Errorf("write denial: %w", err)
	}
	d.Policy = json.RawMessage(document)
	return d, nil
}

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"credential-broker/cmd/credential-broker/account"
	"credential-broker/cmd/credential-broker/config"
)

// Run prints what the AWS account needs, or what ends sessions there.
func (c iamCmd) Run(w *world) error {
	cfg, err := w.read()
	if err != nil {
		return err
	}
	var printed any
	if c.DenySessionsBefore == "" && c.Subject+c.Tenant != "" {
		return usageError{errors.New("--subject and --tenant are for --deny-sessions-before")}
	}
	if c.DenySessionsBefore == "" {
		printed, err = account.Of(cfg)
	} else {
		printed, err = c.deny(cfg, time.Now())
	}
	if err != nil {
		return usageError{err}
	}
	if c.Subject != "" && cfg.WebIdentity.Mode == config.Forwarded {
		_, _ = fmt.Fprintln(w.stderr, "credential-broker: mode forwarded: who shows STS his token himself names his session as he likes, and is not met by this; --tenant without --subject ends all sessions in the tenant")
	}
	out := json.NewEncoder(w.stdout)
	out.SetIndent("", "  ")
	return out.Encode(printed)
}

// deny writes the denial. A time that is yet to come is a slip: until then, new
// sessions would be dead too.
func (c iamCmd) deny(cfg config.Config, now time.Time) (account.Denial, error) {
	before := now
	if c.DenySessionsBefore != "now" {
		var err error
		if before, err = time.Parse(time.RFC3339, c.DenySessionsBefore); err != nil {
			return account.Denial{}, fmt.Errorf("--deny-sessions-before %q: a time such as 2026-11-24T12:00:00Z, or now", c.DenySessionsBefore)
		}
	}
	if before.After(now) {
		return account.Denial{}, fmt.Errorf("--deny-sessions-before %s is yet to come: new sessions would not work until then", c.DenySessionsBefore)
	}
	return account.Deny(cfg, before, account.Who{Subject: c.Subject, Tenant: c.Tenant})
}

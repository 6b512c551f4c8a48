package main

import (
	"fmt"

	"credential-broker/broker/auditlog"
	"credential-broker/cmd/credential-broker/config"
)

type schemaCmd struct {
	Audit bool `help:"Of an audit record instead."`
}

// Run prints a JSON Schema.
func (c schemaCmd) Run(w *world) error {
	if c.Audit {
		_, err := fmt.Fprint(w.stdout, auditlog.Schema())
		return err
	}
	text, err := config.Schema()
	if err != nil {
		return err
	}
	_, err = w.stdout.Write(text)
	return err
}

package main

import (
	"bytes"

	"credential-broker/cmd/credential-broker/agent"
)

type processCmd struct {
	backendFlags
}

// Run prints the credentials, and nothing else, on standard output: a program that
// reads half an answer must not take it for one.
func (c processCmd) Run(w *world) error {
	creds, err := agent.Once(w.ctx, c.options(w))
	if err != nil {
		return asUsage(err)
	}
	var line bytes.Buffer
	if _, err := creds.WriteTo(&line); err != nil {
		return err
	}
	line.WriteByte('\n')
	_, err = w.stdout.Write(line.Bytes())
	return err
}

package main

import (
	"errors"

	"credential-broker/cmd/credential-broker/cases"
)

type testCmd struct {
	Dir  string `arg:"" help:"The folder with the cases: *.yaml, *.yml, *.json, in it and below it." type:"existingdir"`
	JSON bool   `name:"json" help:"Print one JSON document."`
}

// errCases ends a test whose report has said what does not hold.
var errCases = errors.New("not every case holds")

// Run runs the cases.
func (c testCmd) Run(w *world) error {
	cfg, err := w.read()
	if err != nil {
		return err
	}
	all, err := cases.Read(c.Dir)
	if err != nil {
		return usageError{err}
	}
	report, err := cases.Run(w.ctx, cfg, all)
	if err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(w.stdout, report)
	} else {
		cases.Print(w.stdout, report)
	}
	if err == nil && !report.OK {
		return errCases
	}
	return err
}

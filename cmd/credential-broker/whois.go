package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"credential-broker/broker"
	"credential-broker/broker/auditlog"
	"credential-broker/cmd/credential-broker/serve"
	"credential-broker/cmd/credential-broker/whois"
)

type whoisCmd struct {
	Query       string   `arg:"" optional:"" help:"What AWS logs: an access key id, a role session name, an assumed role's ARN, a principal id (AROA…:SESSION) or a source identity; or the broker's own request id."`
	Files       []string `arg:"" optional:"" help:"Audit files, rotated and packed ones too; - is standard input. Without one: audit.output of the configuration, and what it was rotated to."`
	Subject     string   `help:"Look for a subject instead, as the issuer knows it; all arguments are files then. Under audit.hash it needs --hash-key-file."`
	Subjects    string   `help:"A file with subjects, one a line: who of them stands behind a pseudonym is said." placeholder:"FILE"`
	HashKeyFile string   `help:"The key of audit.hash_key." placeholder:"FILE"`
	JSON        bool     `name:"json" help:"Print one JSON document, with all records."`
}

// errNobody ends a search that found nothing.
var errNobody = errors.New("nobody is found")

// Run looks for whoever it was. It exits 1 where nobody is found.
func (c whoisCmd) Run(w *world) error {
	query, files, err := c.query()
	if err != nil {
		return usageError{err}
	}
	pseudonyms, names, err := c.pseudonyms()
	if err != nil {
		return usageError{err}
	}
	if len(files) == 0 {
		if files, err = w.auditFiles(); err != nil {
			return err
		}
	}
	var found []broker.Record
	var result whois.Result
	for _, name := range files {
		counts, err := whois.File(name, func(r broker.Record) {
			if query.Match(r, pseudonyms) {
				found = append(found, r)
			}
		})
		result.Add(counts)
		if err != nil { // what was read before it counts: a rotated file may be cut off
			_, _ = fmt.Fprintln(w.stderr, "credential-broker:", err)
			result.Broken++
		}
	}
	result.People = whois.People(found, pseudonyms, names)
	if c.JSON {
		if err := printJSON(w.stdout, result); err != nil {
			return err
		}
	} else {
		whois.Print(w.stdout, result)
	}
	for _, note := range result.Notes() {
		_, _ = fmt.Fprintln(w.stderr, "credential-broker:", note)
	}
	if len(found) == 0 {
		return fmt.Errorf("%w in %d record(s) of %d file(s)", errNobody, result.Records, len(files))
	}
	return nil
}

// query says what is looked for, and where.
func (c whoisCmd) query() (whois.Query, []string, error) {
	if c.Subject != "" {
		files := c.Files
		if c.Query != "" {
			files = append([]string{c.Query}, files...)
		}
		return whois.Query{Subject: c.Subject}, files, nil
	}
	if c.Query == "" {
		return whois.Query{}, nil, errors.New("whois needs what to look for, or --subject")
	}
	query, err := whois.Parse(c.Query)
	return query, c.Files, err
}

// pseudonyms reads the key, and who could stand behind a pseudonym.
func (c whoisCmd) pseudonyms() (*auditlog.Pseudonyms, []string, error) {
	if c.HashKeyFile == "" {
		if c.Subjects != "" {
			return nil, nil, errors.New("--subjects needs --hash-key-file")
		}
		return nil, nil, nil
	}
	key, err := serve.ReadKey("key", c.HashKeyFile)
	if err != nil {
		return nil, nil, err
	}
	p, err := auditlog.NewPseudonyms(key, auditlog.Subject, auditlog.Address)
	if err != nil {
		return nil, nil, err
	}
	var names []string
	if c.Subjects != "" {
		data, err := readFile(c.Subjects)
		if err != nil {
			return nil, nil, err
		}
		names = strings.Split(strings.ReplaceAll(strings.TrimSpace(string(data)), "\r", ""), "\n")
	}
	if c.Subject != "" {
		names = append(names, c.Subject)
	}
	return p, names, nil
}

// auditFiles are those of the configuration: its own, and what it was rotated to.
func (w *world) auditFiles() ([]string, error) {
	cfg, err := w.read()
	if err != nil {
		return nil, err
	}
	if cfg.Audit.Output == "stdout" {
		return nil, usageError{errors.New("the records go to standard output: name the files that they are kept in")}
	}
	folder, name := filepath.Split(cfg.Audit.Output)
	entries, err := os.ReadDir(filepath.Join(folder, "."))
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries { // logrotate's audit.log.1, audit.log-20261125.gz
		if rest, ok := strings.CutPrefix(e.Name(), name); ok && (rest == "" || rest[0] == '.' || rest[0] == '-') && e.Type().IsRegular() {
			files = append(files, filepath.Join(folder, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("there is no audit file: %s", cfg.Audit.Output)
	}
	return files, nil
}

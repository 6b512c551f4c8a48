// Package cases holds a configuration against cases in files: what a token says
// and a request, and the scope or the code that has to come of them. Each case is a
// real token, signed with a key of this run, and goes the way of explain, which is
// the server's.
package cases

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"credential-broker/broker"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/cmd/credential-broker/explain"
)

// maxFileBytes bounds a file: some 10,000 cases.
const maxFileBytes = 4 << 20

// file is one file of cases.
type file struct {
	Cases []Case `yaml:"cases"`
}

// Case is one case.
type Case struct {
	Name    string  `yaml:"name"`
	Token   Token   `yaml:"token"`
	Request Request `yaml:"request"`
	Expect  Expect  `yaml:"expect"`
	file    string
}

// Token is what the token says. To what stands in Claims come iss, aud, sub, iat
// and exp, where they do not stand there: of the first issuer and audience of the
// configuration, of "test|user", made now and good for an hour. A claim of null is
// left out.
type Token struct {
	Claims map[string]any `yaml:"claims"`
	Age    time.Duration  `yaml:"age"`    // iat is so long ago
	Life   time.Duration  `yaml:"life"`   // from iat to exp; 0: an hour
	Forged bool           `yaml:"forged"` // signed with a key that the issuer does not have
}

// Request is what is asked for, as a caller writes it.
type Request struct {
	Grant    string   `yaml:"grant"`
	Access   []string `yaml:"access"`
	Path     string   `yaml:"path"`
	Duration string   `yaml:"duration"`
	Tenant   string   `yaml:"tenant"`
	Address  string   `yaml:"address"`
}

// Expect is what has to come of it: a code, or some of a scope. What is not named
// may be anything.
type Expect struct {
	Code     broker.Class  `yaml:"code"`
	Grant    string        `yaml:"grant"`
	Tenant   string        `yaml:"tenant"`
	Bucket   string        `yaml:"bucket"`
	Region   string        `yaml:"region"`
	Prefix   string        `yaml:"prefix"`
	Access   []string      `yaml:"access"`
	RoleARN  string        `yaml:"role_arn"`
	Duration time.Duration `yaml:"duration"`
}

// Read reads the cases of a folder: every file named .yaml, .yml or .json in it and
// below it, in the order of their names. A folder without a case is an error, as is
// a case that cannot fail.
func Read(folder string) ([]Case, error) {
	var all []Case
	var errs []error
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(path)) {
			return err
		}
		cases, err := readFile(path)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
		}
		all = append(all, cases...)
		return nil
	})
	if err == nil && len(all) == 0 && len(errs) == 0 {
		err = fmt.Errorf("no case is in %s (*.yaml, *.yml, *.json)", folder)
	}
	return all, errors.Join(append(errs, err)...)
}

func readFile(path string) ([]Case, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFileBytes {
		return nil, fmt.Errorf("%d bytes, at most %d", info.Size(), maxFileBytes)
	}
	data, err := os.ReadFile(path) //nolint:gosec // the operator names the folder
	if err != nil {
		return nil, err
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	var f file
	if err := dec.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one document")
	}
	var errs []error
	names := map[string]bool{}
	for i := range f.Cases {
		c := &f.Cases[i]
		c.file = path
		if err := c.validate(); err != nil {
			errs = append(errs, fmt.Errorf("case %d (%q): %w", i+1, c.Name, err))
		}
		if names[c.Name] {
			errs = append(errs, fmt.Errorf("case %d (%q): the name is taken", i+1, c.Name))
		}
		names[c.Name] = true
	}
	return f.Cases, errors.Join(errs...)
}

func (c Case) validate() error {
	e := c.Expect
	scope := e.Grant + e.Tenant + e.Bucket + e.Region + e.Prefix + e.RoleARN
	switch something := scope != "" || len(e.Access) > 0 || e.Duration != 0; {
	case c.Name == "":
		return errors.New("name is missing")
	case e.Code == "" && !something:
		return errors.New("expect is missing: a code, or some of grant, tenant, bucket, region, prefix, access, role_arn and duration")
	case e.Code != "" && something:
		return errors.New("expect has a code and a scope: only one of them can be")
	}
	return nil
}

// Result is what came of a case.
type Result struct {
	File     string   `json:"file"`
	Name     string   `json:"name"`
	OK       bool     `json:"ok"`
	Problems []string `json:"problems,omitempty"`
}

// Report is what came of all.
type Report struct {
	OK     bool     `json:"ok"`
	Passed int      `json:"passed"`
	Failed int      `json:"failed"`
	Cases  []Result `json:"cases"`
}

// Run runs the cases.
func Run(ctx context.Context, cfg config.Config, all []Case) (Report, error) {
	now := time.Now().Truncate(time.Second)
	keys, err := newKeys(cfg)
	if err != nil {
		return Report{}, err
	}
	engine, err := explain.New(ctx, cfg, explain.Options{JWKS: keys.set, Now: func() time.Time { return now }})
	if err != nil {
		return Report{}, err
	}
	defer engine.Close()
	report := Report{OK: true}
	for _, c := range all {
		token, err := keys.sign(cfg, c.Token, now)
		if err != nil {
			return Report{}, fmt.Errorf("%s: %s: %w", c.file, c.Name, err)
		}
		v, err := engine.Explain(ctx, explain.Request{
			Token: token, Grant: c.Request.Grant, Access: strings.Join(c.Request.Access, ","), Path: c.Request.Path,
			Duration: c.Request.Duration, Tenant: c.Request.Tenant, Address: c.Request.Address,
		})
		if err != nil {
			return Report{}, fmt.Errorf("%s: %s: %w", c.file, c.Name, err)
		}
		result := Result{File: c.file, Name: c.Name, Problems: c.Expect.differs(v)}
		if result.OK = len(result.Problems) == 0; result.OK {
			report.Passed++
		} else {
			report.Failed++
			report.OK = false
		}
		report.Cases = append(report.Cases, result)
	}
	return report, nil
}

// differs says in what a verdict is not what was expected.
func (e Expect) differs(v explain.Verdict) []string {
	if !v.Allowed || e.Code != "" {
		if v.Code == e.Code {
			return nil
		}
		got := "credentials for " + v.Tenant
		if !v.Allowed {
			got = v.Reason
		}
		want := string(e.Code)
		if want == "" {
			want = "credentials"
		}
		return []string{fmt.Sprintf("want %s, got %s", want, got)}
	}
	var problems []string
	compare := func(what, want, got string) {
		if want != "" && want != got {
			problems = append(problems, fmt.Sprintf("%s: want %s, got %s", what, want, got))
		}
	}
	compare("grant", e.Grant, v.Scope.Grant)
	compare("tenant", e.Tenant, v.Tenant)
	compare("bucket", e.Bucket, v.Scope.Bucket)
	compare("region", e.Region, v.Scope.Region)
	compare("prefix", e.Prefix, v.Scope.Prefix)
	compare("role_arn", e.RoleARN, v.Scope.RoleARN)
	// In any order, which means nothing.
	access, got := slices.Sorted(slices.Values(e.Access)), slices.Sorted(slices.Values(v.Scope.Access))
	compare("access", strings.Join(access, ", "), strings.Join(got, ", "))
	if life := time.Duration(v.Scope.Duration) * time.Second; e.Duration != 0 && e.Duration != life {
		compare("duration", e.Duration.String(), life.String())
	}
	return problems
}

// Print writes a report for people.
func Print(w io.Writer, r Report) {
	var text bytes.Buffer
	last := ""
	for _, c := range r.Cases {
		if c.File != last {
			_, _ = fmt.Fprintln(&text, broker.Printable(c.File))
			last = c.File
		}
		sign := "✔"
		if !c.OK {
			sign = "✘"
		}
		_, _ = fmt.Fprintf(&text, "  %s %s\n", sign, broker.Printable(c.Name))
		for _, p := range c.Problems {
			_, _ = fmt.Fprintf(&text, "      %s\n", broker.Printable(p))
		}
	}
	_, _ = fmt.Fprintf(&text, "%d passed, %d failed\n", r.Passed, r.Failed)
	_, _ = w.Write(text.Bytes()) // whoever reads no more need not be told
}

// Package config reads the broker's configuration: one YAML file, strictly, as a
// whole. Unknown keys are errors, every problem is reported with its line and
// column, and what comes out is in the types of the domain: nothing starts
// half-configured.
package config

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"credential-broker/broker"
)

// maxFileBytes bounds the file. A thousand grants have about 400 kB.
const maxFileBytes = 1 << 20

// Config is a configuration that was found whole.
type Config struct {
	Revision       string // names the effective configuration
	Listen         string
	AdminListen    string
	AdminPprof     bool
	TraceTenant    bool
	TrustedProxies []netip.Prefix
	AllowedOrigins []string
	Issuers        []Issuer
	WebIdentity    WebIdentity
	STS            STS
	CacheEntries   int
	SharedCache    SharedCache
	TokenBytes     int
	Limits         Limits
	Revoked        broker.Revoked
	Audit          Audit
	Grants         []broker.Grant
	Notes          []string // what an operator should know although nothing is wrong
}

// Issuer is one issuer of callers' tokens.
type Issuer struct {
	URL        string
	Audiences  []string
	Algorithms []string
	Clients    []string
	JWKSURL    string
	// LogoutAudiences are Clients where the file names none.
	LogoutAudiences []string
}

// The modes of WebIdentity.
const (
	Minted    = "minted"
	Forwarded = "forwarded"
)

// WebIdentity says what STS is shown. All but Mode is for mode Minted.
type WebIdentity struct {
	Mode        string
	Issuer      string
	Audience    string
	SigningKeys []string // paths
}

// STS says which STS is asked, and how patiently.
type STS struct {
	Region          string
	FallbackRegions []string // none where there is an Endpoint
	Endpoint        string
	Timeout         time.Duration
	MaxConcurrent   int
	PerSecond       int
}

// SharedCache is what replicas share, if URL is set.
type SharedCache struct {
	URL     broker.Secret // it may hold a password
	KeyFile string        // path
	Timeout time.Duration
}

// Limits are so many a minute.
type Limits struct {
	PerSubject         int
	PerTenant          int
	PerAddressFailures int
}

// Audit says where records go, and what they hide.
type Audit struct {
	Output  string   // "stdout" or a file's path
	Hash    []string // of "subject" and "address": kept as keyed hashes
	HashKey string   // path; there exactly where Hash is
}

// Problem is one thing that is wrong in a file.
type Problem struct {
	File         string
	Line, Column int    // from 1
	Path         string // of the key: "grants[0].prefix"
	What         string
}

// Error implements error: file:line:column: path: what.
func (p Problem) Error() string {
	if p.Path == "" {
		return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.What)
	}
	return fmt.Sprintf("%s:%d:%d: %s: %s", p.File, p.Line, p.Column, p.Path, p.What)
}

// Problems are all that is wrong in a file, in the order of their places.
type Problems []Problem

// Error implements error with a line for each.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Parse reads a configuration. The name of the file is for the problems;
// lookup gives environment variables as os.LookupEnv does. The error is Problems.
func Parse(file string, data []byte, lookup func(string) (string, bool)) (Config, error) {
	r := &reader{file: file, lookup: lookup}
	root := r.parse(data)
	if len(r.problems) == 0 {
		cfg := r.config(root)
		if len(r.problems) == 0 {
			cfg.Revision = revision(r.effective)
			return cfg, nil
		}
	}
	for i := range r.problems { // what is quoted may be a key, put where its file's name belongs
		p := &r.problems[i]
		p.Path, p.What = broker.Redact(p.Path), broker.Redact(p.What)
	}
	slices.SortStableFunc(r.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Path, b.Path))
	})
	return Config{}, r.problems
}

// parse reads the YAML into one mapping.
func (r *reader) parse(data []byte) node {
	if len(data) > maxFileBytes {
		r.problems = append(r.problems, Problem{r.file, 1, 1, "", fmt.Sprintf("%d bytes, at most %d", len(data), maxFileBytes)})
		return node{}
	}
	var doc, second yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&doc); err != nil || len(doc.Content) != 1 {
		r.syntax(err)
		return node{}
	}
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		r.problems = append(r.problems, Problem{r.file, max(1, second.Line), 1, "", "more than one document"})
		return node{}
	}
	return node{r: r, yaml: doc.Content[0]}
}

// place finds the line in the parser's words.
var place = regexp.MustCompile(`\Ayaml: (?:line (\d+): )?(.*)\z`)

// syntax reports that the file is not YAML.
func (r *reader) syntax(err error) {
	p := Problem{r.file, 1, 1, "", "empty"}
	if err != nil && !errors.Is(err, io.EOF) {
		p.What = "not YAML"
		if m := place.FindStringSubmatch(err.Error()); m != nil {
			p.What = "not YAML: " + m[2]
			if line, err := strconv.Atoi(m[1]); err == nil {
				p.Line = line
			}
		}
	}
	r.problems = append(r.problems, p)
}

// revision names a configuration by the digest of everything that was read,
// after the environment has been filled in.
func revision(effective []string) string {
	sum := sha256.Sum256([]byte(strings.Join(effective, "\n")))
	return hex.EncodeToString(sum[:8])
}

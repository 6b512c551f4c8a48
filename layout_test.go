// Package layout holds the shape of the repository: which packages there are,
// which may import which, who may see a secret, and what stands at the top. A new
// package or a new arrow is a change of the table below, on purpose.
package layout_test

import (
	"bufio"
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// module reads the module's name, which whoever hosts the repository may change.
func module(t testing.TB) string {
	t.Helper()
	data, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	name, ok := strings.CutPrefix(strings.SplitN(string(data), "\n", 2)[0], "module ")
	if !ok {
		t.Fatal("go.mod does not begin with the module's name")
	}
	return name
}

// rules are what a package may import, tests aside.
type rules struct {
	ours   []string // packages of this module
	others []string // modules by prefix; the standard library is always allowed but for `not`
	not    []string // of the standard library
}

// pure packages touch neither the network nor the machine.
var pure = []string{"net", "net/http", "os", "os/exec", "syscall"}

const (
	jwx  = "github.com/lestrrat-go/jwx/v2"
	aws  = "github.com/aws/aws-sdk-go-v2"
	echo = "github.com/labstack/echo/v4"
	lru  = "github.com/hashicorp/golang-lru/v2"

	breaker = "github.com/sony/gobreaker/v2"
	prom    = "github.com/prometheus/client_golang"
	otel    = "go.opentelemetry.io/otel"
)

// table is the layout: :: package → what it may import.
var table = map[string]rules{
	"policy":             {not: pure},
	"broker":             {ours: []string{"policy"}, not: pure},
	"broker/idtoken":     {ours: []string{"broker", "policy"}, others: []string{jwx, lru}},
	"broker/webidentity": {ours: []string{"broker", "policy"}, others: []string{jwx}},
	"broker/awssts": {
		ours: []string{"broker", "policy"}, others: []string{aws, "github.com/aws/smithy-go", breaker, "golang.org/x/time/rate"},
	},
	"broker/credcache": {ours: []string{"broker", "policy"}, others: []string{lru, "golang.org/x/sync"}, not: pure},
	"broker/sharedcache": {
		ours: []string{"broker", "policy"}, others: []string{breaker, "github.com/redis/rueidis"},
	},
	"broker/limits":    {ours: []string{"broker", "policy"}, others: []string{lru}, not: pure[1:]}, // net/netip is under net, and pure
	"broker/sessions":  {ours: []string{"broker"}, others: []string{lru}, not: pure},
	"broker/escape":    {ours: []string{"broker", "policy"}, others: []string{aws}},
	"broker/client":    {not: pure},
	"broker/telemetry": {ours: []string{"broker"}, others: []string{prom, otel, "go.opentelemetry.io/proto/otlp", "google.golang.org/protobuf"}},
	"broker/auditlog":  {ours: []string{"broker"}},
	"broker/httpapi":   {ours: []string{"broker"}, others: []string{echo, "golang.org/x/net/netutil"}},

	"broker/brokertest": {ours: []string{
		"broker", "policy", "broker/brokertest/iam", "broker/brokertest/localauth0", "broker/brokertest/localsts", "broker/brokertest/locals3",
		"broker/brokertest/sigv4",
	}},
	"broker/brokertest/clients":    {},
	"broker/brokertest/iam":        {not: pure[1:]}, // net/netip is under net, and pure
	"broker/brokertest/localauth0": {},
	"broker/brokertest/localk8s":   {},
	"broker/brokertest/localredis": {},
	"broker/brokertest/localsts":   {ours: []string{"broker/brokertest/iam"}},
	"broker/brokertest/sigv4":      {},
	"broker/brokertest/tofu":       {others: []string{"go.yaml.in/yaml/v3"}},
	"broker/brokertest/versitygw":  {others: []string{aws}},
	"broker/brokertest/locals3":    {ours: []string{"broker/brokertest/sigv4"}, others: []string{"github.com/johannesboyne/gofakes3"}},

	"cmd/credential-broker": {
		ours: []string{
			"broker", "broker/auditlog", "broker/telemetry", "cmd/credential-broker/account", "cmd/credential-broker/agent", "cmd/credential-broker/cases",
			"cmd/credential-broker/commandline", "cmd/credential-broker/config", "cmd/credential-broker/doctor", "cmd/credential-broker/explain",
			"cmd/credential-broker/probe", "cmd/credential-broker/serve", "cmd/credential-broker/whois",
		},
	},
	"cmd/credential-broker/commandline": {others: []string{"github.com/spf13/pflag"}},
	"cmd/credential-broker/agent":       {ours: []string{"broker"}, others: []string{"golang.org/x/oauth2"}},
	"cmd/credential-broker/whois":       {ours: []string{"broker", "broker/auditlog"}},
	"cmd/credential-broker/advice":      {ours: []string{"broker", "cmd/credential-broker/config"}},
	"cmd/credential-broker/probe": {
		ours: []string{"broker", "policy", "broker/escape", "cmd/credential-broker/advice", "cmd/credential-broker/agent"},
	},
	"cmd/credential-broker/explain": {
		ours: []string{
			"broker", "policy", "broker/httpapi", "broker/idtoken", "cmd/credential-broker/advice", "cmd/credential-broker/config",
			"cmd/credential-broker/serve",
		},
	},
	"cmd/credential-broker/cases": {
		ours:   []string{"broker", "cmd/credential-broker/config", "cmd/credential-broker/explain"},
		others: []string{"go.yaml.in/yaml/v3"},
	},
	"cmd/credential-broker/doctor": {
		ours: []string{
			"broker", "policy", "broker/awssts", "broker/escape", "cmd/credential-broker/advice", "cmd/credential-broker/config", "cmd/credential-broker/serve",
		},
		others: []string{"github.com/aws/smithy-go"},
	},
	"cmd/credential-broker/account":  {ours: []string{"broker", "policy", "cmd/credential-broker/config"}, not: pure},
	"cmd/credential-broker/config":   {ours: []string{"broker", "policy"}, others: []string{"go.yaml.in/yaml/v3"}},
	"cmd/credential-broker/localaws": {ours: []string{"broker/brokertest", "cmd/credential-broker/account", "cmd/credential-broker/config"}},
	"cmd/credential-broker/servetest": {
		ours: []string{"broker/brokertest", "cmd/credential-broker/config", "cmd/credential-broker/localaws", "cmd/credential-broker/serve"},
	},
	"cmd/credential-broker/watch": {others: []string{"github.com/fsnotify/fsnotify"}},
	"cmd/credential-broker/serve": {
		ours: []string{
			"broker", "policy", "broker/auditlog", "broker/awssts", "broker/client", "broker/credcache", "broker/httpapi", "broker/idtoken", "broker/limits",
			"broker/sessions", "broker/sharedcache", "broker/telemetry", "broker/webidentity", "cmd/credential-broker/config", "cmd/credential-broker/watch",
		},
		others: []string{"golang.org/x/sync"},
	},
	"cmd/bench": {
		ours: []string{
			"broker", "broker/auditlog", "broker/awssts", "broker/brokertest", "broker/credcache", "broker/httpapi", "broker/idtoken", "broker/limits",
			"broker/sharedcache", "broker/telemetry", "cmd/credential-broker/config", "cmd/credential-broker/serve",
		},
		others: []string{"github.com/alecthomas/kong", echo},
	},
	"cmd/demo": {
		ours: []string{
			"broker", "policy", "broker/brokertest", "broker/brokertest/localauth0", "cmd/credential-broker/config",
			"cmd/credential-broker/localaws", "cmd/credential-broker/serve",
		},
		others: []string{"github.com/alecthomas/kong", "golang.org/x/sync"},
	},
}

// reveals are the files that may call Secret.Reveal, tests aside.
var reveals = []string{
	"broker/awssts/awssts.go",                    // shows STS the token
	"broker/auditlog/pseudonyms.go",              // makes pseudonyms with their key
	"broker/escape/session.go",                   // signs with what is tried, and shows STS a token
	"broker/httpapi/render.go",                   // gives credentials to their owner
	"broker/idtoken/verify.go",                   // reads the token
	"broker/sharedcache/option.go",               // shows Redis its password
	"broker/sharedcache/seal.go",                 // seals credentials, with a key
	"broker/webidentity/sign.go",                 // reads the signing key
	"cmd/credential-broker/agent/ask.go",         // shows the broker the token
	"cmd/credential-broker/agent/credentials.go", // gives credentials to the programs of its machine
	"cmd/credential-broker/agent/source.go",      // shows Auth0 the client's secret
	"cmd/credential-broker/advice/advice.go",     // reads the token's claims, to explain a refusal
	"cmd/credential-broker/explain/engine.go",    // shows the token to the server's own code
}

// jwxFiles are the files that may import jwx: one that verifies, one that signs.
var jwxFiles = []string{"broker/idtoken/signature.go", "broker/webidentity/sign.go"}

var (
	topFolders = []string{"broker", "cmd", "deploy", "policy"}
	topFiles   = []string{
		"CHANGELOG.md", "CONTRIBUTING.md", "Dockerfile", "LICENSE", "Makefile", "README.md", "SECURITY.md", "go.mod", "go.sum", "layout_test.go",
	}
)

// maxLines bounds a file that is not a test: what is longer is two things.
const maxLines = 400

func TestTheRepositoryKeepsItsLayout(t *testing.T) {
	for _, problem := range check(".", module(t), table, true) {
		t.Error(problem)
	}
}

// check returns what is wrong with the tree below root.
func check(root, module string, table map[string]rules, whole bool) []string {
	var problems []string
	report := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	found := map[string]*pkg{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if d.IsDir() {
			hidden := strings.HasPrefix(d.Name(), ".") && file != root
			made := name == "bin" || name == "dist" // by make, and in no commit
			if hidden || made || d.Name() == "testdata" || d.Name() == "node_modules" || d.Name() == "peers" {
				return fs.SkipDir
			}
			if name != "." && !strings.Contains(name, "/") && !slices.Contains(topFolders, name) {
				report("the folder %s stands at the top", name)
			}
			return nil
		}
		if !strings.Contains(name, "/") && !strings.HasPrefix(name, ".") && !slices.Contains(topFiles, name) {
			report("the file %s stands at the top", name)
		}
		if strings.HasSuffix(name, ".go") && strings.Contains(name, "/") {
			if found[path.Dir(name)] == nil {
				found[path.Dir(name)] = &pkg{}
			}
			return found[path.Dir(name)].read(file, name, report)
		}
		return nil
	})
	if err != nil {
		report("%v", err)
	}
	for name, p := range found {
		r, ok := table[name]
		if !ok {
			report("the package %s is not in the table", name)
			continue
		}
		p.check(name, module, r, report)
	}
	for name := range table {
		if whole && found[name] == nil {
			report("the package %s is in the table and not in the tree", name)
		}
	}
	slices.Sort(problems)
	return problems
}

// pkg is what was seen of a package.
type pkg struct {
	documented bool
	tested     bool
	imports    map[string]string // :: import → file, tests aside
}

func (p *pkg) read(file, name string, report func(string, ...any)) error {
	src, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	tree, err := parser.ParseFile(token.NewFileSet(), file, src, parser.ParseComments)
	if err != nil {
		return err
	}
	if strings.HasSuffix(name, "_test.go") {
		p.tested = true
		return nil
	}
	if p.imports == nil {
		p.imports = map[string]string{}
	}
	p.documented = p.documented || tree.Doc != nil
	for _, spec := range tree.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		p.imports[imported] = name
		if strings.HasPrefix(imported, jwx) && !slices.Contains(jwxFiles, name) {
			report("%s imports jwx", name)
		}
	}
	if callsReveal(tree) && !slices.Contains(reveals, name) {
		report("%s calls Reveal", name)
	}
	lines := 0
	for s := bufio.NewScanner(bytes.NewReader(src)); s.Scan(); {
		lines++
	}
	if lines > maxLines {
		report("%s has %d lines, more than %d", name, lines, maxLines)
	}
	return nil
}

// callsReveal looks for the method in any use, a method value included.
func callsReveal(tree *ast.File) bool {
	calls := false
	ast.Inspect(tree, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Reveal" {
			calls = true
		}
		return true
	})
	return calls
}

func (p *pkg) check(name, module string, r rules, report func(string, ...any)) {
	if !p.documented {
		report("the package %s has no comment", name)
	}
	if !p.tested {
		report("the package %s has no tests", name)
	}
	for imported, file := range p.imports {
		below := func(prefix string) bool { return imported == prefix || strings.HasPrefix(imported, prefix+"/") }
		ours, isOurs := strings.CutPrefix(imported, module+"/")
		switch first, _, _ := strings.Cut(imported, "/"); {
		case isOurs:
			if !slices.Contains(r.ours, ours) {
				report("%s imports %s, an arrow that is not in the table", file, ours)
			}
		case strings.Contains(first, "."):
			if !slices.ContainsFunc(r.others, below) {
				report("%s imports %s, which is not in the table for %s", file, imported, name)
			}
		case slices.Contains(r.not, imported):
			report("%s imports %s, and %s is to be pure", file, imported, name)
		}
	}
}

// The checks themselves are checked: each against a small tree that breaks
// exactly it.
func TestEachRuleOfTheLayoutIsHeld(t *testing.T) {
	small := map[string]rules{"policy": {not: pure}, "broker": {ours: []string{"policy"}}}
	const test = "package x\n"
	for _, tc := range []struct {
		name, want string
		files      map[string]string
	}{
		{"a package that is not in the table", "the package cmd/x is not in the table", map[string]string{"cmd/x/x.go": "// Package x.\npackage x\n"}},
		{"an arrow that is not in the table", "an arrow that is not in the table", map[string]string{"policy/p.go": "// Package p.\npackage p\nimport _ \"credential-broker/broker\"\n"}},
		{"a module that is not in the table", "which is not in the table for policy", map[string]string{"policy/p.go": "// Package p.\npackage p\nimport _ \"example.com/x\"\n"}},
		{"a pure package with the network", "is to be pure", map[string]string{"policy/p.go": "// Package p.\npackage p\nimport _ \"net/http\"\n"}},
		{"a secret that is revealed", "calls Reveal", map[string]string{"policy/p.go": "// Package p.\npackage p\nvar f = s.Reveal\n"}},
		{"jwx in a third file", "imports jwx", map[string]string{"policy/p.go": "// Package p.\npackage p\nimport _ \"" + jwx + "/jwt\"\n"}},
		{"a folder at the top", "the folder internal stands at the top", map[string]string{"internal/x.txt": ""}},
		{"a file at the top", "the file notes.txt stands at the top", map[string]string{"notes.txt": ""}},
		{"no package comment", "has no comment", map[string]string{"policy/p.go": "package p\n"}},
		{"no tests", "the package broker has no tests", map[string]string{"broker/b.go": "// Package b.\npackage b\n"}},
		{"a file that is too long", "lines, more than", map[string]string{"policy/p.go": "// Package p.\npackage p\n" + strings.Repeat("// x\n", maxLines)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := t.TempDir()
			tc.files["policy/p_test.go"] = test
			for name, text := range tc.files {
				file := filepath.Join(root, filepath.FromSlash(name))
				if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			problems := check(root, module(t), small, false)
			if !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, tc.want) }) {
				t.Errorf("%q is not among %q", tc.want, problems)
			}
		})
	}
	if problems := check(t.TempDir(), module(t), small, true); len(problems) != 2 {
		t.Errorf("packages that are missing: %q", problems)
	}
}

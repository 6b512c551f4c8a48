package serve_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"credential-broker/broker"
	"credential-broker/broker/auditlog"
	"credential-broker/broker/credcache"
	"credential-broker/broker/escape"
	"credential-broker/broker/sharedcache"
	"credential-broker/broker/webidentity"
	"credential-broker/cmd/credential-broker/agent"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/cmd/credential-broker/doctor"
	"credential-broker/cmd/credential-broker/explain"
	"credential-broker/cmd/credential-broker/probe"
	"credential-broker/cmd/credential-broker/serve"
)

// source is the type declarations below a folder: :: "broker.Order" by the folder
// and the name → what it is.
type source map[string]declared

type declared struct {
	folder  string
	imports map[string]string // :: name in the file → import path
	expr    ast.Expr
}

// readTypes parses what is no test, and nothing that is for tests or the demo.
func readTypes(root string) (source, error) {
	all := source{}
	return all, filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains([]string{"testdata", "node_modules", "brokertest", "demo"}, d.Name()) || strings.HasPrefix(d.Name(), ".") && file != root {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		folder, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		folder = filepath.ToSlash(folder)
		imports := map[string]string{}
		for _, i := range tree.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			if i.Name != nil {
				imports[i.Name.Name] = name
			} else {
				imports[path.Base(name)] = name
			}
		}
		for _, decl := range tree.Decls {
			if g, ok := decl.(*ast.GenDecl); ok && g.Tok == token.TYPE {
				for _, s := range g.Specs {
					s := s.(*ast.TypeSpec)
					all[folder+"."+s.Name.Name] = declared{folder, imports, s.Type}
				}
			}
		}
		return nil
	})
}

// holders are the exported types that hold a secret, at whatever depth: a Secret or
// a key that signs. A library's own types and what stands behind an interface are
// not looked into.
func (s source) holders() []string {
	var names []string
	for name := range s {
		if ast.IsExported(name[strings.LastIndex(name, ".")+1:]) && !strings.HasPrefix(name, "cmd/credential-broker.") && s.holds(name, map[string]bool{}) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (s source) holds(name string, seen map[string]bool) bool {
	if name == "broker.Secret" {
		return true
	}
	d, ok := s[name]
	if !ok || seen[name] {
		return false
	}
	seen[name] = true
	found := false
	var look func(ast.Node) bool
	look = func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncType, *ast.InterfaceType:
			return false
		case *ast.Field: // not its name
			ast.Inspect(n.Type, look)
			return false
		case *ast.SelectorExpr:
			from, _ := n.X.(*ast.Ident)
			if from == nil {
				return false
			}
			imported := d.imports[from.Name]
			_, ours, _ := strings.Cut(imported, "/")
			found = found || imported == "crypto" && n.Sel.Name == "Signer" || s.holds(ours+"."+n.Sel.Name, seen)
			return false
		case *ast.Ident:
			found = found || s.holds(d.folder+"."+n.Name, seen)
		}
		return true
	}
	ast.Inspect(d.expr, look)
	return found
}

// secretName is how the field of a secret is called, and what looks like it.
var secretName = regexp.MustCompile(`(?i)secret|token|password|private|keys?\z`)

// texts are the fields of exported structs that are called like a secret, and are
// text all the same.
func (s source) texts() []string {
	var names []string
	for name, d := range s {
		structure, ok := d.expr.(*ast.StructType)
		if !ok || !ast.IsExported(name[strings.LastIndex(name, ".")+1:]) {
			continue
		}
		for _, f := range structure.Fields.List {
			of := f.Type
			for list, ok := of.(*ast.ArrayType); ok; list, ok = of.(*ast.ArrayType) {
				of = list.Elt
			}
			kind, _ := of.(*ast.Ident)
			for _, n := range f.Names {
				if kind != nil && (kind.Name == "string" || kind.Name == "byte") && secretName.MatchString(n.Name) {
					names = append(names, name+"."+n.Name)
				}
			}
		}
	}
	slices.Sort(names)
	return names
}

// held are the holders, to make values of.
func held() map[string]reflect.Type {
	return map[string]reflect.Type{
		"broker.Assertion":                         reflect.TypeFor[broker.Assertion](),
		"broker.Credentials":                       reflect.TypeFor[broker.Credentials](),
		"broker.Order":                             reflect.TypeFor[broker.Order](),
		"broker.Explanation":                       reflect.TypeFor[broker.Explanation](),
		"broker.Kept":                              reflect.TypeFor[broker.Kept](),
		"broker.Request":                           reflect.TypeFor[broker.Request](),
		"broker.Secret":                            reflect.TypeFor[broker.Secret](),
		"broker/auditlog.Config":                   reflect.TypeFor[auditlog.Config](),
		"broker/auditlog.Log":                      reflect.TypeFor[auditlog.Log](),
		"broker/auditlog.Pseudonyms":               reflect.TypeFor[auditlog.Pseudonyms](),
		"broker/credcache.Cache":                   reflect.TypeFor[credcache.Cache](),
		"broker/escape.Session":                    reflect.TypeFor[escape.Session](),
		"broker/escape.Target":                     reflect.TypeFor[escape.Target](),
		"broker/webidentity.Config":                reflect.TypeFor[webidentity.Config](),
		"broker/webidentity.Minter":                reflect.TypeFor[webidentity.Minter](),
		"cmd/credential-broker/agent.Agent":        reflect.TypeFor[agent.Agent](),
		"cmd/credential-broker/agent.Client":       reflect.TypeFor[agent.Client](),
		"cmd/credential-broker/agent.Credentials":  reflect.TypeFor[agent.Credentials](),
		"cmd/credential-broker/agent.Handler":      reflect.TypeFor[agent.Handler](),
		"cmd/credential-broker/agent.Options":      reflect.TypeFor[agent.Options](),
		"cmd/credential-broker/doctor.Options":     reflect.TypeFor[doctor.Options](),
		"cmd/credential-broker/explain.Request":    reflect.TypeFor[explain.Request](),
		"cmd/credential-broker/probe.Options":      reflect.TypeFor[probe.Options](),
		"cmd/credential-broker/probe.Prober":       reflect.TypeFor[probe.Prober](),
		"cmd/credential-broker/serve.Service":      reflect.TypeFor[serve.Service](),
		"broker/sharedcache.Config":                reflect.TypeFor[sharedcache.Config](),
		"broker/sharedcache.Issuer":                reflect.TypeFor[sharedcache.Issuer](),
		"broker/sharedcache.Store":                 reflect.TypeFor[sharedcache.Store](),
		"cmd/credential-broker/config.Config":      reflect.TypeFor[config.Config](),
		"cmd/credential-broker/config.SharedCache": reflect.TypeFor[config.SharedCache](),
		"cmd/credential-broker/explain.Engine":     reflect.TypeFor[explain.Engine](),
	}
}

// mark stands for every Secret in a value that is filled.
const mark = "mark-of-a-secret-a77c1e5b90d34f"

// fill gives everything in a value that can hold a secret one, unexported fields
// and what is behind pointers of our own types included.
func fill(v reflect.Value, key crypto.Signer, depth int) {
	if !v.CanSet() { // an unexported field
		v = reflect.NewAt(v.Type(), unsafe.Pointer(v.UnsafeAddr())).Elem()
	}
	ours := func(t reflect.Type) bool {
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
			t = t.Elem()
		}
		return t.PkgPath() == "" || strings.HasPrefix(t.PkgPath(), "credential-broker/")
	}
	switch {
	case depth == 0:
	case v.Type() == reflect.TypeFor[broker.Secret]():
		v.Set(reflect.ValueOf(broker.NewSecret(mark)))
	case v.Type() == reflect.TypeFor[crypto.Signer]():
		v.Set(reflect.ValueOf(key))
	case !ours(v.Type()):
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), key, depth-1)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), key, depth-1)
		}
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), key, depth-1)
	case v.Kind() == reflect.Map:
		k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(k, key, depth-1)
		fill(e, key, depth-1)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(k, e)
	}
}

// printed is a value in every way that somebody could print it.
func printed(t testing.TB, value any) string {
	t.Helper()
	var out bytes.Buffer
	loggers := []*slog.Logger{slog.New(slog.NewJSONHandler(&out, nil)), slog.New(slog.NewTextHandler(&out, nil))}
	type wrapped struct{ within any }
	for _, v := range []any{value, wrapped{value}, []any{value}, map[string]any{"k": value}, fmt.Errorf("of %v", value)} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%q", "%s", "%x", "%X", "%d"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		data, err := json.Marshal(v)
		fmt.Fprintf(&out, "%s %v\n", data, err) // of a function there is no JSON
		for _, log := range loggers {
			log.LogAttrs(t.Context(), slog.LevelInfo, "m", slog.Any("v", v), slog.Group("g", slog.Any("v", v)))
			log.With(slog.Any("v", v)).InfoContext(t.Context(), "m")
		}
	}
	return out.String()
}

// Threat case CC25: every exported type that holds a secret, found in the source, so
// that none is forgotten, and printed with everything in it filled.
func TestNoTypeShowsTheSecretThatItHolds(t *testing.T) {
	types, err := readTypes("../../..")
	if err != nil {
		t.Fatal(err)
	}
	known := held()
	if names := types.holders(); !slices.Equal(names, slices.Sorted(maps.Keys(known))) {
		t.Errorf("the types that hold a secret are\n%s\nadd to held what is new; it has\n%s", strings.Join(names, "\n"), strings.Join(slices.Sorted(maps.Keys(known)), "\n"))
	}
	harmless := []string{ // digests, names of objects, paths and addresses
		"broker.Record.TokenSHA256", "broker/escape.Victim.Key",
		"cmd/credential-broker/agent.Client.SecretFile", "cmd/credential-broker/agent.Client.TokenURL",
		"cmd/credential-broker/agent.Options.SecretFile", "cmd/credential-broker/agent.Options.TokenFile", "cmd/credential-broker/agent.Options.TokenURL",
		"cmd/credential-broker/config.Audit.HashKey", "cmd/credential-broker/config.WebIdentity.SigningKeys", "cmd/credential-broker/doctor.ObjectName.Key",
		"cmd/credential-broker/probe.Options.ForeignKey", "cmd/credential-broker/probe.Options.ForeignTokenFile", "cmd/credential-broker/probe.Options.OwnerTokenFile",
	}
	if names := types.texts(); !slices.Equal(names, harmless) {
		t.Errorf("the fields that are called like a secret and are text are\n%s", strings.Join(names, "\n"))
	}
	file := filepath.Join(t.TempDir(), "key.pem")
	signingKey(t, file)
	var c canaries
	c.add("a Secret", []byte(mark))
	key := hide(t, &c, file)
	for name, typ := range known {
		t.Run(name, func(t *testing.T) {
			v := reflect.New(typ)
			fill(v.Elem(), key, 12)
			for _, value := range []any{v.Elem().Interface(), v.Interface()} {
				text := printed(t, value)
				c.unseen(t, fmt.Sprintf("%T", value), text)
			}
		})
	}
	// Whoever looks must be able to see.
	type careless struct{ Token string }
	for _, value := range []any{careless{Token: mark}, &careless{Token: mark}, []byte(mark), key.(*ecdsa.PrivateKey).D, *key.(*ecdsa.PrivateKey)} { //nolint:staticcheck // as it would be printed
		if name, _ := c.in(printed(t, value)); name == "" {
			t.Errorf("%T is not seen", value)
		}
	}
}

func TestHoldersOfSecretsAreFound(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"broker/b.go": "package broker\ntype Secret struct{ p *string }\ntype Order struct{ Token Secret }\ntype Scope struct{ Token string }\n",
		"a/a.go": `package a
import ("crypto"; "sync/atomic"; b2 "m/broker")
type Field struct { A int; Token b2.Secret }
type Unexported struct { token b2.Secret }
type Pointer struct { Order *b2.Order }
type Deep struct { x map[string][]inner }
type inner struct { b2.Order }
type Embedded struct { *inner }
type List []b2.Secret
type Key map[b2.Secret]int
type Generic struct { p atomic.Pointer[inner] }
type Signs struct { key crypto.Signer }
type Loop struct { next *Loop; o b2.Order }
type NoFunc struct { f func(b2.Secret) }
type NoPort struct { p interface{ Do(b2.Secret) } }
type NoName struct { Secret string; Order b2.Scope }
type unexported struct { token b2.Secret }
`,
		"a/a_test.go": "package a\ntype InTest struct{ token Field }\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	types, err := readTypes(root)
	if err != nil {
		t.Fatal(err)
	}
	if got := types.texts(); !slices.Equal(got, []string{"a.NoName.Secret", "broker.Scope.Token"}) {
		t.Errorf("texts: %q", got)
	}
	want := strings.Fields("a.Deep a.Embedded a.Field a.Generic a.Key a.List a.Loop a.Pointer a.Signs a.Unexported broker.Order broker.Secret")
	if got := types.holders(); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

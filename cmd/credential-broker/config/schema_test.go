package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"credential-broker/cmd/credential-broker/config"
)

// compiled is the schema as a validator of somebody else's understands it.
func compiled(t testing.TB) *jsonschema.Schema {
	t.Helper()
	data, err := config.Schema()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	if err := c.AddResource("config.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("config.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fits holds a YAML text against the schema, as an editor does.
func fits(s *jsonschema.Schema, text string) error {
	var tree any
	if err := yaml.Unmarshal([]byte(text), &tree); err != nil {
		return err
	}
	return fitsTree(s, tree)
}

func fitsTree(s *jsonschema.Schema, tree any) error {
	data, err := json.Marshal(tree)
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return err
	}
	return s.Validate(value)
}

// entry is what the schema says of one key.
type entry struct {
	Type        any
	Description string
	Default     any
	Required    bool
}

// entries returns the schema's keys in the notation of Keys.
func entries(t testing.TB) map[string]entry {
	t.Helper()
	data, err := config.Schema()
	if err != nil {
		t.Fatal(err)
	}
	var root map[string]any
	if err := json.Unmarshal(data, &root); err != nil {
		t.Fatal(err)
	}
	if root["$schema"] != "https://json-schema.org/draft/2020-12/schema" {
		t.Errorf("it is of %v", root["$schema"])
	}
	all := map[string]entry{}
	var walk func(prefix string, s map[string]any)
	walk = func(prefix string, s map[string]any) {
		required, _ := s["required"].([]any)
		properties, _ := s["properties"].(map[string]any)
		if properties != nil && s["additionalProperties"] != false {
			t.Errorf("%q lets unknown keys pass", prefix)
		}
		for name, value := range properties {
			v := value.(map[string]any)
			description, _ := v["description"].(string)
			all[prefix+name] = entry{Type: v["type"], Description: description, Default: v["default"], Required: slices.Contains(required, any(name))}
			walk(prefix+name+".", v)
			if items, ok := v["items"].(map[string]any); ok {
				walk(prefix+name+"[].", items)
			}
		}
	}
	walk("", root)
	return all
}

func TestTheSchemaHasEachKeyAndNoOther(t *testing.T) {
	got := entries(t)
	for _, k := range config.Keys() {
		e, ok := got[k.Path]
		if !ok {
			t.Errorf("%s is not in the schema", k.Path)
			continue
		}
		delete(got, k.Path)
		if e.Description != k.Doc || e.Description == "" && k.Type != "mapping" {
			t.Errorf("%s: described as %q", k.Path, e.Description)
		}
		if e.Required != (k.Default == config.Required) {
			t.Errorf("%s: required is %v", k.Path, e.Required)
		}
		var want string
		switch d := e.Default.(type) {
		case nil:
		case []any:
			want = fmt.Sprint(d...)
		default:
			want = fmt.Sprint(d)
		}
		if k.Type == "number" {
			want = fmt.Sprintf("%.0f", e.Default) // not 1e+05
		}
		if want != strings.Replace(k.Default, config.Required, "", 1) {
			t.Errorf("%s: the default is %q, and %q in the table", k.Path, want, k.Default)
		}
	}
	for path := range got {
		t.Errorf("%s is in the schema, and no key", path)
	}
}

// What an absent key means is what its default in the schema says: written down, it
// gives the same configuration.
func TestTheSchemasDefaultsAreTheReadersOwn(t *testing.T) {
	tree := decode(t, good)
	for path, e := range entries(t) {
		if e.Default != nil {
			set(tree, strings.ReplaceAll(path, "[]", ".0"), e.Default)
		}
	}
	text := encode(t, tree)
	if !strings.Contains(text, "1800ms") || !strings.Contains(text, "per_tenant_per_minute: 600") || !strings.Contains(text, "RS256") {
		t.Fatalf("the defaults are not in it:\n%s", text)
	}
	want, err := parse(good, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := parse(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	want.Revision, got.Revision = "", "" // it is of how a list is written, too
	if diff := cmp.Diff(fmt.Sprintf("%+v", want), fmt.Sprintf("%+v", got)); diff != "" {
		t.Error(diff)
	}
	if err := fits(compiled(t), text); err != nil {
		t.Error(err)
	}
}

// Every configuration that the repository shows is one for the schema too; those
// that are broken in their form are refused.
func TestEveryExampleFitsTheSchema(t *testing.T) {
	s := compiled(t)
	seen := 0
	try := func(name, text string) {
		t.Run(name, func(t *testing.T) {
			var tree map[string]any
			if err := yaml.Unmarshal([]byte(text), &tree); err != nil {
				t.Fatal(err)
			}
			if inner, ok := tree["config"].(map[string]any); ok { // the chart's values: it adds the keys itself
				tree = inner
				tree["web_identity"].(map[string]any)["signing_keys"] = "/run/secrets/web-identity.pem"
			}
			if tree["sts"] == nil { // a piece of one
				whole := decode(t, good)
				for i, g := range tree["grants"].([]any) {
					g := g.(map[string]any)
					maps.Copy(g, filterOut(whole["grants"].([]any)[0].(map[string]any), g))
					tree["grants"].([]any)[i] = g
				}
				maps.Copy(tree, filterOut(whole, tree))
			}
			seen++
			err := fitsTree(s, tree)
			if broken := strings.Contains(name, "broken"); (err != nil) != broken {
				t.Errorf("broken is %v: %v", broken, err)
			}
		})
	}
	fences := regexp.MustCompile("(?s)```yaml\n(.*?)```")
	root := "../../.."
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); name == "node_modules" || path != root && strings.HasPrefix(name, ".") {
				return fs.SkipDir
			}
			return nil
		}
		ext := filepath.Ext(path)
		if ext != ".md" && ext != ".yaml" && ext != ".txtar" {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(path)
		shows := func(text string) bool { return strings.Contains(text, "issuers:") && strings.Contains(text, "grants:") }
		switch {
		case strings.HasSuffix(name, "openapi.yaml") || strings.Contains(name, "/templates/"):
		case ext == ".yaml" && shows(string(data)):
			try(name, string(data))
		case ext == ".md":
			for _, m := range fences.FindAllStringSubmatch(string(data), -1) {
				if shows(m[1]) {
					try(name, m[1])
				}
			}
		case ext == ".txtar":
			for _, f := range txtar.Parse(data).Files {
				if strings.HasSuffix(f.Name, ".yaml") && shows(string(f.Data)) {
					try(name+":"+f.Name, string(f.Data))
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 14 {
		t.Errorf("only %d were found", seen)
	}
}

// filterOut returns what of m is not in other.
func filterOut(m, other map[string]any) map[string]any {
	rest := maps.Clone(m)
	maps.DeleteFunc(rest, func(k string, _ any) bool { _, there := other[k]; return there })
	return rest
}

// Of what the reader refuses for its form, each kind is refused by the schema too:
// it is not one that takes everything.
func TestTheSchemaRefusesWrongForms(t *testing.T) {
	s := compiled(t)
	if err := fits(s, good); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"nothing":                    "{}",
		"an unknown key":             good + "lisen: x\n",
		"an unknown key inside":      replace(t, "sts: {", "sts: {x: 1, "),
		"an unknown key of a grant":  replace(t, "    tenant: {", "    duraton: 1h\n    tenant: {"),
		"an unknown key of a tenant": replace(t, "{claim: org_id}", "{claim: org_id, patern: a}"),
		"an unknown key of a match":  replace(t, "{permissions:", "{permision: [a], permissions:"),
		"no region":                  replace(t, "sts: {region: ap-northeast-1}", "sts: {}"),
		"a wrong region":             replace(t, "sts: {region: ap-northeast-1}", "sts: {region: tokyo}"),
		"a number for text":          replace(t, "name: uploads", "name: 12"),
		"a name with a blank":        replace(t, "name: uploads", "name: up loads"),
		"a plain issuer":             replace(t, "https://acme.eu.auth0.com/", "acme.eu.auth0.com"),
		"no audience":                replace(t, "[https://uploads.acme.example]", "[]"),
		"an empty audience":          replace(t, "[https://uploads.acme.example]", `[""]`),
		"an audience twice":          replace(t, "[https://uploads.acme.example]", "[a, a]"),
		"an unknown mode":            replace(t, "mode: minted", "mode: both"),
		"minted without a key":       replace(t, "  signing_keys: [/run/secrets/web-identity.pem]\n", ""),
		"an unknown right":           replace(t, "[list, read]", "[list, fly]"),
		"a right twice":              replace(t, "[list, read]", "[list, list]"),
		"no rights":                  replace(t, "[list, read]", "[]"),
		"a prefix without a slash":   replace(t, "tenants/{tenant}/", "tenants/{tenant}"),
		"a prefix in a segment":      replace(t, "tenants/{tenant}/", "tenants-{tenant}/"),
		"a bucket in capitals":       replace(t, "bucket: acme-uploads", "bucket: Acme"),
		"a role that is a user":      replace(t, "role/tenant-uploads", "user/alice"),
		"no tenant":                  replace(t, "{claim: org_id}", "{}"),
		"a life of words":            good + "    duration: long\n",
		"an alias for a key":         good + "    kms_key_arn: arn:aws:kms:ap-northeast-1:123456789012:alias/x\n",
		"words for a number":         good + "cache: {entries: many}\n",
		"a limit of nothing":         good + "limits: {sts_per_second: 0}\n",
		"words for a boolean":        good + "admin_pprof: sometimes\n",
		"an address without a port":  good + "listen: localhost\n",
		"any origin":                 good + "cors: {allowed_origins: [\"*\"]}\n",
		"an origin with a path":      good + "cors: {allowed_origins: [\"https://a.example/\"]}\n",
		"a proxy without a mask":     good + "trusted_proxies: [10.0.0.1]\n",
		"an unknown algorithm":       replace(t, "    audiences", "    algorithms: [HS256]\n    audiences"),
		"a hash of what is not":      good + "audit: {hash: [name], hash_key: /k}\n",
		"a claim of a fraction":      replace(t, "level: 3", "level: 3.5"),
		"no permission at all":       replace(t, "[upload:files]", `""`),
	} {
		t.Run(name, func(t *testing.T) {
			if err := fits(s, text); err == nil {
				t.Error("the schema takes it")
			}
			if _, err := parse(text, nil); err == nil {
				t.Error("the reader takes it")
			}
		})
	}
}

// The bounds of numbers are the reader's own: the last that is good and the first
// that is not are the same for both.
func TestTheSchemasBoundsAreTheReadersOwn(t *testing.T) {
	data, err := config.Schema()
	if err != nil {
		t.Fatal(err)
	}
	var root struct {
		Properties map[string]struct {
			Properties map[string]struct{ Minimum, Maximum *int }
		}
	}
	if err := json.Unmarshal(data, &root); err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, k := range config.Keys() {
		if k.Type != "number" {
			continue
		}
		parent, name, _ := strings.Cut(k.Path, ".")
		p := root.Properties[parent].Properties[name]
		if p.Minimum == nil || p.Maximum == nil {
			t.Errorf("%s has no bounds", k.Path)
			continue
		}
		for value, want := range map[int]bool{*p.Minimum: true, *p.Maximum: true, *p.Minimum - 1: false, *p.Maximum + 1: false} {
			tried++
			tree := decode(t, good)
			set(tree, k.Path, value)
			if _, err := parse(encode(t, tree), nil); (err == nil) != want {
				t.Errorf("%s: %d: %v", k.Path, value, err)
			}
		}
	}
	if tried < 28 {
		t.Errorf("%d were tried", tried)
	}
}

func decode(t testing.TB, text string) map[string]any {
	t.Helper()
	var tree map[string]any
	if err := yaml.Unmarshal([]byte(text), &tree); err != nil {
		t.Fatal(err)
	}
	return tree
}

func encode(t interface{ Fatal(...any) }, tree any) string {
	data, err := yaml.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// has reports whether there is a value at a path of Keys.
func has(tree map[string]any, path string) bool {
	var at any = tree
	for part := range strings.SplitSeq(path, ".") {
		name, ofList := strings.CutSuffix(part, "[]")
		here, _ := at.(map[string]any)
		if at = here[name]; ofList {
			list, ok := at.([]any)
			if !ok || len(list) == 0 {
				return false
			}
			at = list[0]
		}
	}
	return at != nil
}

// set puts a value at a path such as "grants.0.duration".
func set(tree map[string]any, path string, value any) {
	var at any = tree
	parts := strings.Split(path, ".")
	for i, part := range parts {
		last := i == len(parts)-1
		switch here := at.(type) {
		case map[string]any:
			if last {
				here[part] = value
				return
			}
			if here[part] == nil {
				here[part] = map[string]any{}
			}
			at = here[part]
		case []any:
			at = here[0] // no list here has more
		}
	}
}

// Whatever is changed in a good configuration: what the reader takes, the schema
// takes. So it never refuses what would have been good.
func TestWhatTheSchemaRefusesTheReaderRefuses(t *testing.T) {
	s := compiled(t)
	full := replace(t, "tenant: {claim: org_id}", "tenant: {claim: org_id, request: false, pattern: \"org_[a-z]+\"}") + `    duration: 90m
    kms_key_arn: ` + keyARN + `
    bind_source_ip: true
listen: ":8080"
admin_listen: "[::1]:9090"
admin_pprof: true
trusted_proxies: [10.0.0.0/8, "::1/128"]
cors: {allowed_origins: ["https://app.acme.example:8443", "http://localhost:3000"]}
cache: {entries: 5}
limits: {token_bytes: 4096, sts_per_second: "7"}
revoked: {subjects: [a], tenants: "b, c"}
audit: {output: /var/log/audit.log, hash: [subject, address], hash_key: /run/secrets/k}
telemetry: {trace_tenant: "true"}
shared_cache: {url: "rediss://user:pass@cache.acme.example:6380/1?addr=b:6380&master_set=m", key_file: /run/secrets/shared, timeout: 20ms}
`
	full = strings.NewReplacer("    audiences:", "    algorithms: [RS256, ES256]\n    clients: [spa]\n    logout_audiences: [spa]\n    jwks_url: https://acme.eu.auth0.com/keys\n    audiences:",
		"  mode: minted\n", "  mode: minted\n  audience: sts.amazonaws.com\n", "sts: {region: ap-northeast-1}", "sts: {region: ap-northeast-1, fallback_regions: [us-west-2], endpoint: \"\", timeout: 1s, max_concurrent: 5}",
		"match: {permissions: [upload:files],", "match: {permissions: [upload:files], scopes: \"a, b\",", "token_bytes: 4096", "token_bytes: 4096, per_subject_per_minute: 5, per_tenant_per_minute: 6, per_address_failures_per_minute: 7").Replace(full)
	tree := decode(t, full)
	for _, k := range config.Keys() { // what is not in it is not changed
		if !has(tree, k.Path) {
			t.Errorf("%s is not tried", k.Path)
		}
	}
	if err := fits(s, full); err != nil {
		t.Fatal(err)
	}
	if _, err := parse(full, nil); err != nil {
		t.Fatal(err)
	}
	values := func() []any {
		return []any{ // each time anew: they are changed
			nil, "", " ", "a", "${X}", "${X:-}", "$${X}", "a,b", "a, a", ",", true, false, "true", "True", "yes", 0, 1, -1, 300, 1 << 40, 1.5, "1", "+5", "007", "1e3",
			[]any{}, []any{"a"}, []any{"a", "a"}, []any{nil}, []any{1}, []any{""}, []any{"list"}, []any{"${X}", "read"}, map[string]any{}, map[string]any{"a": nil}, map[string]any{"a": []any{}},
			"1h", "90m", "+1h", "1h30m", "1.5h", ".5h", "0", "1500ms", "1800000us", "1800000µs", "-1h",
			":1", "a:b", "[::1]:1", "HTTPS://a.example", "https://a.example/?", "https://a.example/#", "https://[::1]", "http://127.0.0.1:1/", "http://localhost", "https://a", "https://a/b/", "https://ä.example", "redis://localhost", "redis://127.0.0.1:1/0", "RedisS://h", "valkeys://u:p@h:1", "valkey://[::1]", "rediss://", "rediss://h?addr=x",
			"0.0.0.0/0", "::/0", "10.0.0.0/8,::1/128", "RS256,ES512", "list,read", "read", "stdout", "subject", "minted", "forwarded", "eu-west-1", "us-gov-west-1", "us-iso-east-1",
			"{tenant}/", "{user}/{tenant}/", "{tenant}-x", "x-{tenant}", "a.b", "a/{tenant}/b=c@d/", "arn:aws:iam::123456789012:role/a/b/c", "arn:aws-cn:iam::123456789012:role/x", keyARN, "org_id", "/a/b", "a|b", "\n", "é",
		}
	}
	refused, taken := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		var tree map[string]any
		if err := yaml.Unmarshal([]byte(full), &tree); err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 2).Draw(t, "changes") {
			change(t, tree, values())
		}
		text := encode(t, tree)
		_, err := parse(text, map[string]string{"X": "x"})
		if err == nil {
			taken++
		}
		if wrong := fits(s, text); wrong != nil {
			if refused++; err == nil {
				t.Fatalf("the reader takes it, and the schema says %v\n%s", wrong, text)
			}
		}
	})
	if refused == 0 || taken == 0 {
		t.Errorf("%d refused by the schema, %d taken by the reader: that proves nothing", refused, taken)
	}
}

// change puts another value somewhere, takes a key out or adds one.
func change(t *rapid.T, tree map[string]any, values []any) {
	var at any = tree
	for {
		var next any
		replace := func(any) {}
		switch here := at.(type) {
		case map[string]any:
			names := slices.Sorted(maps.Keys(here))
			if len(names) == 0 || rapid.IntRange(0, 20).Draw(t, "add") == 0 {
				here[rapid.SampledFrom([]string{"x", "claim", "issuer", "scopes", "timeout", "endpoint"}).Draw(t, "name")] = rapid.SampledFrom(values).Draw(t, "value")
				return
			}
			name := rapid.SampledFrom(names).Draw(t, "key")
			if rapid.IntRange(0, 20).Draw(t, "drop") == 0 {
				delete(here, name)
				return
			}
			next, replace = here[name], func(v any) { here[name] = v }
		case []any:
			if len(here) == 0 {
				return
			}
			i := rapid.IntRange(0, len(here)-1).Draw(t, "index")
			next, replace = here[i], func(v any) { here[i] = v }
		}
		_, inside := next.(map[string]any)
		if list, ok := next.([]any); ok {
			inside = len(list) > 0
		}
		if !inside || rapid.IntRange(0, 8).Draw(t, "here") == 0 {
			replace(rapid.SampledFrom(values).Draw(t, "value"))
			return
		}
		at = next
	}
}

// The value of the schema's own "default" of a list is a list, as it would stand in
// the file.
func TestTheDefaultOfAListIsAList(t *testing.T) {
	if diff := cmp.Diff([]any{"RS256"}, entries(t)["issuers[].algorithms"].Default); diff != "" {
		t.Error(diff)
	}
}

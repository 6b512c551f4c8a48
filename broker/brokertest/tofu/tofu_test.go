package tofu_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"credential-broker/broker/brokertest/tofu"
)

var update = flag.Bool("update", false, "rewrite the tables of the modules' READMEs")

// modules are the folders of deploy/terraform; the example has no tests of its own.
func modules() []string { return []string{"aws", "auth0", "ecs", "examples/complete"} }

const deploy = "../../../deploy"

func TestTheModulesAreFormattedAndValid(t *testing.T) {
	w := tofu.New(t, "terraform")
	if out, err := w.Run(t.Context(), "fmt", "-check", "-recursive", "-diff"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for _, module := range modules() {
		t.Run(module, func(t *testing.T) {
			w := tofu.New(t, "terraform/"+module)
			if _, err := w.Run(t.Context(), "get"); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Run(t.Context(), "validate", "-no-color"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTheModulesPassTheirOwnTests(t *testing.T) {
	for _, module := range modules()[:3] {
		t.Run(module, func(t *testing.T) {
			out, err := tofu.New(t, "terraform/"+module).Run(t.Context(), "test", "-no-color")
			if err != nil {
				t.Fatal(err)
			}
			if !regexp.MustCompile(`Success! [1-9][0-9]* passed, 0 failed`).MatchString(out) {
				t.Error(out)
			}
		})
	}
}

// The stub is to see what the providers would: otherwise the tests above see
// nothing.
func TestTheSchemasNoticeMistakes(t *testing.T) {
	for name, tc := range map[string]struct{ module, file, old, replaced, want string }{
		"an argument that is misspelt":   {"aws", "buckets.tf", "expose_headers ", "expose_header ", `An argument named "expose_header" is not expected here`},
		"an argument that is missing":    {"aws", "main.tf", "  assume_role_policy   = local.trust_policies[each.key]\n", "", `The argument "assume_role_policy" is required`},
		"a block that there is not":      {"auth0", "main.tf", "  refresh_token {", "  refresh_tokens {", `Blocks of type "refresh_tokens" are not expected here`},
		"a type that does not fit":       {"ecs", "main.tf", "deployment_maximum_percent         = 200", `deployment_maximum_percent         = ["x"]`, "number required"},
		"an attribute that there is not": {"ecs", "outputs.tf", "aws_lb.this.dns_name", "aws_lb.this.name_of_dns", "Unsupported attribute"},
	} {
		t.Run(name, func(t *testing.T) {
			w := tofu.New(t, "terraform/"+tc.module)
			file := filepath.Join(w.Dir, tc.file)
			text := read(t, file)
			if !strings.Contains(text, tc.old) {
				t.Fatalf("%s: no %q", tc.file, tc.old)
			}
			if err := os.WriteFile(file, []byte(strings.Replace(text, tc.old, tc.replaced, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := w.Run(t.Context(), "validate", "-no-color")
			if err == nil || !strings.Contains(strings.Join(strings.Fields(err.Error()), " "), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}

// The version stands in three places, so that a machine has one for each.
func TestTheVersionIsThatOfTheModule(t *testing.T) {
	v := regexp.MustCompile(`github.com/opentofu/opentofu (v[0-9.]+)`).FindStringSubmatch(read(t, "../peers/tofu/go.mod"))
	if v == nil || !strings.Contains(read(t, "../../../Makefile"), "/tofu-"+v[1]+"\n") || !strings.Contains(read(t, "tofu.go"), `"`+v[1]+`"`) {
		t.Errorf("go.mod has %v, and the Makefile or tofu.go another", v)
	}
}

func TestVariablesAreTheConfigurations(t *testing.T) {
	got, err := tofu.Variables("web_identity: {mode: minted, issuer: https://b.example, signing_keys: [k]}\nissuers: [{url: u}]\n" +
		"grants: [{name: a, role_arn: \"arn:aws:iam::1:role/team/r\", region: r, prefix: p}]")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"web_identity": map[string]any{"mode": "minted", "issuer": "https://b.example"}, "issuers": []map[string]any{{"url": "u"}},
		"grants": []map[string]any{{"name": "a", "role": "team/r", "prefix": "p"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := tofu.Variables("grants: [{name: a}]"); err == nil {
		t.Error("a grant without a role is taken")
	}
	if _, err := tofu.Variables("grants: 7"); err == nil {
		t.Error("a number is taken for the grants")
	}
}

// The Action is JavaScript, and so are its tests.
func TestTheActionPassesItsTests(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("node is not here, which the Action of deploy/auth0 needs")
		}
		t.Skip("node is not here: the Action of deploy/auth0 is not tried")
	}
	cmd := exec.CommandContext(t.Context(), node, "--test", "tenant.test.mjs")
	cmd.Dir = filepath.Join(deploy, "auth0")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "# fail 0") && !strings.Contains(string(out), "fail 0") {
		t.Errorf("%v\n%s", err, out)
	}
}

// The tables of a module's README are what its files say.
func TestTheREADMEsHaveTheModulesTables(t *testing.T) {
	for _, module := range modules()[:3] {
		dir := filepath.Join(deploy, "terraform", module)
		file := filepath.Join(dir, "README.md")
		text := read(t, file)
		begin, end := "<!-- tables:begin -->\n", "<!-- tables:end -->"
		head, rest, ok1 := strings.Cut(text, begin)
		_, tail, ok2 := strings.Cut(rest, end)
		if !ok1 || !ok2 {
			t.Fatalf("%s has no markers", file)
		}
		want := head + begin + inputs(t, read(t, filepath.Join(dir, "variables.tf"))) + "\n" + outputs(t, read(t, filepath.Join(dir, "outputs.tf"))) + end + tail
		if *update {
			if err := os.WriteFile(file, []byte(want), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if diff := cmp.Diff(want, text); diff != "" {
			t.Errorf("%s: go test ./broker/brokertest/tofu -update (-want +got)\n%s", file, diff)
		}
	}
}

var (
	blocks      = regexp.MustCompile(`(?ms)^(?:variable|output) "([^"]+)" \{\n(.*?)^\}$`)
	description = regexp.MustCompile(`(?m)^  description = "(.*)"$`)
	fallback    = regexp.MustCompile(`(?m)^  default +=`)
	fallbackIs  = regexp.MustCompile(`(?m)^  default +=[ ]+(.*)$`)
)

// inputs reads a variables.tf, which `tofu fmt` has put in form.
func inputs(t *testing.T, text string) string {
	t.Helper()
	out := "| input | what | default |\n|---|---|---|\n"
	for _, m := range blocks.FindAllStringSubmatch(text, -1) {
		value := "**required**"
		if fallback.MatchString(m[2]) {
			value = "`" + fallbackIs.FindStringSubmatch(m[2])[1] + "`"
		}
		out += fmt.Sprintf("| `%s` | %s | %s |\n", m[1], described(t, m), value)
	}
	return out
}

func outputs(t *testing.T, text string) string {
	t.Helper()
	out := "| output | what |\n|---|---|\n"
	for _, m := range blocks.FindAllStringSubmatch(text, -1) {
		out += fmt.Sprintf("| `%s` | %s |\n", m[1], described(t, m))
	}
	return out
}

func described(t *testing.T, m []string) string {
	t.Helper()
	d := description.FindStringSubmatch(m[2])
	if d == nil {
		t.Fatalf("%s has no description", m[1])
	}
	return d[1]
}

func read(t testing.TB, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

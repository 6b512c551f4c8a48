package chart_test

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/yannh/kubeconform/pkg/validator"
)

// types are the definitions of Kubernetes' own OpenAPI document.
type types map[string]map[string]any

// openAPI reads the document out of the module of Kubernetes, of the version that
// go.mod has of its API: k8s.io/api v0.37.2 is of Kubernetes v1.37.2.
func openAPI(t *testing.T) types {
	t.Helper()
	module, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^\sk8s\.io/api v0\.(\S+)$`).FindSubmatch(module)
	if version == nil {
		t.Fatal("go.mod has no k8s.io/api")
	}
	download := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", "k8s.io/kubernetes@v1."+string(version[1]))
	download.Dir = t.TempDir() // it is no dependency: only its files are read
	out, err := download.Output()
	var found struct{ Dir string }
	if jsonErr := json.Unmarshal(out, &found); err != nil || jsonErr != nil {
		const missing = "the module k8s.io/kubernetes cannot be had: the chart is not held against Kubernetes' schemas"
		if os.Getenv("CI") == "true" {
			t.Fatal(missing, err, jsonErr)
		}
		t.Skip(missing)
	}
	text, err := os.ReadFile(filepath.Join(found.Dir, "api", "openapi-spec", "swagger.json"))
	if err != nil {
		t.Fatal(err)
	}
	var document struct{ Definitions types }
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	for name, d := range document.Definitions {
		if d["properties"] != nil { // what is not in it, is not
			d["additionalProperties"] = false
		}
		if strings.HasSuffix(name, ".Quantity") || strings.HasSuffix(name, ".IntOrString") {
			d["type"] = []string{"string", "number"}
			delete(d, "format")
		}
	}
	return document.Definitions
}

// reached adds what a part of a schema refers to.
func (all types) reached(part any, into map[string]any) {
	switch p := part.(type) {
	case map[string]any:
		if to, ok := p["$ref"].(string); ok {
			name := strings.TrimPrefix(to, "#/definitions/")
			if _, seen := into[name]; !seen {
				into[name] = all[name]
				all.reached(all[name], into)
			}
		}
		for _, v := range p {
			all.reached(v, into)
		}
	case []any:
		for _, v := range p {
			all.reached(v, into)
		}
	}
}

// write writes the schema of each kind to where kubeconform looks for it.
func (all types) write(t *testing.T, folder string) {
	t.Helper()
	for name, d := range all {
		kinds, _ := d["x-kubernetes-group-version-kind"].([]any)
		if len(kinds) != 1 {
			continue // of many groups, such as DeleteOptions
		}
		kind := kinds[0].(map[string]any)
		group, _, _ := strings.Cut(kind["group"].(string), ".")
		file := strings.ToLower(strings.Join(strings.Fields(fmt.Sprintf("%s %s %s", kind["kind"], group, kind["version"])), "-")) + ".json"
		definitions := map[string]any{name: d}
		all.reached(d, definitions)
		schema, err := json.Marshal(map[string]any{
			"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#/definitions/" + name, "definitions": definitions,
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, file), schema, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// What the decoder does not look at, Kubernetes' own schemas do: a field that must be
// there. Of kinds that are not Kubernetes' own there are none; the decoder has them.
func TestTheChartFitsKubernetesSchemas(t *testing.T) {
	need(t, "HELM")
	folder := t.TempDir()
	openAPI(t).write(t, folder)
	v, err := validator.New([]string{folder + "/{{ .ResourceKind }}{{ .KindSuffix }}.json"}, validator.Opts{
		Strict: true, SkipKinds: map[string]struct{}{"HTTPRoute": {}, "ServiceMonitor": {}, "PrometheusRule": {}},
	})
	if err != nil {
		t.Fatal(err)
	}
	problems := func(text string) (all []string, valid int) {
		for _, result := range v.Validate("chart.yaml", io.NopCloser(strings.NewReader(text))) {
			switch result.Status {
			case validator.Valid:
				valid++
			case validator.Skipped, validator.Empty:
			default:
				all = append(all, fmt.Sprint(result.Err))
			}
		}
		return all, valid
	}
	var whole string
	for _, m := range matrix {
		out, err := helm(t, append([]string{"template", "broker", chart, "--namespace", "uploads", "--kube-version", "1.30.0"}, files(t, base, m.values)...)...)
		if err != nil {
			t.Fatal(err)
		}
		whole = out
		if found, valid := problems(out); len(found) > 0 || valid < 5 {
			t.Errorf("%s: %d are valid, and %s", m.name, valid, strings.Join(found, "\n"))
		}
	}
	// The schemas notice what they are there for.
	for old, replaced := range map[string]string{
		"\n  selector:\n":        "\n  selektor:\n",
		"        - name: broker": "        - nam: broker",
		"replicas: 2":            "replicas: two",
		"      securityContext:": "      securityContekst:",
	} {
		if !strings.Contains(whole, old) {
			t.Errorf("there is no %q in\n%s", old, whole)
		}
		if found, _ := problems(strings.Replace(whole, old, replaced, 1)); len(found) == 0 {
			t.Errorf("%q is not noticed", replaced)
		}
	}
}

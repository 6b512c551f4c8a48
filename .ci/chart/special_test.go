package chart_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// With reload: restart a change of the configuration or of the chart's own key is a
// change of the pods; with watch it is not.
func TestAChangeReplacesThePodsIfThatIsWanted(t *testing.T) {
	annotations := func(values ...string) string {
		return fmt.Sprint(deployment(t, render(t, append([]string{base}, values...)...)).Spec.Template.Annotations)
	}
	const other = "config: {revoked: {tenants: [org_x]}}"
	if annotations() != annotations(other) {
		t.Error("watch: the pods are replaced")
	}
	restart := annotations("reload: restart")
	if restart == annotations("reload: restart", other) || restart == annotations("reload: restart\nsigningKeys: {files: [other.pem]}") {
		t.Error("restart: the pods are not replaced")
	}
}

// Nothing leads from outside to the admin port.
func TestTheAdminPortIsForPrometheusAlone(t *testing.T) {
	for _, o := range render(t, base, "serviceMonitor: {enabled: true}\ningress: {enabled: true, host: a.example}") {
		switch o := o.(type) {
		case *corev1.Service:
			admin := slices.ContainsFunc(o.Spec.Ports, func(p corev1.ServicePort) bool { return p.TargetPort.StrVal == "admin" })
			if admin != strings.HasSuffix(o.Name, "-admin") || admin && (o.Spec.ClusterIP != "None" || len(o.Spec.Ports) != 1) {
				t.Errorf("service %s has %+v", o.Name, o.Spec)
			}
		case *networkingv1.Ingress:
			if name := o.Spec.Rules[0].HTTP.Paths[0].Backend.Service.Name; strings.HasSuffix(name, "-admin") {
				t.Errorf("the Ingress leads to %s", name)
			}
		case *networkingv1.NetworkPolicy:
			if len(o.Spec.Ingress) != 1 || o.Spec.Ingress[0].Ports[0].Port.StrVal != "http" {
				t.Errorf("open: %+v", o.Spec.Ingress)
			}
		}
	}
}

// The broker needs nothing from the instance's metadata, and whoever took it over
// must not get the node's role.
func TestTheMetadataOfTheInstanceIsOutOfReach(t *testing.T) {
	n := only[*networkingv1.NetworkPolicy](t, render(t, base))
	for _, rule := range n.Spec.Egress {
		for _, peer := range rule.To {
			if peer.IPBlock != nil && len(peer.IPBlock.Except) == 0 {
				t.Errorf("%+v has no exception", peer.IPBlock)
			}
		}
		if len(rule.To) == 0 && slices.ContainsFunc(rule.Ports, func(p networkingv1.NetworkPolicyPort) bool { return p.Port.IntVal != 53 }) {
			t.Errorf("open: %+v", rule)
		}
	}
}

// A long release name must not make a name that Kubernetes refuses.
func TestALongNameIsCut(t *testing.T) {
	out, err := helm(t, append([]string{"template", strings.Repeat("a", 53), chart}, files(t, base, "serviceMonitor: {enabled: true}")...)...)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		if name, ok := strings.CutPrefix(line, "  name: "); ok && len(strings.TrimSpace(name)) > 63 {
			t.Errorf("%s is too long", name)
		}
	}
}

// The alerts are those of deploy/observability, byte for byte: a chart can read no
// file outside of its folder. `go test -update` copies them.
func TestTheAlertsAreThoseOfTheRepository(t *testing.T) {
	original, err := os.ReadFile("../../deploy/observability/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	copied := chart + "/files/alerts.yaml"
	if *update {
		if err := errors.Join(os.MkdirAll(chart+"/files", 0o755), os.WriteFile(copied, original, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(copied); err != nil || !bytes.Equal(have, original) {
		t.Fatalf("the copy is old (%v): go test -update, in this folder", err)
	}
	rule := only[*monitoringv1.PrometheusRule](t, render(t, base, "prometheusRule: {enabled: true, labels: {release: prometheus}}"))
	if len(rule.Spec.Groups) == 0 || rule.Labels["release"] != "prometheus" {
		t.Errorf("%+v", rule)
	}
}

// The page that leads to production shows values that are good.
func TestThePagesValuesAreGood(t *testing.T) {
	page, err := os.ReadFile("../../deploy/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, values, _ := strings.Cut(string(page), "<!-- values.yaml -->\n```yaml\n")
	values, _, found := strings.Cut(values, "\n```\n")
	if !found {
		t.Fatal("deploy/README.md shows no values")
	}
	readme, err := os.ReadFile(chart + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, own, _ := strings.Cut(string(readme), "```yaml\n")
	own, _, _ = strings.Cut(own, "\n```\n")
	for _, text := range []string{values, own} {
		objects := render(t, text)
		configured(t, objects, deployment(t, objects))
	}
}

// The README's table is made of values.yaml; what has no comment there is refused.
func TestTheREADMEListsEveryValue(t *testing.T) {
	data, err := os.ReadFile(chart + "/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err != nil {
		t.Fatal(err)
	}
	var table bytes.Buffer
	table.WriteString("<!-- values:begin -->\n| value | default | what |\n|---|---|---|\n")
	list(t, &table, root.Content[0], "")
	file := chart + "/README.md"
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := bytes.Cut(page, []byte("<!-- values:begin -->"))
	_, after, ok2 := bytes.Cut(rest, []byte("<!-- values:end -->"))
	if !ok || !ok2 {
		t.Fatal("the README has no place for the table")
	}
	want := slices.Concat(before, table.Bytes(), []byte("<!-- values:end -->"), after)
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	} else if !bytes.Equal(page, want) {
		t.Error("the table is old: go test ./.ci/chart -update, in that folder")
	}
}

// list writes a line for each value that has a comment, and goes into mappings that have none.
func list(t *testing.T, w *bytes.Buffer, mapping *yaml.Node, prefix string) {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		key, value := mapping.Content[i], mapping.Content[i+1]
		comment := strings.TrimPrefix(key.HeadComment, "# ")
		if cut := strings.LastIndex(comment, "\n\n# "); cut >= 0 { // the file's own comment
			comment = comment[cut+4:]
		}
		name := prefix + key.Value
		switch {
		case comment != "":
			var v any
			if err := value.Decode(&v); err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(w, "| `%s` | `%s` | %s |\n", name, text, comment)
		case value.Kind == yaml.MappingNode && len(value.Content) > 0:
			list(t, w, value, name+".")
		default:
			t.Errorf("%s has no comment", name)
		}
	}
}

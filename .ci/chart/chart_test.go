// Package chart_test renders deploy/helm/credential-broker with many values, by Helm
// itself, decodes what comes out into the Kubernetes types, strictly, and gives the
// configuration in it to the broker.
package chart_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

const chart = "../../deploy/helm/credential-broker"

var update = flag.Bool("update", false, "rewrite the table of values in the chart's README")

// need returns a program that the Makefile builds and names.
func need(t testing.TB, variable string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not set: run make chart", variable)
		}
		t.Skipf("%s is not set: run make chart", variable)
	}
	return path
}

// base is what every matrix entry begins with: mode minted, one grant.
const base = `
image: {repository: registry.acme.example/credential-broker}
signingKeys: {existingSecret: web-identity}
config:
  cors: {allowed_origins: ["https://app.acme.example"]}
  issuers: [{url: https://acme.eu.auth0.com/, audiences: [https://uploads.acme.example]}]
  web_identity: {mode: minted, issuer: https://broker.acme.example}
  sts: {region: ap-northeast-1}
  limits: {per_tenant_per_minute: 1000000}
  grants:
    - name: uploads
      match: {permissions: [upload:files]}
      role_arn: arn:aws:iam::123456789012:role/tenant-uploads
      tenant: {claim: org_id}
      bucket: acme-uploads
      region: ap-northeast-1
      prefix: tenants/{tenant}/
      access: [list, read, write, delete]
`

const forwarded = `
signingKeys: {existingSecret: ""}
config: {web_identity: {mode: forwarded, issuer: null}}
`

// matrix is what is set beside base, and how many objects come out.
var matrix = []struct {
	name, values string
	kinds        string
}{
	{name: "as it is", kinds: "ConfigMap Deployment NetworkPolicy Pod PodDisruptionBudget Service ServiceAccount"},
	{name: "forwarded", values: forwarded, kinds: "ConfigMap Deployment NetworkPolicy Pod PodDisruptionBudget Service ServiceAccount"},
	{
		name: "a key in the chart that rotates", values: "signingKeys: {existingSecret: '', files: [now.pem, next.pem], pem: {now.pem: A, next.pem: B}}",
		kinds: "ConfigMap Deployment NetworkPolicy Pod PodDisruptionBudget Secret Service ServiceAccount",
	},
	{name: "one pod", values: "replicas: 1", kinds: "ConfigMap Deployment NetworkPolicy Pod Service ServiceAccount"},
	{
		name: "scaled", values: "autoscaling: {enabled: true}\npodDisruptionBudget: {enabled: false}",
		kinds: "ConfigMap Deployment HorizontalPodAutoscaler NetworkPolicy Pod Service ServiceAccount",
	},
	{
		name: "an Ingress", values: "ingress: {enabled: true, className: nginx, host: broker.acme.example, tlsSecret: tls, annotations: {a: b}}",
		kinds: "ConfigMap Deployment Ingress NetworkPolicy Pod PodDisruptionBudget Service ServiceAccount",
	},
	{
		name: "a gateway", values: "gateway: {enabled: true, host: broker.acme.example, parentRefs: [{name: public, namespace: gateways}]}",
		kinds: "ConfigMap Deployment HTTPRoute NetworkPolicy Pod PodDisruptionBudget Service ServiceAccount",
	},
	{
		name: "watched", values: "serviceMonitor: {enabled: true, labels: {release: prometheus}}\nnetworkPolicy: {adminFrom: [{namespaceSelector: {matchLabels: {name: monitoring}}}]}",
		kinds: "ConfigMap Deployment NetworkPolicy Pod PodDisruptionBudget Service Service ServiceAccount ServiceMonitor",
	},
	{
		name: "everything of one's own", values: `
image: {digest: "sha256:0000000000000000000000000000000000000000000000000000000000000000", pullSecrets: [{name: registry}]}
reload: restart
env: [{name: OTEL_EXPORTER_OTLP_ENDPOINT, value: "http://collector:4318"}]
extraVolumes: [{name: audit, emptyDir: {}}]
extraVolumeMounts: [{name: audit, mountPath: /var/log/broker}]
podAnnotations: {a: b}
podLabels: {team: platform}
nodeSelector: {disk: ssd}
tolerations: [{key: dedicated, operator: Exists}]
affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}]}]}}}
priorityClassName: high
serviceAccount: {create: false, name: other, annotations: {a: b}}
service: {type: LoadBalancer, port: 443, annotations: {a: b}}
networkPolicy: {enabled: false}
preStopSeconds: 15
terminationGracePeriodSeconds: 60
`, kinds: "ConfigMap Deployment Pod PodDisruptionBudget Service",
	},
	{
		name: "shared", values: "sharedCache: {existingSecret: redis, port: 6380}\nconfig: {shared_cache: {timeout: 20ms}}",
		kinds: "ConfigMap Deployment NetworkPolicy Pod PodDisruptionBudget Service ServiceAccount",
	},
	{
		name: "who may come and go", values: "networkPolicy: {from: [{podSelector: {matchLabels: {app: gateway}}}], extraEgress: [{ports: [{port: 4318}], to: [{podSelector: {}}]}]}",
		kinds: "ConfigMap Deployment NetworkPolicy Pod PodDisruptionBudget Service ServiceAccount",
	},
}

// helm runs Helm, which is not to look for a cluster or a home.
func helm(t testing.TB, args ...string) (stdout string, err error) {
	t.Helper()
	home := t.TempDir()
	cmd := exec.CommandContext(t.Context(), need(t, "HELM"), args...)
	cmd.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH")}
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%w: %s%s", err, problem.String(), out.String())
	}
	return out.String(), nil
}

// files writes texts as values files and returns the arguments that name them.
func files(t testing.TB, texts ...string) []string {
	t.Helper()
	var args []string
	for i, text := range texts {
		file := filepath.Join(t.TempDir(), fmt.Sprintf("%d.yaml", i))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--values", file)
	}
	return args
}

// render returns the objects, strictly decoded.
func render(t testing.TB, texts ...string) []runtime.Object {
	t.Helper()
	out, err := helm(t, append([]string{"template", "broker", chart, "--namespace", "uploads", "--kube-version", "1.30.0"}, files(t, texts...)...)...)
	if err != nil {
		t.Fatal(err)
	}
	known := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, monitoringv1.AddToScheme, gatewayv1.Install} {
		if err := add(known); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(known, serializer.EnableStrict).UniversalDeserializer()
	var objects []runtime.Object
	for r := utilyaml.NewYAMLReader(newReader(out)); ; {
		doc, err := r.Read()
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(bytes.TrimSpace(regexp.MustCompile(`(?m)^\s*#.*$|^---$`).ReplaceAll(doc, nil))) == 0 {
			continue
		}
		object, _, err := decoder.Decode(doc, nil, nil)
		if err != nil {
			t.Fatalf("%v\n%s", err, doc)
		}
		objects = append(objects, object)
	}
}

func TestTheChartIsRenderedForEachKindOfUse(t *testing.T) {
	for _, tc := range matrix {
		t.Run(tc.name, func(t *testing.T) {
			if out, err := helm(t, append([]string{"lint", "--strict", chart}, files(t, base, tc.values)...)...); err != nil {
				t.Fatal(err, out)
			}
			objects := render(t, base, tc.values)
			if got := strings.Join(kinds(objects), " "); got != tc.kinds {
				t.Errorf("got  %s\nwant %s", got, tc.kinds)
			}
			d := deployment(t, objects)
			hardened(t, d.Spec.Template.Spec)
			selects(t, objects, d)
			drains(t, d.Spec.Template.Spec)
			configured(t, objects, d)
		})
	}
}

func TestTheChartRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ values, want string }{
		"no configuration":         {"config: null", "config: the broker's configuration is missing"},
		"its own port":             {"config: {listen: ':80'}", "config.listen: is set by the chart"},
		"its own admin port":       {"config: {admin_listen: ':80'}", "config.admin_listen: is set by the chart"},
		"keys of the config's own": {"config: {web_identity: {signing_keys: [/x.pem]}}", "config.web_identity.signing_keys: is set by the chart"},
		"a Redis of its own":       {"sharedCache: {existingSecret: redis}\nconfig: {shared_cache: {url: rediss://a}}", "config.shared_cache.url: is set by the chart"},
		"no key":                   {"signingKeys: {existingSecret: ''}", "mode minted needs a key"},
		"two places for the key":   {"signingKeys: {pem: {web-identity.pem: A}}", "existingSecret or pem, not both"},
		"a key that is not there":  {"signingKeys: {existingSecret: '', files: [now.pem, next.pem], pem: {now.pem: A}}", "next.pem is not in signingKeys.pem"},
		"a key out of its folder":  {"signingKeys: {files: [../x.pem]}", "signingKeys"},
		"too short a grace":        {"terminationGracePeriodSeconds: 25", "a stop in order takes up to 21 s"},
		"an unknown value":         {"replica: 3", "replica"},
		"an Ingress for any host":  {"ingress: {enabled: true}", "ingress.host: the public name is missing"},
		"a route to nowhere":       {"gateway: {enabled: true, host: a.example}", "gateway.parentRefs: the gateway is missing"},
		"a route for any host":     {"gateway: {enabled: true, parentRefs: [{name: a}]}", "gateway.host: the public name is missing"},
		"both":                     {"gateway: {enabled: true, host: a.example, parentRefs: [{name: a}]}\ningress: {enabled: true, host: a.example}", "one of them"},
		"another way to reload":    {"reload: sometimes", "reload"},
		"a digest that is none":    {"image: {digest: latest}", "digest"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := helm(t, append([]string{"template", "broker", chart}, files(t, base, tc.values)...)...)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

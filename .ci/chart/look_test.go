package chart_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func newReader(s string) *bufio.Reader { return bufio.NewReader(strings.NewReader(s)) }

func kinds(objects []runtime.Object) []string {
	var all []string
	for _, o := range objects {
		all = append(all, o.GetObjectKind().GroupVersionKind().Kind)
	}
	slices.Sort(all)
	return all
}

// only returns the one object of its type with that name's suffix.
func only[T runtime.Object](t testing.TB, objects []runtime.Object) T {
	t.Helper()
	for _, o := range objects {
		if found, ok := o.(T); ok {
			return found
		}
	}
	var none T
	t.Fatalf("no %T", none)
	return none
}

func deployment(t testing.TB, objects []runtime.Object) *appsv1.Deployment {
	return only[*appsv1.Deployment](t, objects)
}

// hardened looks for all that takes rights away, in the restricted profile of
// Kubernetes' pod security standards and beyond it.
func hardened(t testing.TB, p corev1.PodSpec) {
	t.Helper()
	c, s, pod := p.Containers[0], p.Containers[0].SecurityContext, p.SecurityContext
	switch {
	case len(p.Containers) != 1 || len(p.InitContainers) != 0:
		t.Error("not one container")
	case !*pod.RunAsNonRoot, *pod.RunAsUser != 65532, *pod.RunAsGroup != 65532, *pod.FSGroup != 65532, pod.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault:
		t.Errorf("the pod runs as %+v", pod)
	case *s.AllowPrivilegeEscalation, !*s.ReadOnlyRootFilesystem, len(s.Capabilities.Add) != 0, !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}), s.Privileged != nil:
		t.Errorf("the container runs as %+v", s)
	case p.AutomountServiceAccountToken == nil || *p.AutomountServiceAccountToken, p.HostNetwork, p.HostPID, p.HostIPC, *p.EnableServiceLinks:
		t.Error("the pod has what it needs not")
	case c.Resources.Limits.Memory().IsZero(), c.Resources.Requests.Cpu().IsZero():
		t.Error("no bounds")
	}
	for _, v := range p.Volumes {
		if v.HostPath != nil {
			t.Errorf("%s is the node's own folder", v.Name)
		}
		if v.Secret != nil && (*v.Secret.DefaultMode&0o007 != 0 || *v.Secret.DefaultMode&0o040 == 0) {
			t.Errorf("mode %o: the broker refuses a key that others can read, and has to read it as its group", *v.Secret.DefaultMode)
		}
	}
}

// selects follows each selector to the pods of the Deployment, and not to the test's.
func selects(t testing.TB, objects []runtime.Object, d *appsv1.Deployment) {
	t.Helper()
	pods := labels.Set(d.Spec.Template.Labels)
	probe := labels.Set(only[*corev1.Pod](t, objects).Labels)
	for _, o := range objects {
		var selector metav1.LabelSelector
		switch o := o.(type) {
		case *corev1.Service:
			selector.MatchLabels = o.Spec.Selector
			for _, p := range o.Spec.Ports {
				port(t, d, p.TargetPort.StrVal)
			}
		case *policyv1.PodDisruptionBudget:
			selector = *o.Spec.Selector
		case *networkingv1.NetworkPolicy:
			selector = o.Spec.PodSelector
			for _, rule := range o.Spec.Ingress {
				for _, p := range rule.Ports {
					port(t, d, p.Port.StrVal)
				}
			}
		case *appsv1.Deployment:
			selector = *o.Spec.Selector
		default:
			continue
		}
		s, err := metav1.LabelSelectorAsSelector(&selector)
		if err != nil {
			t.Fatal(err)
		}
		if s.Empty() || !s.Matches(pods) || s.Matches(probe) {
			t.Errorf("%T selects the wrong pods: %s", o, s)
		}
	}
}

func port(t testing.TB, d *appsv1.Deployment, name string) {
	t.Helper()
	for _, p := range d.Spec.Template.Spec.Containers[0].Ports {
		if p.Name == name {
			return
		}
	}
	t.Errorf("no port %q", name)
}

// drains compares the grace of the pod with what a stop takes, as the program has it.
func drains(t testing.TB, p corev1.PodSpec) {
	t.Helper()
	source, err := os.ReadFile("../../cmd/credential-broker/serve/serve.go")
	if err != nil {
		t.Fatal(err)
	}
	need := p.Containers[0].Lifecycle.PreStop.Sleep.Seconds
	for _, name := range []string{"drain", "cut", "Notice"} {
		m := regexp.MustCompile(`\t` + name + ` += (\d+) \* time\.Second`).FindSubmatch(source)
		if m == nil {
			t.Fatalf("serve.go has no %s", name)
		}
		n, _ := strconv.Atoi(string(m[1]))
		need += int64(n)
	}
	if *p.TerminationGracePeriodSeconds < need {
		t.Errorf("Kubernetes kills after %d s, and a stop takes %d", *p.TerminationGracePeriodSeconds, need)
	}
}

// configured gives the configuration to the broker as the pod would find it: the
// file where the arguments say, the keys where the file says, on what is mounted.
func configured(t testing.TB, objects []runtime.Object, d *appsv1.Deployment) {
	t.Helper()
	c := d.Spec.Template.Spec.Containers[0]
	if len(c.Args) != 3 || c.Args[0] != "serve" || c.Args[1] != "--config" {
		t.Fatalf("args %q", c.Args)
	}
	config := only[*corev1.ConfigMap](t, objects)
	text, ok := config.Data[path.Base(c.Args[2])]
	volume := mounted(c, path.Dir(c.Args[2]))
	if !ok || !slices.ContainsFunc(d.Spec.Template.Spec.Volumes, func(v corev1.Volume) bool {
		return v.Name == volume && v.ConfigMap != nil && v.ConfigMap.Name == config.Name
	}) {
		t.Fatalf("the ConfigMap is not where %q looks", c.Args)
	}
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), need(t, "BROKER"), "check", "--config", file)
	cmd.Env = []string{}
	for _, e := range c.Env {
		if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil { // the one that there is: where what replicas share is
			e.Value = "rediss://user:password@redis.example:6380"
		}
		cmd.Env = append(cmd.Env, e.Name+"="+e.Value)
	}
	if shared := strings.Contains(text, "key_file: /run/secrets/shared-cache/key"); shared != (mounted(c, "/run/secrets/shared-cache") != "") {
		t.Errorf("a shared cache %t, and its key is mounted or not", shared)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s\n%s", err, out, text)
	}
	keys := regexp.MustCompile(`(?m)^ +- (/.*\.pem)$`).FindAllStringSubmatch(text, -1)
	minted := strings.Contains(text, "mode: minted")
	if minted != (len(keys) > 0) {
		t.Fatalf("minted %t, keys %q", minted, keys)
	}
	for _, key := range keys {
		volume := mounted(c, path.Dir(key[1]))
		i := slices.IndexFunc(d.Spec.Template.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == volume && v.Secret != nil })
		if i < 0 {
			t.Fatalf("%s: no Secret is mounted there", key[1])
		}
		for _, o := range objects { // the chart's own Secret, if there is one
			if s, ok := o.(*corev1.Secret); ok && (s.Name != d.Spec.Template.Spec.Volumes[i].Secret.SecretName || len(s.Data[path.Base(key[1])]) == 0) {
				t.Errorf("%s is not in the Secret %s", key[1], s.Name)
			}
		}
	}
	for _, probe := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe} {
		port(t, d, probe.HTTPGet.Port.StrVal)
	}
	for _, p := range c.Ports {
		if want := map[string]string{"http": "listen", "admin": "admin_listen"}[p.Name]; !regexp.MustCompile(fmt.Sprintf(`(?m)^%s: :%d$`, want, p.ContainerPort)).MatchString(text) {
			t.Errorf("port %s is %d, and the broker listens elsewhere", p.Name, p.ContainerPort)
		}
	}
}

// mounted returns the volume at a folder, which must be mounted as a whole: a
// subPath would never change.
func mounted(c corev1.Container, folder string) string {
	for _, m := range c.VolumeMounts {
		if m.MountPath == folder && m.SubPath == "" && m.ReadOnly {
			return m.Name
		}
	}
	return ""
}

package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"credential-broker/cmd/credential-broker/commandline"
	"credential-broker/cmd/credential-broker/doctor"
)

// parsed is what the program makes of a recipe's variables and arguments. A variable
// that it does not know is an error.
func parsed(t *testing.T, env map[string]string, args []string) probeCmd {
	t.Helper()
	known, err := commandline.Variables(&commands{}, "probe")
	if err != nil {
		t.Fatal(err)
	}
	for name := range env {
		if !slices.Contains(known, name) {
			t.Errorf("%s is read by nobody", name)
		}
	}
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	var c commands
	if _, err := theCommandLine(lookup).Parse(&c, args); err != nil {
		t.Fatal(err)
	}
	if _, err := doctor.ParseObjectName(c.Probe.ForeignObject); err != nil {
		t.Error(err)
	}
	if _, err := c.Probe.prober(&world{lookup: lookup}); err != nil {
		t.Error(err)
	}
	return c.Probe
}

// whole fails unless the recipe makes every check and tells Prometheus.
func whole(t *testing.T, c probeCmd) {
	t.Helper()
	if c.ForeignAudience == "" || c.OwnerOrganization == "" || c.OwnerOrganization == c.Organization || c.ForeignAudience == c.Audience || !strings.HasSuffix(c.Textfile, ".prom") {
		t.Errorf("%+v", c)
	}
	if !strings.Contains(c.ForeignObject, "/"+c.OwnerOrganization+"/") {
		t.Errorf("%s is not of %s", c.ForeignObject, c.OwnerOrganization)
	}
}

func TestTheCronLine(t *testing.T) {
	data, err := os.ReadFile("../../deploy/probe/probe.cron")
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	var line string
	for l := range strings.Lines(string(data)) {
		l = strings.TrimSpace(l)
		name, value, isVariable := strings.Cut(l, "=")
		switch {
		case strings.HasPrefix(l, "#"):
		case isVariable && regexp.MustCompile(`\A[A-Z0-9_]+\z`).MatchString(name):
			env[name] = value
		case line == "":
			line = l
		default:
			t.Errorf("one line too many: %s", l)
		}
	}
	if strings.Contains(line, "%") { // to cron, the end of the command
		t.Error("a % in the line")
	}
	m := regexp.MustCompile(`\A\*/5 \* \* \* \* [a-z]+ \S+/credential-broker (probe .*) 2>&1 \| logger -t credential-broker-probe\z`).FindStringSubmatch(line)
	if m == nil || len(env) != 6 {
		t.Fatalf("%q, %d variables", line, len(env))
	}
	whole(t, parsed(t, env, strings.Fields(m[1])))
}

func TestTheCronJob(t *testing.T) {
	data, err := os.ReadFile("../../deploy/probe/cronjob.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var job struct {
		Spec struct {
			Schedule    string
			JobTemplate struct {
				Spec struct {
					Template struct {
						Spec struct {
							Containers []container
							Volumes    []struct{ Name string }
						}
					}
				}
			} `yaml:"jobTemplate"`
		}
	}
	if err := yaml.Unmarshal(data, &job); err != nil {
		t.Fatal(err)
	}
	pod := job.Spec.JobTemplate.Spec.Template.Spec
	if job.Spec.Schedule != "*/5 * * * *" || len(pod.Containers) != 1 {
		t.Fatalf("%+v", job)
	}
	env := map[string]string{}
	for _, e := range pod.Containers[0].Env {
		env[e.Name] = e.Value
	}
	c := parsed(t, env, pod.Containers[0].Args)
	whole(t, c)
	mounts := map[string]bool{}
	for _, m := range pod.Containers[0].VolumeMounts {
		mounts[m.MountPath] = slices.ContainsFunc(pod.Volumes, func(v struct{ Name string }) bool { return v.Name == m.Name })
	}
	for _, file := range []string{c.Textfile, c.ClientSecretFile} {
		if !mounts[file[:strings.LastIndex(file, "/")]] {
			t.Errorf("nothing is mounted for %s", file)
		}
	}
}

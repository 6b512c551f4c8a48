package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"credential-broker/cmd/credential-broker/commandline"
)

// container is what of a container the tests of the manifests look at.
type container struct {
	Name string
	Args []string
	Env  []struct{ Name, Value string }

	VolumeMounts []struct {
		Name      string
		MountPath string `yaml:"mountPath"`
	} `yaml:"volumeMounts"`
	StartupProbe struct {
		Exec struct{ Command []string }
	} `yaml:"startupProbe"`
}

func (c container) env(name string) string {
	for _, e := range c.Env {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}

// containers reads those of all workloads in a manifest.
func containers(t *testing.T, file string) map[string]container {
	t.Helper()
	data, err := os.ReadFile("../../deploy/sidecar/" + file)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]container{}
	for dec := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var manifest struct {
			Spec struct {
				Template struct {
					Spec struct {
						InitContainers []container `yaml:"initContainers"`
						Containers     []container
					}
				}
			}
		}
		err := dec.Decode(&manifest)
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range append(manifest.Spec.Template.Spec.InitContainers, manifest.Spec.Template.Spec.Containers...) {
			found[c.Name] = c
		}
	}
}

// What the manifests say is what the program reads, and what fits together.
func TestTheSidecarsManifests(t *testing.T) {
	names, err := commandline.Variables(&commands{}, "agent")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, name := range names {
		known[name] = true
	}
	all := containers(t, "sidecar.yaml")
	agent, program := all["credentials"], all["program"]
	patch := containers(t, "auth0-client.yaml")["credentials"]
	if len(known) < 15 || len(agent.Env) == 0 || len(program.Env) == 0 || len(patch.Env) == 0 {
		t.Fatalf("%d known, %d, %d and %d used", len(known), len(agent.Env), len(program.Env), len(patch.Env))
	}
	for _, c := range []container{agent, patch} {
		for _, e := range c.Env {
			if !known[e.Name] {
				t.Errorf("%s is read by nobody", e.Name)
			}
			if strings.HasSuffix(e.Name, "_FILE") && e.Value != "" {
				mounted := false
				for _, m := range c.VolumeMounts {
					mounted = mounted || m.MountPath == path.Dir(e.Value)
				}
				if !mounted {
					t.Errorf("%s: nothing is mounted at %s", e.Name, path.Dir(e.Value))
				}
			}
		}
	}
	base := "http://" + agent.env("AGENT_LISTEN")
	if got := program.env("AWS_CONTAINER_CREDENTIALS_FULL_URI"); got != base+"/v1/credentials" {
		t.Errorf("the program asks %s", got)
	}
	if got := strings.Join(agent.StartupProbe.Exec.Command, " "); got != "/credential-broker healthcheck --url "+base+"/readyz" {
		t.Errorf("the probe is %s", got)
	}
	if got, want := program.env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"), agent.env("AGENT_AUTHORIZATION_TOKEN_FILE"); got != want {
		t.Errorf("the program shows %s, not %s", got, want)
	}
	if len(agent.Args) != 1 || agent.Args[0] != "agent" {
		t.Errorf("the command is %q", agent.Args)
	}
	// An empty variable, as the patch has it, is none.
	environment := map[string]string{"BROKER_URL": "https://broker.example", "BROKER_TOKEN_FILE": ""}
	var c commands
	_, err = theCommandLine(func(name string) (string, bool) { v, ok := environment[name]; return v, ok }).Parse(&c, []string{"process", "--client-id", "x"})
	if err != nil || c.Process.TokenFile != "" || c.Process.BrokerURL != "https://broker.example" {
		t.Errorf("%+v, %v", c.Process.backendFlags, err)
	}
}

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"credential-broker/broker/brokertest/tofu"
)

// The example, applied, prints a configuration that `check` takes, and for which
// `iam` prints the documents that the example has put in place.
func TestTheExamplePrintsTheConfigurationOfItsAccount(t *testing.T) {
	for mode, grants := range map[string]string{"minted": "2 grant(s)", "forwarded": "1 grant(s)"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			state, err := tofu.New(t, "terraform/examples/complete").Apply(t.Context(), map[string]any{
				"region": "ap-northeast-1", "mode": mode, "auth0_domain": "acme.eu.auth0.com", "audience": "https://uploads.acme.example",
				"origins": []string{"https://app.acme.example"}, "bucket": "acme-uploads", "hostname": "broker.acme.example", "zone_id": "Z1",
				"organizations":   map[string]any{"acme": map[string]any{"display_name": "Acme", "connections": []string{"con_1"}}},
				"certificate_arn": "arn:aws:acm:ap-northeast-1:123456789012:certificate/1",
				"image":           "registry.example/credential-broker:1.0.0", "vpc_id": "vpc-1",
				"public_subnet_ids": []string{"subnet-1", "subnet-2"}, "private_subnet_ids": []string{"subnet-3", "subnet-4"},
				"cloudtrail_log_bucket": "acme-trail",
			})
			if err != nil {
				t.Fatal(err)
			}
			var text string
			output(t, state, "configuration", &text)
			file := filepath.Join(t.TempDir(), "config.yaml")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if out := command(t, "check", "--config", file); !strings.Contains(out, "ok, "+grants) {
				t.Errorf("%s\n%s", out, text)
			}
			var setup struct {
				Roles []struct {
					ARN   string `json:"role_arn"`
					Trust any    `json:"trust_policy"`
					Own   any    `json:"policy"`
				} `json:"roles"`
			}
			if err := json.Unmarshal([]byte(command(t, "iam", "--config", file)), &setup); err != nil {
				t.Fatal(err)
			}
			trust, own := map[string]any{}, map[string]any{}
			for _, r := range setup.Roles {
				_, name, _ := strings.Cut(r.ARN, ":role/")
				trust[name], own[name] = r.Trust, r.Own
			}
			if diff := cmp.Diff(trust, documents(t, state, "trust_policies")); diff != "" || len(trust) == 0 {
				t.Error(diff)
			}
			if diff := cmp.Diff(own, documents(t, state, "role_policies")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func output(t *testing.T, s tofu.State, name string, into any) {
	t.Helper()
	if err := json.Unmarshal(s.Outputs[name], into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func documents(t *testing.T, s tofu.State, name string) map[string]any {
	t.Helper()
	var texts map[string]string
	output(t, s, name, &texts)
	all := map[string]any{}
	for role, text := range texts {
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatal(err)
		}
		all[role] = v
	}
	return all
}

// command runs one that is to succeed, and returns what it prints.
func command(t *testing.T, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), args, func(string) (string, bool) { return "", false }, &stdout, &stderr); code != 0 {
		t.Fatalf("%s: exit %d\n%s", strings.Join(args, " "), code, stderr.String())
	}
	return stdout.String()
}

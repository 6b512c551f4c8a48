package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"credential-broker/broker/brokertest"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/cmd/credential-broker/serve"
	"credential-broker/cmd/credential-broker/servetest"
)

// probeWorld is a broker before a local Auth0 and a local AWS with another tenant's
// object, and the flags of a probe that is well there.
func probeWorld(t *testing.T) []string {
	t.Helper()
	front, issuer := servetest.Listen(t)
	auth0, err := brokertest.NewAuth0(issuer+"/", "", false)
	if err != nil {
		t.Fatal(err)
	}
	servetest.Handle(t, front, auth0)
	listener, address := servetest.Listen(t)
	s3, s3URL := servetest.Listen(t)
	cfg, err := config.Parse("test.yaml", fmt.Appendf(nil, `
listen: "127.0.0.1:0"
issuers: [{url: %q, audiences: [%q]}]
web_identity: {mode: minted, issuer: %q, signing_keys: [%q]}
sts: {region: ap-northeast-1, endpoint: %q}
grants: [{name: uploads, role_arn: %q, tenant: {claim: org_id}, bucket: acme-uploads, region: ap-northeast-1, prefix: "tenants/{tenant}/", access: [list, read]}]
`, issuer+"/", brokertest.Audience, address, servetest.SigningKey(t), s3URL, brokertest.RoleARN), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	aws := servetest.AWS(t, cfg, nil)
	if err := aws.S3.Seed(brokertest.Bucket, "tenants/org_globex/canary", "text/plain", []byte("x")); err != nil {
		t.Fatal(err)
	}
	servetest.Handle(t, s3, aws)
	servetest.Start(t, cfg, serve.Options{Listener: listener})
	folder := t.TempDir()
	for name, audience := range map[string]string{"good": brokertest.Audience, "foreign": "https://elsewhere.test"} {
		claims, err := auth0.UserClaims("alice@acme.test")
		if err != nil {
			t.Fatal(err)
		}
		claims["aud"] = audience
		token, err := auth0.Mint(claims)
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, name), []byte(token), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return []string{
		"probe", "--broker-url", address, "--token-file", filepath.Join(folder, "good"), "--foreign-token-file", filepath.Join(folder, "foreign"),
		"--foreign-object", "s3://acme-uploads/tenants/org_globex/canary", "--s3-endpoint", s3URL,
	}
}

// The exit code is the whole of what cron and Kubernetes look at.
func TestAProbesExitCode(t *testing.T) {
	good := probeWorld(t)
	textfile := filepath.Join(t.TempDir(), "probe.prom")
	for name, tc := range map[string]struct {
		args   []string
		code   int
		stdout string
		stderr string
		metric string // in the textfile; empty: none is written
	}{
		"every check holds":     {nil, exitOK, "✔ foreign_object", "", `check="foreign_object"} 1`},
		"one does not":          {[]string{"--object", "tenants/org_acme/gone"}, exitFailed, "✘ inside: GetObject: 404 NoSuchKey", "not every check held", `check="inside"} 0`},
		"the broker is dead":    {[]string{"--broker-url", "http://127.0.0.1:1"}, exitFailed, "✘ credentials: broker_unavailable", "not every check held", `check="credentials"} 0`},
		"no object":             {[]string{"--foreign-object", "tenants/x"}, exitUsage, "", "must be s3://bucket/key", ""},
		"two foreign tokens":    {[]string{"--foreign-audience", "x"}, exitUsage, "", "and not both", ""},
		"no time":               {[]string{"--timeout", "0s"}, exitUsage, "", "--timeout", ""},
		"a flag that is none":   {[]string{"--forgive"}, exitUsage, "", "unknown flag", ""},
		"as one line of JSON":   {[]string{"--json"}, exitOK, `"ok":true`, "", `check="credentials"} 1`},
		"and no place to write": {[]string{"--textfile", "/nowhere/probe.prom"}, exitFailed, "✔ credentials", "write textfile", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_ = os.Remove(textfile)
			var stdout, stderr bytes.Buffer
			args := append(append(append([]string{}, good...), "--textfile", textfile), tc.args...)
			if code := run(t.Context(), args, func(string) (string, bool) { return "", false }, &stdout, &stderr); code != tc.code {
				t.Errorf("exit %d, want %d", code, tc.code)
			}
			if !strings.Contains(stdout.String(), tc.stdout) || !strings.Contains(stderr.String(), tc.stderr) || tc.stderr == "" && stderr.Len() > 0 {
				t.Errorf("stdout: %s\nstderr: %s", &stdout, &stderr)
			}
			if name == "as one line of JSON" && (!json.Valid(stdout.Bytes()) || bytes.Count(stdout.Bytes(), []byte("\n")) != 1) {
				t.Errorf("%s", &stdout)
			}
			data, err := os.ReadFile(textfile)
			if tc.metric == "" != os.IsNotExist(err) || !strings.Contains(string(data), tc.metric) {
				t.Errorf("%v: %s", err, data)
			}
		})
	}
}

// stopper stops who writes when it has written so much.
type stopper struct {
	bytes.Buffer
	after int
	stop  func()
}

func (s *stopper) Write(p []byte) (int, error) {
	n, err := s.Buffer.Write(p)
	if strings.Count(s.String(), "\n") >= s.after {
		s.stop()
	}
	return n, err
}

// Beside a broker it goes on until it is told to stop, which is no failure, nor is
// what was broken off a result.
func TestAProbeThatGoesOn(t *testing.T) {
	good := append(probeWorld(t), "--every", "1ms", "--json")
	none := func(string) (string, bool) { return "", false }
	for name, args := range map[string][]string{"well": nil, "not well": {"--object", "tenants/org_acme/gone"}} {
		ctx, stop := context.WithCancel(t.Context())
		stdout := stopper{after: 3, stop: stop}
		var stderr bytes.Buffer
		if code := run(ctx, append(append([]string{}, good...), args...), none, &stdout, &stderr); code != exitOK || stderr.Len() > 0 || strings.Count(stdout.String(), "\n") != 3 {
			t.Errorf("%s: exit %d\n%s%s", name, code, &stdout, &stderr)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	textfile := filepath.Join(t.TempDir(), "probe.prom")
	var stdout, stderr bytes.Buffer
	if code := run(ctx, append(probeWorld(t), "--textfile", textfile), none, &stdout, &stderr); code != exitFailed || stdout.Len() > 0 {
		t.Errorf("broken off: exit %d\n%s", code, &stdout)
	}
	if _, err := os.Stat(textfile); !os.IsNotExist(err) {
		t.Errorf("broken off, and written: %v", err)
	}
}

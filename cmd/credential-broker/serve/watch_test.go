package serve_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"credential-broker/cmd/credential-broker/config"
	"credential-broker/cmd/credential-broker/serve"
)

// On a real disk, as an editor saves and as Kubernetes does.
func TestAChangeOfTheFilesIsAReload(t *testing.T) {
	address, _ := issuer(t)
	dir := t.TempDir()
	file, key := filepath.Join(dir, "config.yaml"), filepath.Join(dir, "key.pem")
	signingKey(t, key)
	text := func(duration string) string {
		return `
listen: "127.0.0.1:0"
admin_listen: "127.0.0.1:0"
issuers: [{url: "` + address + `", audiences: ["https://uploads.acme.test"]}]
web_identity: {mode: minted, issuer: "https://broker.example", signing_keys: ["` + key + `"]}
sts: {region: eu-west-1, endpoint: "http://127.0.0.1:1"}
grants: [{name: g, role_arn: "arn:aws:iam::123456789012:role/r", tenant: {claim: org_id}, bucket: acme-uploads, region: eu-west-1, prefix: "{tenant}/", access: [read], duration: ` + duration + `}]
`
	}
	// mount puts the text where config.yaml leads, by turning one link.
	mount := func(version, text string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, version, "config.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(version, filepath.Join(dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	mount("..1", text("1h"))
	if err := os.Symlink("..data/config.yaml", file); err != nil {
		t.Fatal(err)
	}
	load := func() (config.Config, error) {
		data, err := os.ReadFile(file)
		if err != nil {
			return config.Config{}, err
		}
		return config.Parse(file, data, os.LookupEnv)
	}
	cfg, err := load()
	if err != nil {
		t.Fatal(err)
	}
	ready, reloaded := make(chan struct{}), make(chan serve.Reload, 10)
	s, err := serve.New(cfg, serve.Options{
		Stdout: io.Discard, Ready: func() { close(ready) }, Load: load, Watch: file, Reloaded: func(r serve.Reload) { reloaded <- r },
	})
	if err != nil {
		t.Fatal(err)
	}
	mount("..0", text("90m")) // since it was read
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	<-ready
	comes := func(what, result, problem string) {
		t.Helper()
		select {
		case r := <-reloaded:
			if r.Result != result || problem != "" && !strings.Contains(r.Problem.Error(), problem) {
				t.Fatalf("%s: %+v", what, r)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: nothing happened", what)
		}
	}
	comes("a change before anybody watched", serve.Loaded, "")
	mount("..2", text("2h"))
	comes("a link turned", serve.Loaded, "")
	mount("..3", text("1m"))
	comes("a link turned to what is wrong", serve.Refused, "duration")
	mount("..4", "# a comment\n"+text("2h"))
	comes("mended", serve.Unchanged, "")
	mount("..5", "# another comment\n"+text("2h")) // which is no news
	signingKey(t, key)
	comes("another signing key", serve.Loaded, "")
	if err := os.WriteFile(filepath.Join(dir, "new"), []byte(text("3h")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "new"), file); err != nil { // an editor does not keep the link
		t.Fatal(err)
	}
	comes("renamed over", serve.Loaded, "")
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := len(reloaded); n != 0 {
		t.Errorf("%d reloads more: %+v", n, <-reloaded)
	}
}

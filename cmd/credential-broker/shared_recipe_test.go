package main

import (
	"crypto/x509"
	"encoding/pem"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"credential-broker/broker/brokertest/localredis"
)

// composed is what deploy/compose.yaml says of its services.
func composed(t *testing.T) map[string]service {
	t.Helper()
	data, err := os.ReadFile("../../deploy/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Services map[string]service }
	if err := yaml.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	return file.Services
}

type service struct {
	Profiles, Volumes []string
	Command           []string
	Environment       map[string]any
}

// Each variable of the image's configuration reaches the broker of deploy/compose.yaml,
// but for the ports, which are the image's own.
func TestComposePassesEveryVariable(t *testing.T) {
	data, err := os.ReadFile("../../deploy/image/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	passed := composed(t)["broker"].Environment
	all := regexp.MustCompile(`\$\{([A-Z0-9_]+)`).FindAllStringSubmatch(string(data), -1)
	if len(all) < 20 {
		t.Errorf("%d variables", len(all))
	}
	for _, m := range all {
		if _, ok := passed[m[1]]; !ok && m[1] != "LISTEN" && m[1] != "ADMIN_LISTEN" {
			t.Errorf("%s does not reach it", m[1])
		}
	}
}

// What deploy/scaling.md has an operator type gives a Redis of deploy/compose.yaml and
// two brokers, by the image's own configuration, that share through it. Of the page's
// commands the container engine is left out; the host's name is this machine's.
func TestTheSharedCacheFromNothing(t *testing.T) {
	localredis.Need(t)
	page, err := os.ReadFile("../../deploy/scaling.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)<!-- walk:shared -->\n```sh\n(.*?)\n```").FindSubmatch(page)
	if m == nil {
		t.Fatal("the page has no commands")
	}
	folder := t.TempDir()
	shell := exec.CommandContext(t.Context(), "bash", "-euc", "sudo() { :; }; docker() { :; }\n"+strings.ReplaceAll(string(m[1]), "DNS:redis", "DNS:localhost"))
	shell.Dir = folder
	if out, err := shell.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	// What Redis shows can vouch for nothing else, whoever has its key.
	data, err := os.ReadFile(folder + "/keys/redis.pem")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	if cert, err := x509.ParseCertificate(block.Bytes); err != nil || cert.IsCA || !cert.BasicConstraintsValid || !slices.Equal(cert.DNSNames, []string{"localhost"}) {
		t.Errorf("%+v, %v", cert, err)
	}

	services := composed(t)
	redis, own := services["redis"], services["broker"]
	if !slices.Equal(redis.Profiles, []string{"shared"}) || !slices.Equal(redis.Volumes, []string{"./redis:/run/redis:ro"}) {
		t.Errorf("the Redis is not off by default, or sees more than it needs: %+v", redis)
	}
	address := freeAddress()
	port := address[strings.LastIndex(address, ":")+1:]
	args := slices.Clone(redis.Command)
	for i, arg := range args {
		args[i] = strings.NewReplacer("6379", port, "/run/redis", folder+"/redis").Replace(arg)
	}
	localredis.Start(t, args...)

	env := map[string]string{
		"AUTH0_DOMAIN": "localhost:1", "AUTH0_AUDIENCE": "https://uploads.acme.test", "ROLE_ARN": "arn:aws:iam::123456789012:role/tenant-uploads",
		"BUCKET": "acme-uploads", "AWS_REGION": "eu-west-1",
	}
	data, err = os.ReadFile(folder + "/.env")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if _, passed := own.Environment[name]; !passed && name != "PORTS" {
			t.Errorf("%s does not reach the broker", name)
		}
		env[name] = strings.NewReplacer("redis:6379", "localhost:"+port, "/run/secrets", folder+"/keys").Replace(value)
	}
	f := &fleet{T: t}
	for range 2 {
		p := f.inside(env)
		f.until(p, "shared_cache_up", 1)
		if f.metric(p, "shared_cache_configured") != 1 {
			t.Error("nothing is configured")
		}
	}
}

// inside runs this program as a broker by the image's own configuration. It has no
// issuer, and so is never ready.
func (f *fleet) inside(env map[string]string) *process {
	f.Helper()
	env = maps.Clone(env)
	env["LISTEN"], env["ADMIN_LISTEN"] = freeAddress(), freeAddress()
	p := &process{cmd: exec.Command(f.program(), "serve", "--config", "../../deploy/image/config.yaml"), admin: "http://" + env["ADMIN_LISTEN"], ended: make(chan struct{})}
	for name, value := range env {
		p.cmd.Env = append(p.cmd.Env, name+"="+value)
	}
	p.cmd.SysProcAttr = localredis.DieTogether()
	var log strings.Builder
	p.cmd.Stderr = &log
	if err := p.cmd.Start(); err != nil {
		f.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait()
	}()
	f.Cleanup(func() {
		p.stop(syscall.SIGKILL)
		if f.Failed() {
			f.Log(log.String())
		}
	})
	for {
		resp, err := http.Get(p.admin + "/healthz")
		if err == nil {
			_ = resp.Body.Close()
			return p
		}
		select {
		case <-p.ended:
			f.Fatal("it does not start")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

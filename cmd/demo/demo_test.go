package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// anyPorts are the flags that take free ports for all parts.
func anyPorts(more ...string) []string {
	return append([]string{"--headless", "--broker", "127.0.0.1:0", "--issuer", "127.0.0.1:0", "--aws", "127.0.0.1:0"}, more...)
}

func TestJSONIsOneLineOnceAllIsReadyAndNothingElse(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out, in := io.Pipe()
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, anyPorts("--json"), in, t.Output())
		_ = in.Close()
	}()
	var got map[string]string
	decoder := json.NewDecoder(out)
	if err := decoder.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if status, _ := fetch(t, got["broker"]+"/readyz"); status != http.StatusOK {
		t.Errorf("the line came before the broker was ready: %d", status)
	}
	for _, address := range []string{got["issuer"] + ".well-known/openid-configuration", got["issuer"] + "/.well-known/jwks.json"} {
		if status, body := fetch(t, address); status != http.StatusOK {
			t.Errorf("%s: %d %s", address, status, body)
		}
	}
	for _, name := range []string{"broker", "issuer", "sts", "s3"} {
		if !strings.HasPrefix(got[name], "http://127.0.0.1:") {
			t.Errorf("%s is %q", name, got[name])
		}
		delete(got, name)
	}
	want := map[string]string{"audience": "https://uploads.acme.test", "region": "ap-northeast-1", "bucket": "acme-uploads", "page": ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	stop()
	rest, err := io.ReadAll(io.MultiReader(decoder.Buffered(), out))
	if code := <-done; code != 0 || err != nil || strings.TrimSpace(string(rest)) != "" {
		t.Errorf("exit %d, then %q, %v", code, rest, err)
	}
}

func TestAWrongCallIsSaid(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, tc := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--mode", "none"}, 2, "--mode"},
		{[]string{"--nonsense"}, 2, "--nonsense"},
		{anyPorts("--aws", "0.0.0.0:0"), 1, "loopback"},
		{anyPorts("--issuer", taken.Addr().String()), 1, "--issuer"},
		{[]string{"--help"}, 0, "--headless"},
		{[]string{"--headless", "--config", "none.yaml"}, 2, "none.yaml"},
	} {
		var out bytes.Buffer
		if code := run(t.Context(), tc.args, &out, &out); code != tc.code || !strings.Contains(out.String(), tc.says) {
			t.Errorf("%q: exit %d, %q; want %d and %q in it", tc.args, code, out.String(), tc.code, tc.says)
		}
	}
}

func TestTheSigningKeyIsGoneAfterTheDemo(t *testing.T) {
	s, err := start(t.Context(), options{
		Broker: "127.0.0.1:0", Issuer: "127.0.0.1:0", AWS: "127.0.0.1:0", Page: "127.0.0.1:3000", Mode: modeMinted, Headless: true, log: io.Discard,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(s.folder); !os.IsNotExist(err) {
		t.Errorf("the folder of the key: %v", err)
	}
}

// The lines of the README, and those that the demo prints, are run as they
// stand, against a demo on other ports.
func TestTheLinesToTryByHandWork(t *testing.T) {
	for _, tool := range []string{"bash", "curl", "jq", "aws"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%v; .ci/run installs it", err)
			}
			t.Skipf("%v: the lines to try by hand are not tried", err)
		}
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)<!-- byhand:begin -->\n```sh\n(.*?)```").FindSubmatch(readme)
	if block == nil {
		t.Fatal("the README has no lines to try by hand")
	}
	program := filepath.Join(t.TempDir(), "credential-broker")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../credential-broker").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, mode := range []string{modeMinted, modeForwarded} {
		s := startStory(t, func(o *options) { o.Mode = mode })
		here := strings.NewReplacer("http://127.0.0.1:9400/", s.Issuer, "http://127.0.0.1:8080", s.Broker, "http://127.0.0.1:9000", s.S3)
		t.Run("README, "+mode, func(t *testing.T) { byHand(t, here.Replace(string(block[1]))) })
		t.Run("demo, "+mode, func(t *testing.T) { byHand(t, printedLines(t, s, program)) })
	}
}

// printedLines are the commands that the demo prints, for a program that is built already.
func printedLines(t *testing.T, s *story, program string) string {
	t.Helper()
	var printed bytes.Buffer
	if err := introduce(&printed, s); err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	for line := range strings.Lines(printed.String()) {
		if strings.HasPrefix(line, "  ") && !strings.HasPrefix(line, "  broker") && !strings.HasPrefix(line, "  local") {
			lines.WriteString(line)
		}
	}
	const run = "go run ./cmd/credential-broker"
	if !strings.Contains(lines.String(), run) {
		t.Fatalf("the demo does not print %q", run)
	}
	return strings.ReplaceAll(lines.String(), run, program)
}

// byHand runs a script whose last three lines must be refused, and no other.
func byHand(t *testing.T, script string) {
	t.Helper()
	allowed, refused, ok := strings.Cut(script, "AccessDenied, by S3 itself")
	if !ok {
		t.Fatalf("no part that is refused in %q", script)
	}
	runs := strings.Split(strings.TrimSpace(refused[strings.Index(refused, "\n"):]), "\n")
	if len(runs) != 3 {
		t.Fatalf("%d lines that are refused: %q", len(runs), runs)
	}
	for i, line := range runs {
		allowed += fmt.Sprintf("\nif %s >refused-%d 2>&1; then echo 'not refused' >&2; exit 1; fi", line, i)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-euc", allowed)
	cmd.Dir = t.TempDir()
	for _, v := range os.Environ() { // nothing of the machine's own AWS set-up
		if !strings.HasPrefix(v, "AWS_") && !strings.HasPrefix(v, "HOME=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "HOME="+cmd.Dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for i, line := range runs {
		out, err := os.ReadFile(filepath.Join(cmd.Dir, fmt.Sprintf("refused-%d", i)))
		if err != nil || !bytes.Contains(out, []byte("AccessDenied")) && !bytes.Contains(out, []byte("403")) {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
}

package clients_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"credential-broker/broker/brokertest"
)

const (
	snippets = "../../../deploy/clients"
	// patience is many times what any client takes, fifteen seconds with its retries: a
	// machine may be busy.
	patience = 5 * time.Minute
	// large is above what most clients send whole, larger above what the AWS SDK for Go
	// does: 16 MiB.
	large, larger = 9 << 20, 17 << 20
	folder        = "files"
)

// client is one way to get credentials and to use them.
type client struct {
	name string
	// needs are commands that must be there.
	needs []string
	probe []string // a command that must succeed besides
	// run puts the files below the prefix, lists it and reads back into c.dir/back.
	run func(t *testing.T, c call) outcome
	// asks is how often the broker is asked for credentials in a run that goes well:
	// one for each process.
	asks int
	// said is what the user is told in each fault, and most the requests until then.
	said map[string]string // :: fault → regular expression; "": what is not in the table
	most map[string]int    // :: fault → requests; "": what is not in the table
	// denied is what the user is told where S3 refuses; empty: AccessDenied.
	denied string
	// size is that of the large file; 0: large.
	size int
	// prepare, if set, comes before run, with the broker and not its front.
	prepare func(t *testing.T, c call)
	// browser: it is a page, and names its objects by what they begin with.
	browser bool
	// only: faults are those of this path; the rest of the client has another test.
	only string
	// once: why there is nothing to renew.
	once string
}

// call is one run of a client.
type call struct {
	w         *world
	broker    string // the front
	token     string
	goodToken string // for what a client does beside what is tried
	prefix    string
	files     []string
	dir       string // of the files, and where the client runs
	renew     bool   // time is to pass between the files
}

type outcome struct {
	ok   bool
	said string
}

// need skips a test without a tool; with CI=true it fails.
func need(t *testing.T, missing string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not here; .ci/run and `make clients` install it", missing)
	}
	t.Skipf("%s is not here: this client is not tried", missing)
}

func (c client) check(t *testing.T, w *world) {
	t.Helper()
	if len(c.probe) > 0 && exec.CommandContext(t.Context(), c.probe[0], c.probe[1:]...).Run() != nil {
		need(t, strings.Join(c.probe, " "))
	}
	if c.browser {
		w.browser(t)
	}
	for _, tool := range c.needs {
		if _, err := exec.LookPath(tool); err != nil {
			need(t, tool)
		}
	}
}

// id is the name as a part of a key.
func (c client) id() string { return strings.ReplaceAll(c.name, " ", "-") }

func (c client) call(t *testing.T, w *world, name, below, token string, f *front) call {
	t.Helper()
	made := newCall(t, w, name, below, token, cmp.Or(c.size, large), f)
	if c.browser {
		made.prefix = below + name + "-"
	}
	if c.prepare != nil {
		c.prepare(t, made)
	}
	return made
}

// cameBack wants in ./back what was put.
func (c call) cameBack(t *testing.T) {
	t.Helper()
	for _, file := range c.files {
		if !same(t, file, filepath.Join(c.dir, "back", filepath.Base(file))) {
			t.Errorf("%s came back as something else", filepath.Base(file))
		}
	}
}

// newCall is a call with a small and a large file.
func newCall(t *testing.T, w *world, name, below, token string, size int, f *front) call {
	t.Helper()
	c := call{w: w, broker: w.broker, token: token, prefix: below + name + "/", dir: t.TempDir()}
	if f != nil {
		c.broker = f.url
	}
	if err := os.Mkdir(filepath.Join(c.dir, folder), 0o700); err != nil {
		t.Fatal(err)
	}
	for file, size := range map[string]int{"a-small.bin": 1000, "b-large.bin": size} {
		c.files = append(c.files, filepath.Join(c.dir, folder, file))
		noise(t, filepath.Join(c.dir, folder, file), size)
	}
	slices.Sort(c.files)
	return c
}

// snippet copies files of the page to where the client runs, with the broker's address
// in them.
func (c call) snippet(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		c.write(t, filepath.Base(name), c.text(t, name))
	}
}

func (c call) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (c call) text(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(snippets, name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "https://broker.example", c.broker)
}

// environment is what env/token.env says, and nothing of the machine's own AWS set-up.
func (c call) environment(t *testing.T, file string, more ...string) []string {
	t.Helper()
	env := []string{"HOME=" + c.dir, "TMPDIR=" + c.dir, "PATH=" + c.dir + "/bin:/usr/local/bin:/usr/bin:/bin", "AWS_ENDPOINT_URL_S3=" + c.w.s3, "TOKEN=" + c.token}
	for line := range strings.Lines(c.text(t, file)) {
		line = strings.TrimSpace(line)
		if name, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			env = append(env, name+"="+strings.ReplaceAll(strings.Trim(value, `"`), "$TOKEN", c.token))
		}
	}
	return append(env, more...)
}

// process runs a program of the snippet's folder until it ends.
func (c call) process(t *testing.T, env []string, name string, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = c.dir, env, time.Second // what a script has started holds its output
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		t.Errorf("%s has not ended: %s", name, out)
	}
	return outcome{err == nil, string(out)}
}

// wrap puts a command before the real one that tells it where S3 is: what the snippet
// has no need to say.
func (c call) wrap(t *testing.T, name, script string) {
	t.Helper()
	bin := filepath.Join(c.dir, "bin")
	if err := os.MkdirAll(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}

// The worlds and the browsers are started once; what waits does so together.
func TestEachClient(t *testing.T) {
	long, short := worlds(t)
	for _, group := range []struct {
		name string
		test func(t *testing.T, w *world, cl client)
		w    *world
	}{
		{"works inside its prefix", worksInside, long},
		{"is refused outside", isRefusedOutside, long},
		{"renews", renews, short},
		{"tells why it fails, and does not flood", tellsWhy, long},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, cl := range clients() {
				t.Run(cl.name, func(t *testing.T) {
					t.Parallel()
					cl.check(t, group.w)
					group.test(t, group.w, cl)
				})
			}
		})
	}
	t.Run("Uppy 5 keeps a failure until it is made afresh", func(t *testing.T) { uppy5KeepsAFailure(t, long) })
}

func worksInside(t *testing.T, w *world, cl client) {
	f := w.front(t, nil)
	c := cl.call(t, w, cl.id(), inside, w.token(t, cl.id(), nil), f)
	out := cl.run(t, c)
	if !out.ok {
		t.Fatalf("%s", out.said)
	}
	for _, file := range c.files {
		if !strings.Contains(out.said, filepath.Base(file)) {
			t.Errorf("%s is not in the listing:\n%s", filepath.Base(file), out.said)
		}
	}
	c.cameBack(t)
	parts := 0
	for _, e := range w.events(c.prefix) {
		if e.method == "PUT" && strings.Contains(e.target, "partNumber=") && e.status == 200 {
			parts++
		}
	}
	if parts < 2 {
		t.Errorf("the large file went in %d parts", parts)
	}
	if n := f.count(); n == 0 || n > cl.asks {
		t.Errorf("the broker was asked %d times, at most %d: %v", n, cl.asks, f.asked)
	}
	t.Logf("%d parts, the broker was asked %d times", parts, f.count())
}

func isRefusedOutside(t *testing.T, w *world, cl client) {
	cl.size = 1000 // nobody gets as far as to the large one
	c := cl.call(t, w, cl.id(), outside, w.token(t, cl.id()+"-outside", nil), w.front(t, nil))
	out := cl.run(t, c)
	if want := regexp.MustCompile(cmp.Or(cl.denied, "AccessDenied|Access Denied")); out.ok || !want.MatchString(out.said) {
		t.Errorf("outside of its prefix: %v, want %q in\n%s", out.ok, want, out.said)
	}
	events := w.events(c.prefix)
	if len(events) == 0 {
		t.Error("S3 was not asked")
	}
	for _, e := range events {
		if e.status < 400 {
			t.Errorf("S3 allowed %+v", e)
		}
	}
}

func renews(t *testing.T, w *world, cl client) {
	if cl.once != "" {
		t.Skip(cl.once)
	}
	token := w.token(t, cl.id(), nil)
	c := cl.call(t, w, cl.id(), inside, token, w.front(t, nil))
	before := len(w.events(c.prefix)) // what was prepared
	c.renew = true
	w.renew(c.prefix, token)
	if out := cl.run(t, c); !out.ok {
		t.Fatalf("%s", out.said)
	}
	if k := keys(w.events(c.prefix)[before:]); len(k) < 2 {
		t.Errorf("all was signed with %v", k)
	}
	c.cameBack(t)
}

// tellsWhy is what a user sees when there are no credentials, and what the broker has
// to bear.
func tellsWhy(t *testing.T, w *world, cl client) {
	cl.size = 1000         // nobody gets as far as to send one
	var all sync.WaitGroup // at once: they do little but wait
	for _, fault := range faults() {
		name := cl.id() + "-" + fault.name
		f := w.front(t, &fault)
		f.only = cl.only
		c := cl.call(t, w, name, inside, w.token(t, name, fault.token), f)
		if cl.only != "" {
			c.goodToken = w.token(t, name, nil)
		}
		before := len(w.events(c.prefix))
		all.Go(func() {
			began := time.Now()
			out := cl.run(t, c)
			want, most := cl.said[fault.name], cl.most[fault.name]
			if want == "" {
				want = cl.said[""]
			}
			if most == 0 {
				most = cl.most[""]
			}
			said := out.said
			if len(said) > 1000 { // a stack: what counts stands at one of its ends
				said = said[:500] + " … " + said[len(said)-500:]
			}
			t.Logf("%s: %d requests, %s: %s", fault.name, f.count(), time.Since(began).Round(100*time.Millisecond), said)
			if out.ok || !regexp.MustCompile(want).MatchString(out.said) {
				t.Errorf("%s: %v, want %q in\n%s", fault.name, out.ok, want, said)
			}
			if n := f.count(); n == 0 || n > most {
				t.Errorf("%s: the broker was asked %d times, at most %d", fault.name, n, most)
			}
			if e := w.events(c.prefix)[before:]; len(e) > 0 {
				t.Errorf("%s: S3 was asked without credentials: %v", fault.name, e)
			}
		})
	}
	all.Wait()
}

// asked skips a test unless the real clients are asked for. They have timeouts and
// retries of their own, by the clock on the wall: on a machine that does other things
// meanwhile, such as all other tests, they say something else. With CI=true who does
// not ask for them has to say that another stage does: CLIENTS=elsewhere.
func asked(t *testing.T) {
	t.Helper()
	switch clients := os.Getenv("CLIENTS"); {
	case clients == "elsewhere":
		t.Skip("the real clients are run by another stage: make clients-test")
	case clients == "" && os.Getenv("CI") == "true":
		t.Fatal("CI=true, and the real clients are not run: make clients-test does so, or CLIENTS=elsewhere says that another stage runs that")
	case clients == "":
		t.Skip("the real clients are run by make clients-test")
	}
}

// worlds are one of sessions that last for an hour, and one of sessions that are
// always about to end.
func worlds(t *testing.T) (long, short *world) {
	t.Helper()
	asked(t)
	p := newPages(t)
	long, short = newWorld(t, p.URL, 0), newWorld(t, p.URL, soon)
	long.browse(t, p)
	short.browse(t, p) // the same once more, which costs a quarter of a second
	return long, short
}

// soon is below what any client keeps to itself: the AWS SDKs ask anew from five
// minutes, botocore from ten. And long enough for a busy machine.
const soon = 4 * time.Minute

func clients() []client {
	// What the broker says, wherever the client passes it on.
	own := map[string]string{
		"401": "The token has expired", "403": "names no usable tenant", "429": "Too many requests", "503": "AWS cannot be asked now",
	}
	with := func(m map[string]string, more ...string) map[string]string {
		out := map[string]string{}
		for k, v := range m {
			out[k] = v
		}
		for i := 0; i < len(more); i += 2 {
			out[more[i]] = more[i+1]
		}
		return out
	}
	return append(inPages(own, with), []client{
		{
			name: "aws cli", needs: []string{awsCLI()}, asks: 3,
			said: with(own, "dead", "Connection.*closed|reset by peer"), most: map[string]int{"": 3},
			run: func(t *testing.T, c call) outcome {
				c.wrap(t, "aws", fmt.Sprintf(`exec %s --endpoint-url %s "$@"`, awsCLI(), c.w.s3))
				c.snippet(t, "aws-cli/upload.sh")
				c.write(t, "config", "[default]\ns3 =\n  max_concurrent_requests = 1\n")
				args := []string{"upload.sh", folder, "s3://" + brokertest.Bucket + "/" + c.prefix}
				return c.process(t, c.environment(t, "env/token.env", "AWS_CONFIG_FILE=config"), "sh", args...)
			},
		},
		{
			name: "credential_process", needs: []string{awsCLI(), "go"}, asks: 3,
			said: with(own, "dead", "reset by peer"), most: map[string]int{"": 1},
			run: func(t *testing.T, c call) outcome {
				c.wrap(t, "aws", fmt.Sprintf(`exec %s --endpoint-url %s "$@"`, awsCLI(), c.w.s3))
				c.wrap(t, "credential-broker", fmt.Sprintf(`exec %s "$@"`, program(t, "credential-broker")))
				c.snippet(t, "aws-cli/upload.sh", "aws-cli/config")
				c.write(t, "token.jwt", c.token)
				args := []string{"upload.sh", folder, "s3://" + brokertest.Bucket + "/" + c.prefix}
				return c.process(t, c.environment(t, "env/profile.env", "AWS_CONFIG_FILE=config"), "sh", args...)
			},
		},
		{
			name: "curl", needs: []string{"/usr/bin/curl", "jq", "split"}, asks: 1, once: "it fetches what lasts for an hour, each time anew",
			said: with(own, "dead", "reset by peer"), most: map[string]int{"": 1},
			run: func(t *testing.T, c call) outcome {
				c.wrap(t, "curl", fmt.Sprintf(`exec /usr/bin/curl --connect-to %s.s3.%s.amazonaws.com:443:%s --insecure "$@"`, brokertest.Bucket, brokertest.Region, c.w.secure))
				c.snippet(t, "curl/credentials.sh", "curl/upload.sh")
				return c.process(t, c.environment(t, "env/token.env"), "sh", "upload.sh", folder, brokertest.Bucket, c.prefix)
			},
		},
		{
			name: "agent", needs: []string{"go"}, asks: 1, size: larger, once: "the agent renews by itself, which its own tests show",
			said: with(own, "dead", "broker_unavailable"), most: map[string]int{"": 2},
			run: byAgent,
		},
		{
			name: "boto3", needs: []string{"/usr/bin/python3"}, probe: []string{"/usr/bin/python3", "-c", "import boto3"}, asks: 1,
			said: with(own, "dead", "Connection.*closed|reset by peer"), most: map[string]int{"": 3},
			run: func(t *testing.T, c call) outcome {
				c.snippet(t, "python/upload.py")
				args := append([]string{"upload.py", brokertest.Bucket, c.prefix}, c.files...)
				return c.process(t, c.environment(t, "env/token.env"), "/usr/bin/python3", args...)
			},
		},
		{
			// Debian's sends an ACL with each upload, which no session policy allows.
			name: "rclone", needs: []string{"/usr/bin/rclone", "go"}, asks: 2, size: larger,
			said: map[string]string{"": "NoCredentialProviders"}, most: map[string]int{"": 2},
			prepare: func(t *testing.T, c call) {
				if strings.HasPrefix(c.prefix, outside) {
					return
				}
				c.token, c.broker = c.w.token(t, "prepares", nil), c.w.broker
				if out := c.inGo(t); !out.ok {
					t.Fatalf("put what rclone is to read: %s", out.said)
				}
				if err := os.RemoveAll(filepath.Join(c.dir, "back")); err != nil {
					t.Error(err)
				}
			},
			run: func(t *testing.T, c call) outcome {
				return c.rclone(t, "rclone/download.sh", brokertest.Bucket+"/"+c.prefix)
			},
		},
		{
			name: "go", needs: []string{"go"}, asks: 1, size: larger,
			said: with(own, "dead", "reset by peer"), most: map[string]int{"401": 1, "403": 1, "429": 1, "": 3},
			run: func(t *testing.T, c call) outcome {
				return c.inGo(t)
			},
		},
		{
			name: "node", needs: []string{"node"}, asks: 1,
			said: with(own, "503", "503", "dead", "ECONNRESET|socket hang up"), most: map[string]int{"": 4},
			run: func(t *testing.T, c call) outcome {
				c.snippet(t, "node/upload.mjs")
				if err := os.Symlink(modules(t), filepath.Join(c.dir, "node_modules")); err != nil {
					t.Error(err)
				}
				args := append([]string{"upload.mjs", brokertest.Bucket, c.prefix}, c.files...)
				return c.process(t, c.environment(t, "env/token.env"), "node", args...)
			},
		},
	}...)
}

// awsCLI is the system's own, whatever else is first on the PATH: version 1 of some
// language's packages, for one.
func awsCLI() string {
	const own, debians = "/usr/local/bin/aws", "/usr/bin/aws"
	if _, err := os.Stat(debians); err != nil {
		return own
	}
	return debians
}

// inGo runs the snippet in Go.
func (c call) inGo(t *testing.T) outcome {
	t.Helper()
	args := append([]string{brokertest.Bucket, c.prefix}, c.files...)
	return c.process(t, c.environment(t, "env/token.env"), program(t, "upload"), args...)
}

func (c call) rclone(t *testing.T, script string, args ...string) outcome {
	t.Helper()
	c.snippet(t, script, "rclone/rclone.conf")
	more := c.environment(t, "env/rclone.env", "RCLONE_CONFIG=rclone.conf", "RCLONE_S3_ENDPOINT="+c.w.s3, "RCLONE_CONFIG_UPLOADS_PROVIDER=Other",
		"RCLONE_TRANSFERS=1", "RCLONE_MULTI_THREAD_STREAMS=0")
	return c.process(t, append(c.environment(t, "env/token.env"), more...), "sh", append([]string{filepath.Base(script)}, args...)...)
}

// rclone before 1.61 cannot upload: the page says so, and this test says when Debian
// has one that can.
func TestAnOldRcloneIsRefusedForItsACL(t *testing.T) {
	asked(t)
	out, err := exec.CommandContext(t.Context(), "/usr/bin/rclone", "version").Output()
	if err != nil {
		need(t, "/usr/bin/rclone")
	}
	if !strings.HasPrefix(string(out), "rclone v1.60") {
		t.Fatalf("%s: deploy/clients.md speaks of 1.60", out)
	}
	w := newWorld(t, "http://127.0.0.1:1", 0)
	c := newCall(t, w, "rclone-put", inside, w.token(t, "rclone-put", nil), large, nil)
	if out := c.rclone(t, "rclone/upload.sh", folder, brokertest.Bucket+"/"+c.prefix); out.ok || !strings.Contains(out.said, "AccessDenied") {
		t.Errorf("%+v", out)
	}
	for _, e := range w.events(c.prefix) {
		if e.method == "PUT" && e.status != 403 {
			t.Errorf("%+v", e)
		}
	}
}

// byAgent runs the snippet in Go beside an agent that has a token file.
func byAgent(t *testing.T, c call) outcome {
	c.write(t, "token.jwt", c.token)
	key := filepath.Join(c.dir, "agent-token")
	agent := exec.CommandContext(t.Context(), program(t, "credential-broker"), "agent", "--broker-url", c.broker,
		"--token-file", filepath.Join(c.dir, "token.jwt"), "--listen", "127.0.0.1:0", "--authorization-token-file", key)
	agent.Cancel = func() error { return agent.Process.Signal(os.Interrupt) }
	out, err := agent.StdoutPipe()
	if err == nil {
		err = agent.Start()
	}
	if err != nil {
		t.Error(err)
		return outcome{}
	}
	defer func() {
		_ = agent.Cancel()
		_ = agent.Wait()
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	name, address, _ := strings.Cut(strings.TrimSpace(line), "=")
	if err != nil || name != "AWS_CONTAINER_CREDENTIALS_FULL_URI" {
		t.Errorf("the agent said %q, %v", line, err)
		return outcome{}
	}
	env := c.environment(t, "env/agent.env")
	for i := range env {
		env[i] = strings.NewReplacer("http://127.0.0.1:9911/v1/credentials", address, "/run/credential-broker/token", key).Replace(env[i])
	}
	return c.process(t, env, program(t, "upload"), append([]string{brokertest.Bucket, c.prefix}, c.files...)...)
}

// program is one of ours, built once.
func program(t *testing.T, name string) string {
	t.Helper()
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "credential-broker-clients-") // outlives a test; the system removes it
	if err != nil {
		return "", err
	}
	for name, from := range map[string]string{"upload": "./testdata/go", "credential-broker": "../../../cmd/credential-broker"} {
		out, err := exec.Command("go", "build", "-o", filepath.Join(dir, name), from).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("build %s: %w: %s", name, err, out)
		}
	}
	return dir, nil
})

// modules are what `make clients` has installed.
func modules(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("node_modules")
	if err == nil {
		_, err = os.Stat(filepath.Join(path, ".package-lock.json"))
	}
	if err != nil {
		need(t, "what package.json names")
	}
	return path
}

// inPages are the clients in a browser. They say what the page's user sees.
func inPages(own map[string]string, with func(map[string]string, ...string) map[string]string) []client {
	helper := map[string]int{"401": 2, "403": 1, "": 4}
	return []client{
		{
			name: "fromHttp", browser: true, run: inBrowser("fromhttp"), asks: 1,
			// The SDK reads no body of a 5xx.
			said: with(own, "503", "status: 503", "dead", "Failed to fetch"), most: map[string]int{"": 2},
		},
		{name: "helper", browser: true, run: inBrowser("helper"), asks: 1, said: with(own, "dead", "network: no answer"), most: helper},
		{name: "uppy6", browser: true, run: inBrowser("uppy6"), asks: 2, said: with(own, "dead", "network: no answer"), most: helper},
		{
			name: "uppy5", browser: true, run: inBrowser("uppy5"), asks: 3, denied: "Non 2xx", only: "/s3/sts",
			said: with(own, "401", "Authorization required", "503", "Could not GET .*/s3/sts", "dead", "Could not GET .*/s3/sts"),
			most: map[string]int{"dead": 2, "": 1}, // Chromium tries a connection that it had before once more
		},
		{name: "amplify", browser: true, run: inBrowser("amplify"), asks: 1, said: with(own, "dead", "network: no answer"), most: helper},
	}
}

// What the page says that Debian 12's clients cannot do: reach a broker that is not on
// loopback, and read a token file.
func TestDebiansClientsAskLoopbackAndReadNoTokenFile(t *testing.T) {
	asked(t)
	w := newWorld(t, "http://127.0.0.1:1", 0)
	python := client{needs: []string{"/usr/bin/python3"}, probe: []string{"/usr/bin/python3", "-c", "import boto3"}}
	python.check(t, w)
	version, err := exec.CommandContext(t.Context(), "/usr/bin/python3", "-c", "import botocore; print(botocore.__version__)").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(version), "1.29.") {
		t.Skipf("botocore is %s here, and 1.29 in Debian 12: what that cannot do is not tried", bytes.TrimSpace(version))
	}
	f := w.front(t, nil)
	c := newCall(t, w, "old", inside, w.token(t, "old", nil), large, f)
	c.snippet(t, "python/upload.py")
	c.write(t, "token", c.token)
	c.write(t, "broken", c.token+"\n")
	for _, tc := range []struct {
		env  []string
		says string
	}{
		{[]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI=https://broker.example/v1/credentials"}, "Unsupported host 'broker.example'"},
		{[]string{"AWS_CONTAINER_AUTHORIZATION_TOKEN=", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=token"}, "missing_token"},
	} {
		out := c.process(t, c.environment(t, "env/token.env", tc.env...), "/usr/bin/python3", "upload.py", brokertest.Bucket, c.prefix, c.files[0])
		if out.ok || !strings.Contains(out.said, tc.says) {
			t.Errorf("%v: %v, want %q in\n%s", tc.env, out.ok, tc.says, out.said)
		}
	}
	// A line break at the end of a token is the client's error, before anybody is asked.
	before := f.count()
	out := c.process(t, c.environment(t, "env/token.env", "AWS_CONTAINER_AUTHORIZATION_TOKEN=", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE="+filepath.Join(c.dir, "broken")),
		program(t, "upload"), brokertest.Bucket, c.prefix, c.files[0])
	if out.ok || f.count() != before || !strings.Contains(out.said, "newline") {
		t.Errorf("%+v, and the broker was asked %d times", out, f.count()-before)
	}
}

package clients_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"credential-broker/broker/brokertest"
)

// pages serves the bundles, gives a page its files and takes back what it read.
type pages struct {
	*httptest.Server
	out string

	mu   sync.Mutex
	dirs map[string]string // :: call → its folder
}

func newPages(t *testing.T) *pages {
	t.Helper()
	p := &pages{out: t.TempDir(), dirs: map[string]string{}}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

func (p *pages) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	part := strings.Split(strings.TrimPrefix(r.URL.Path, "/"), "/")
	name := filepath.Base(r.URL.Path)
	p.mu.Lock()
	dir := ""
	if len(part) == 3 {
		dir = p.dirs[part[1]]
	}
	p.mu.Unlock()
	switch {
	case part[0] == "run" && dir != "":
		http.ServeFile(rw, r, filepath.Join(dir, folder, name))
	case part[0] == "back" && dir != "":
		data, err := io.ReadAll(r.Body)
		if err == nil {
			err = os.MkdirAll(filepath.Join(dir, "back"), 0o700)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "back", name), data, 0o600)
		}
		if err != nil {
			http.Error(rw, err.Error(), http.StatusInternalServerError)
		}
	case filepath.Ext(name) == ".html":
		rw.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = fmt.Fprintf(rw, "<!doctype html><title>%s</title><link rel=icon href=data:,><script type=module src=/%s.js></script>", name, strings.TrimSuffix(name, ".html"))
	default:
		http.ServeFile(rw, r, filepath.Join(p.out, name))
	}
}

// browser is a Chromium for which the world's S3 stands at the real names of its
// buckets.
type browser struct {
	pages *pages
	mu    sync.Mutex
	in    io.Writer
	calls map[string]chan outcome
	last  int
}

func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{os.Getenv("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	need(t, "chromium (apt-get install chromium, or name one in CHROMIUM)")
	return ""
}

// browse gives the world a browser, which starts with the first page.
func (w *world) browse(t *testing.T, p *pages) {
	start := sync.OnceValues(func() (*browser, error) { return w.startBrowser(t, p) })
	w.browser = func(t *testing.T) *browser {
		t.Helper()
		modules(t)
		chromium(t)
		if _, err := exec.LookPath("node"); err != nil {
			need(t, "node")
		}
		b, err := start()
		if err != nil {
			t.Fatalf("start the browser: %v", err)
		}
		return b
	}
}

// startBrowser bundles the pages and runs a browser until the test t ends.
func (w *world) startBrowser(t *testing.T, p *pages) (*browser, error) {
	cmd := exec.Command("node", "browser.mjs")
	cmd.Env = append(os.Environ(), "OUT="+p.out, "PAGE="+p.URL, "CHROMIUM="+chromium(t), "S3="+w.secure, "REGION="+brokertest.Region)
	cmd.Stderr, cmd.WaitDelay = t.Output(), 10*time.Second
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	lines, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	b := &browser{pages: p, in: in, calls: map[string]chan outcome{}}
	ready, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for s := bufio.NewScanner(lines); s.Scan(); {
			var answer struct {
				Ready, OK bool
				ID, Said  string
			}
			if json.Unmarshal(s.Bytes(), &answer) != nil {
				continue
			}
			if answer.Ready {
				close(ready)
				continue
			}
			b.mu.Lock()
			b.calls[answer.ID] <- outcome{answer.OK, answer.Said}
			b.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = in.Close() // it ends at the end of its input
		<-done
		if err := cmd.Wait(); err != nil {
			t.Errorf("the browser: %v", err)
		}
	})
	select {
	case <-ready:
	case <-done:
		return nil, errors.New("it has ended")
	}
	return b, nil
}

// pageCall is what a page is told.
type pageCall struct {
	ID, Page, Name, Broker, Token, GoodToken, Bucket, Region, Prefix string

	Files                 []string
	Outside, Renew, Twice bool
}

// do runs a page.
func (b *browser) do(t *testing.T, c call, p pageCall) outcome {
	t.Helper()
	b.mu.Lock()
	b.last++
	p.ID = fmt.Sprint(b.last, "-", p.Name)
	answer := make(chan outcome, 1)
	b.calls[p.ID] = answer
	b.mu.Unlock()
	b.pages.mu.Lock()
	b.pages.dirs[p.ID] = c.dir
	b.pages.mu.Unlock()
	for _, file := range c.files {
		p.Files = append(p.Files, filepath.Base(file))
	}
	p.Broker, p.Token, p.Bucket, p.Region = c.broker, c.token, brokertest.Bucket, brokertest.Region
	p.GoodToken = c.goodToken
	line, err := json.Marshal(map[string]any{
		"id": p.ID, "page": p.Page, "name": p.Name, "broker": p.Broker, "token": p.Token, "goodToken": p.GoodToken, "bucket": p.Bucket,
		"region": p.Region, "prefix": p.Prefix, "files": p.Files, "outside": p.Outside, "renew": p.Renew, "twice": p.Twice,
	})
	if err != nil {
		t.Error(err)
		return outcome{}
	}
	b.mu.Lock()
	_, err = b.in.Write(append(line, '\n'))
	b.mu.Unlock()
	if err != nil {
		t.Error(err)
		return outcome{}
	}
	select {
	case out := <-answer:
		return out
	case <-time.After(patience):
		t.Error("the page has not ended")
		return outcome{}
	}
}

// inBrowser is a client that is a page.
func inBrowser(page string) func(t *testing.T, c call) outcome {
	return func(t *testing.T, c call) outcome {
		prefix, name := cutLast(strings.TrimSuffix(c.prefix, "-"))
		return c.w.browser(t).do(t, c, pageCall{Page: page, Name: name, Prefix: prefix, Outside: strings.HasPrefix(c.prefix, outside), Renew: c.renew})
	}
}

// cutLast cuts a key after its last slash.
func cutLast(key string) (before, after string) {
	i := strings.LastIndex(key, "/")
	return key[:i+1], key[i+1:]
}

// A failure of /s3/sts stays with Uppy 5, which the page's remedy takes away.
func uppy5KeepsAFailure(t *testing.T, w *world) {
	c := newCall(t, w, "uppy5-twice", inside, w.token(t, "uppy5-twice", nil), large, nil)
	fault := faults()[3]
	f := w.front(t, &fault)
	f.only, f.times = "/s3/sts", 1
	c.broker = f.url
	out := w.browser(t).do(t, c, pageCall{Page: "uppy5", Name: "uppy5-twice", Prefix: inside, Twice: true})
	tries := strings.Split(out.said, " | ")
	if !out.ok || len(tries) != 3 || tries[0] == "done" || tries[1] == "done" || tries[2] != "done" {
		t.Errorf("%+v", out)
	}
	if n := f.count(); n != 2 {
		t.Errorf("/s3/sts was asked %d times: %v", n, f.asked)
	}
}

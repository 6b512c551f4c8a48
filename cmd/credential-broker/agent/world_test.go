package agent_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"credential-broker/broker"
	"credential-broker/cmd/credential-broker/agent"
)

const (
	brokerURL = "https://broker.example"
	tokenURL  = "https://acme.auth0.example/oauth/token"
	canary    = "canary-secret"
)

// internet is a broker and a token endpoint that answer as a test says, in place of
// the network, and count.
type internet struct {
	mu      sync.Mutex
	life    time.Duration // of credentials
	broker  func(*http.Request) *http.Response
	tokens  func(*http.Request) *http.Response
	asked   map[string]int // :: host → how often
	shown   []string       // the tokens that the broker was shown
	queries []string
	forms   []string
}

func newInternet() *internet {
	i := &internet{life: time.Hour, asked: map[string]int{}}
	i.broker, i.tokens = i.credentials, i.token
	return i
}

func (i *internet) RoundTrip(r *http.Request) (*http.Response, error) {
	i.mu.Lock()
	i.asked[r.URL.Host]++
	answer := i.broker
	if r.URL.String() == tokenURL {
		answer = i.tokens
		form, _ := io.ReadAll(r.Body)
		i.forms = append(i.forms, string(form))
	} else {
		i.shown = append(i.shown, r.Header.Get("Authorization"))
		i.queries = append(i.queries, r.URL.Query().Encode())
	}
	i.mu.Unlock()
	response := answer(r)
	if response == nil {
		return nil, errors.New("connection refused")
	}
	if response == never {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return response, nil
}

// never is answered when the asker's patience is at its end.
var never = &http.Response{}

func (i *internet) set(broker func(*http.Request) *http.Response) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.broker = broker
}

func (i *internet) count(host string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked[host]
}

func reply(status int, body string, headers ...string) *http.Response {
	w := httptest.NewRecorder()
	w.Header().Set("Content-Type", "application/json")
	for n := 0; n < len(headers); n += 2 {
		w.Header().Set(headers[n], headers[n+1])
	}
	w.WriteHeader(status)
	_, _ = w.WriteString(body)
	return w.Result()
}

func (i *internet) credentials(r *http.Request) *http.Response {
	end := time.Now().Add(i.life).UTC().Format(time.RFC3339)
	version, session := "", "Token"
	if r.URL.Query().Get("format") == "process" {
		version, session = `"Version":1,`, "SessionToken"
	}
	return reply(200, fmt.Sprintf(`{%s"AccessKeyId":"ASIA%d","SecretAccessKey":%q,%q:%q,"Expiration":%q,"Bucket":"b"}`,
		version, i.count(r.URL.Host), canary, session, canary, end))
}

func (i *internet) token(*http.Request) *http.Response {
	return reply(200, fmt.Sprintf(`{"access_token":"canary.token.%d","token_type":"Bearer","expires_in":7200}`, i.count("acme.auth0.example")))
}

func refuse(status int, code string, headers ...string) func(*http.Request) *http.Response {
	return func(*http.Request) *http.Response {
		return reply(status, `{"Code":"`+code+`","Message":"why","RequestId":"id1"}`, headers...)
	}
}

func away(*http.Request) *http.Response { return nil }

func hang(*http.Request) *http.Response { return never }

// world is an agent in a bubble of time.
type world struct {
	*testing.T
	*internet
	agent *agent.Agent
	log   bytes.Buffer
	mu    sync.Mutex
}

func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func (w *world) logged() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

func options(i *internet) agent.Options {
	return agent.Options{
		BrokerURL: brokerURL, ClientID: "reports", ClientSecret: broker.NewSecret(canary), TokenURL: tokenURL, Audience: "https://api.example",
		Transport: i,
	}
}

// inWorld runs a test with an agent that has made its first attempt.
func inWorld(t *testing.T, prepare func(*internet, *agent.Options), test func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, internet: newInternet()}
		o := options(w.internet)
		o.Log = slog.New(slog.NewJSONHandler(w, nil))
		if prepare != nil {
			prepare(w.internet, &o)
		}
		var err error
		if w.agent, err = agent.New(o); err != nil {
			t.Fatal(err)
		}
		go w.agent.Run(t.Context())
		synctest.Wait()
		test(w)
		if strings.Contains(w.logged(), "canary") {
			t.Errorf("a secret is logged: %s", w.logged())
		}
	})
}

// after lets time pass, and everything that was to happen in it.
func after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// has fails unless the agent gives these credentials.
func (w *world) has(id string) {
	w.Helper()
	got, err := w.agent.Get(w.Context())
	if err != nil || got.AccessKeyID != id {
		w.Fatalf("%+v, %v, want %s; log:\n%s", got, err, id, w.logged())
	}
}

// fails returns the problem that the agent has, and fails if it is another.
func (w *world) fails(code string) *agent.Problem {
	w.Helper()
	got, err := w.agent.Get(w.Context())
	var p *agent.Problem
	if !errors.As(err, &p) || p.Code != code || got != nil {
		w.Fatalf("%+v, %v, want %s; log:\n%s", got, err, code, w.logged())
	}
	return p
}

func file(t testing.TB, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
	return path
}

package agent

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Path is where the credentials are.
const Path = "/v1/credentials"

// Handler answers the programs of this machine.
type Handler struct {
	agent *Agent
	port  string
	key   *Authorization
}

// NewHandler makes the handler for a listener's address. Who asks has to show the
// authorization; with none, anybody on this machine is answered.
func NewHandler(a *Agent, address net.Addr, key *Authorization) (*Handler, error) {
	_, port, err := net.SplitHostPort(address.String())
	if err != nil {
		return nil, fmt.Errorf("serve on %s: %w", address, err)
	}
	return &Handler{agent: a, port: port, key: key}, nil
}

// ServeHTTP implements http.Handler: GET Path, and GET /readyz, which tells nothing
// but whether there are credentials.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Pragma", "no-cache")
	header.Set("X-Content-Type-Options", "nosniff")
	if p := h.refuse(r); p != nil {
		h.sendProblem(w, p)
		return
	}
	creds, err := h.agent.Get(r.Context())
	if r.URL.Path == "/readyz" {
		status, text := http.StatusOK, `{"Status":"ready"}`
		if err != nil {
			status, text = http.StatusServiceUnavailable, `{"Status":"not ready"}`
		}
		sendHeader(w, status)
		_, _ = w.Write([]byte(text)) // who went away needs no answer
		return
	}
	if err != nil {
		h.sendProblem(w, err)
		return
	}
	sendHeader(w, http.StatusOK)
	_, _ = creds.WriteTo(w)
}

// refuse returns why a request gets nothing, or nil. What a browser sends is refused
// before the authorization is looked at: a web page that has its own name point at
// 127.0.0.1 is told by Host, and any page by Origin, Referer or Sec-Fetch-Site; what
// a proxy passes on, which may be from anywhere, by the headers that it adds, as the
// EC2 metadata service does it.
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
func (h *Handler) refuse(r *http.Request) *Problem {
	if !h.ownHost(r.Host) {
		return &Problem{Status: http.StatusForbidden, Code: codeForbidden, Message: "The agent is asked by its loopback address, and by no other name."}
	}
	for _, name := range []string{"Origin", "Referer", "Sec-Fetch-Site", "X-Forwarded-For", "Forwarded", "Via"} {
		if len(r.Header.Values(name)) > 0 {
			return &Problem{Status: http.StatusForbidden, Code: codeForbidden, Message: "The agent answers no browser and no proxy: the request has the header " + name + "."}
		}
	}
	switch {
	case r.URL.Path != Path && r.URL.Path != "/readyz":
		return &Problem{Status: http.StatusNotFound, Code: codeNotFound, Message: "There is nothing here. The credentials are at " + Path + "."}
	case r.Method != http.MethodGet:
		return &Problem{Status: http.StatusMethodNotAllowed, Code: codeMethod, Message: "Only GET is answered."}
	case r.URL.RawQuery != "" || r.URL.ForceQuery:
		return &Problem{Status: http.StatusBadRequest, Code: codeInvalidRequest, Message: "A request cannot say what it wants: that stands on the agent's command line."}
	case r.URL.Path == Path && !h.key.shown(r.Header.Values("Authorization")):
		return &Problem{
			Status: http.StatusUnauthorized, Code: codeUnauthorized,
			Message: "Set AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE to the file that the agent was given as --authorization-token-file.",
		}
	}
	return nil
}

// ownHost holds for a loopback name with the agent's own port.
func (h *Handler) ownHost(host string) bool {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		name, port = host, "80" // RFC 9110 §7.2: without a port it is the scheme's
	}
	return port == h.port && isLoopback(name)
}

func (h *Handler) sendProblem(w http.ResponseWriter, err error) {
	p, ok := err.(*Problem) //nolint:errorlint // Get and refuse give nothing else, and nothing wraps it
	if !ok {
		p = &Problem{Status: http.StatusInternalServerError, Code: "internal", Message: "An error in the agent."}
	}
	if p.Status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", http.MethodGet)
	}
	if p.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(p.RetryAfter.Seconds()))))
	}
	body, err := json.Marshal(struct {
		Code, Message string
		RequestID     string `json:"RequestId,omitempty"`
	}{p.Code, p.Message, p.RequestID})
	if err != nil {
		body = []byte("{}") // shouldn't happen: three texts
	}
	sendHeader(w, p.Status)
	_, _ = w.Write(body)
}

// sendHeader sets the exact type: the AWS SDK for Go reads errors of no other.
func sendHeader(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
}

// Authorization is what programs have to show: its digest, so that nothing that
// prints it shows it. Nil is shown by everybody.
type Authorization struct{ digest [sha256.Size]byte }

func (a *Authorization) shown(values []string) bool {
	if a == nil {
		return true
	}
	if len(values) != 1 {
		return false
	}
	digest := sha256.Sum256([]byte(values[0]))
	return subtle.ConstantTimeCompare(digest[:], a.digest[:]) == 1
}

// stopTime is how long requests that are under way have when the agent stops: none
// waits longer.
const stopTime = 2 * time.Second

// Serve runs the agent and answers on the listener until ctx ends, and lets what is
// under way finish.
func (a *Agent) Serve(ctx context.Context, l net.Listener, key *Authorization) error {
	h, err := NewHandler(a, l.Addr(), key)
	if err != nil {
		return err
	}
	server := newServer(h, a.log)
	running, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	work.Go(func() { a.Run(running) })
	work.Go(func() {
		<-running.Done()
		limited, stop := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
		defer stop()
		_ = server.Shutdown(limited) // what is left then is cut off
	})
	err = server.Serve(l)
	cancel()
	work.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve on %s: %w", l.Addr(), err)
}

// newServer bounds what a program on this machine can hold: requests have no body,
// and a short header.
func newServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelInfo),
		Handler:  h, ReadHeaderTimeout: 2 * time.Second, ReadTimeout: 2 * time.Second, WriteTimeout: patience + 5*time.Second,
		IdleTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10,
	}
}

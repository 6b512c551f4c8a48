package httpapi

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"credential-broker/broker"
)

// event is what is logged of one request: filled in on the way, written once. It is
// also the writer of the request's answer, by which it is found, and is used again for
// another request when this one is over: nothing keeps it.
type event struct {
	http.ResponseWriter

	id      string
	address string
	grant   string
	source  string
	class   broker.Class
	err     error
	stack   []byte

	request  broker.Request // as far as it has been read
	recorded bool           // the broker was asked: its audit record says what came of it

	json []string // Content-Type, shared as header's is
	line line     // the log's
	body []byte   // room for an answer
}

// Unwrap is for http.ResponseController.
func (e *event) Unwrap() http.ResponseWriter { return e.ResponseWriter }

// eventOf returns the request's event. Outside of a request it is a fresh one,
// so that nobody needs to check.
func eventOf(c echo.Context) *event {
	if e, ok := c.Response().Writer.(*event); ok {
		return e
	}
	return &event{json: []string{"application/json"}}
}

// maxKept bounds what an event keeps of the rooms that it has made: an answer has
// some 1,600 bytes, and with the longest session token that STS makes 6,000.
const maxKept = 16 << 10

// forget makes the event as good as new, but for its rooms.
func (e *event) forget() {
	body := e.body[:0]
	clear(e.body[:cap(e.body)]) // it has held credentials
	if cap(body) > maxKept {
		body = nil
	}
	*e = event{body: body, json: e.json}
}

// around makes a handler of a route's own: everything that every request has, in one.
// It gives the request its id, sets the headers that every answer has, answers for
// CORS, makes a panic an internal error, sends what is refused, writes the one log
// line and tells observe, which may be nil. What it returns never fails. An id that the
// caller sends is not taken: it would let one choose what joins the log with the audit
// record.
func (a *API) around(observe func(context.Context, Answer), next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		begin := a.cfg.Now()
		note, _ := a.events.Get().(*event)
		if note == nil {
			note = &event{json: a.json}
		}
		id := a.ids.next()
		r, w := c.Request(), c.Response()
		agent := r.UserAgent()
		note.id, note.address, note.ResponseWriter = id[0], c.RealIP(), w.Writer
		note.request = broker.Request{ID: note.id, Address: note.address, UserAgent: agent[:min(len(agent), maxUserAgentBytes)]}
		w.Writer = note
		h := w.Header()
		h["X-Request-Id"] = id
		for _, always := range a.always {
			h[always.name] = always.value
		}
		if err := a.contained(c, note, next); err != nil {
			a.sendError(a.audited(c, note, err), c)
		}
		end := a.cfg.Now()
		took := end.Sub(begin)
		a.log(c, note, end, took)
		if observe != nil {
			observe(r.Context(), a.answer(c, note, took))
		}
		w.Writer = note.ResponseWriter
		note.forget()
		a.events.Put(note)
		return nil
	}
}

// contained makes a panic an internal error. The stack goes to the log; it holds no
// argument's content. http.ErrAbortHandler goes on, as net/http wants it.
func (a *API) contained(c echo.Context, note *event, next echo.HandlerFunc) (err error) {
	defer func() {
		switch r := recover(); r {
		case nil:
		case http.ErrAbortHandler:
			panic(r)
		default:
			note.stack = debug.Stack()
			err = fmt.Errorf("%w: panic: %T", broker.ErrInternal, r) // its value could hold anything
		}
	}()
	done, err := a.cors(c)
	if done || err != nil {
		return err
	}
	return next(c)
}

// header is one that every answer has. Its value is shared: who changes it for an
// answer puts another in its place.
type header struct {
	name  string
	value []string
}

// always is what every answer says: it is nobody else's, and nobody keeps it.
func always() []header {
	return []header{
		{"Cache-Control", []string{"no-store"}},
		{"Pragma", []string{"no-cache"}},
		{"Vary", []string{"Authorization, Origin"}},
		{"X-Content-Type-Options", []string{"nosniff"}},
	}
}

// cors answers for the exact origins of the configuration, without credentials
// mode, and refuses every other before any work. A request without an Origin is
// no browser's, or one of the same origin. It reports whether the answer is given.
func (a *API) cors(c echo.Context) (done bool, err error) {
	r := c.Request()
	origins := r.Header["Origin"]
	if len(origins) == 0 {
		return false, nil
	}
	allowed, ok := a.origins[origins[0]]
	if len(origins) > 1 || !ok {
		return false, errOriginNotAllowed
	}
	h := c.Response().Header()
	h["Access-Control-Allow-Origin"] = allowed
	h["Access-Control-Expose-Headers"] = a.exposed
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false, nil
	}
	if !strings.HasPrefix(r.URL.Path, "/v1/") && r.URL.Path != uppyPath {
		return false, errNotFound
	}
	h.Set("Access-Control-Allow-Methods", "GET, POST, DELETE")
	h.Set("Access-Control-Allow-Headers", "authorization, content-type")
	h.Set("Access-Control-Max-Age", "600") // ten minutes: a withdrawn origin is refused at the request itself anyway
	return true, c.NoContent(http.StatusNoContent)
}

// guard refuses an address that has failed too often before anything is read of
// what it brings, and counts its failures: what cannot be read and what does not
// show who it is. Probes and documents are not guarded: they cost nothing, and AWS
// and whoever balances the load have addresses too.
func (a *API) guard(next echo.HandlerFunc) echo.HandlerFunc {
	if a.cfg.Addresses == nil {
		return next
	}
	return func(c echo.Context) error {
		address, _ := netip.ParseAddr(eventOf(c).address) // what is none is counted as one
		if err := a.cfg.Addresses.Check(address); err != nil {
			return err
		}
		err := next(c)
		if err != nil && slices.Contains([]int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusRequestEntityTooLarge}, refusalFor(err).status) {
			a.cfg.Addresses.Failed(address)
		}
		return err
	}
}

// actionOf is what a request asks for, and "" where nothing is decided about a
// caller: probes, documents, preflights, addresses and methods that are not there.
func actionOf(c echo.Context) broker.Action {
	switch c.Request().Method + " " + c.Path() {
	case "GET /v1/credentials", "POST /v1/credentials", "GET " + uppyPath:
		return broker.ActionCredentials
	case "DELETE /v1/credentials":
		return broker.ActionForget
	case "GET /v1/grants":
		return broker.ActionGrants
	case "POST /v1/backchannel-logout":
		return broker.ActionLogout
	default:
		return ""
	}
}

// audited has a record written of what was refused on the way to the broker: for
// its origin, for want of a token or of sense, by the limit of its address. It returns
// what is to be sent.
func (a *API) audited(c echo.Context, note *event, err error) error {
	action := actionOf(c)
	if note.recorded || action == "" {
		return err
	}
	if class := broker.ClassOf(err); class == broker.ErrRateLimited || class == errOriginNotAllowed {
		shed := &a.limited
		if class == errOriginNotAllowed {
			shed = &a.foreign
		}
		more, tell := shed.one(a.cfg.Now())
		if !tell {
			return err
		}
		err = fmt.Errorf("%w; so were %d requests of any address since the last such record", err, more)
	}
	return a.cfg.Broker.Refuse(c.Request().Context(), action, note.request, err)
}

// shed counts what is refused for its address, or for its origin, alone. Nothing is
// decided there about a caller, and a flood must not fill the disk, without which
// nothing is released: one record a second tells of all.
type shed struct {
	mu   sync.Mutex // guards what follows
	told time.Time
	more int // since then
}

// one counts a refusal, and says whether a record is due and of how many more.
func (s *shed) one(now time.Time) (more int, tell bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if since := now.Sub(s.told); since >= 0 && since < time.Second {
		s.more++
		return 0, false
	}
	more, s.more, s.told = s.more, 0, now
	return more, true
}

// ids gives requests their ids: 128 random bits in hexadecimal, each as the value of a
// header. They are made many at a time, which is one call and two allocations for all.
// The zero value is ready; it is safe for concurrent use.
type ids struct{ made sync.Pool }

// idsAtATime keeps 3 kB alive for as long as one of them is.
const idsAtATime = 64

// batch are ids that are made, and how many of them are given.
type batch struct {
	values []string
	given  int
}

func (i *ids) next() []string {
	b, _ := i.made.Get().(*batch)
	if b == nil {
		b = newBatch()
	}
	at := b.given
	if b.given++; b.given < len(b.values) {
		i.made.Put(b)
	}
	return b.values[at : at+1 : at+1]
}

func newBatch() *batch {
	var raw [idsAtATime * 16]byte
	_, _ = rand.Read(raw[:]) // never fails; see crypto/rand
	text := hex.EncodeToString(raw[:])
	b := &batch{values: make([]string, idsAtATime)}
	for i := range b.values {
		b.values[i] = text[32*i : 32*(i+1)]
	}
	return b
}

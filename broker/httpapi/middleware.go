package httpapi

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
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

// event is what is logged of one request: filled in on the way, written once.
type event struct {
	id     string
	grant  string
	source string
	class  broker.Class
	err    error
	stack  []byte

	request  broker.Request // as far as it has been read
	recorded bool           // the broker was asked: its audit record says what came of it
}

const eventKey = "event"

// eventOf returns the request's event. Outside of a request it is a fresh one,
// so that nobody needs to check.
func eventOf(c echo.Context) *event {
	if e, ok := c.Get(eventKey).(*event); ok {
		return e
	}
	return &event{}
}

// event gives the request its id, writes its one log line and tells observe. An id
// that the caller sends is not taken: it would let one choose what joins the log
// with the audit record.
func (a *API) event(observe func(context.Context, Answer)) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			begin := a.cfg.Now()
			var id [16]byte
			_, _ = rand.Read(id[:]) // never fails; see crypto/rand
			note := &event{id: hex.EncodeToString(id[:])}
			agent := c.Request().UserAgent()
			note.request = broker.Request{ID: note.id, Address: c.RealIP(), UserAgent: agent[:min(len(agent), maxUserAgentBytes)]}
			c.Set(eventKey, note)
			c.Response().Header().Set("X-Request-Id", note.id)
			if err := next(c); err != nil {
				c.Error(err)
			}
			took := a.cfg.Now().Sub(begin)
			a.log(c, note, took)
			if observe != nil {
				observe(c.Request().Context(), a.answer(c, note, took))
			}
			return nil
		}
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
// its origin, for want of a token or of sense, by the limit of its address.
func (a *API) audited(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		err := next(c)
		note, action := eventOf(c), actionOf(c)
		if err == nil || note.recorded || action == "" {
			return err
		}
		if broker.ClassOf(err) == broker.ErrRateLimited {
			more, tell := a.shed.one(a.cfg.Now())
			if !tell {
				return err
			}
			err = fmt.Errorf("%w; so were %d requests of any address since the last such record", err, more)
		}
		return a.cfg.Broker.Refuse(c.Request().Context(), action, note.request, err)
	}
}

// shed counts what is refused for its address alone. Nothing is decided there about
// a caller, and a flood must not fill the disk, without which nothing is released:
// one record a second tells of all.
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

func (a *API) log(c echo.Context, note *event, took time.Duration) {
	attrs := []slog.Attr{
		slog.String("request_id", note.id), slog.String("method", knownMethod(c.Request().Method)), slog.String("route", c.Path()), // the pattern, or nothing

		slog.Int("status", c.Response().Status), slog.Duration("duration", took), slog.Int64("bytes", c.Response().Size),
		slog.String("address", c.RealIP()),
	}
	for _, s := range [][2]string{{"code", string(note.class)}, {"grant", note.grant}, {"source", note.source}} {
		if s[1] != "" {
			attrs = append(attrs, slog.String(s[0], s[1]))
		}
	}
	level := slog.LevelInfo // the caller's fault, or nobody's
	if c.Response().Status >= http.StatusInternalServerError {
		level = slog.LevelError
	}
	if note.err != nil && (level == slog.LevelError || !note.recorded) {
		attrs = append(attrs, slog.String("error", broker.Redact(note.err.Error())))
	}
	if note.stack != nil {
		attrs = append(attrs, slog.String("stack", string(note.stack)))
	}
	a.cfg.Log.LogAttrs(c.Request().Context(), level, "request", attrs...)
}

// knownMethod keeps invented methods out of the log.
func knownMethod(m string) string {
	if slices.Contains([]string{http.MethodGet, http.MethodPost, http.MethodDelete, http.MethodOptions, http.MethodHead, http.MethodPut, http.MethodPatch}, m) {
		return m
	}
	return "other"
}

// recover makes a panic an internal error. The stack goes to the log; it holds
// no argument's content. http.ErrAbortHandler goes on, as net/http wants it.
func (a *API) recover(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		defer func() {
			switch r := recover(); r {
			case nil:
			case http.ErrAbortHandler:
				panic(r)
			default:
				eventOf(c).stack = debug.Stack()
				err = fmt.Errorf("%w: panic: %T", broker.ErrInternal, r) // its value could hold anything
			}
		}()
		return next(c)
	}
}

// headers sets what every answer has: it is nobody else's, and nobody keeps it.
func (a *API) headers(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		h := c.Response().Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Pragma", "no-cache")
		h.Set("Vary", "Authorization, Origin")
		h.Set("X-Content-Type-Options", "nosniff")
		return next(c)
	}
}

// cors answers for the exact origins of the configuration, without credentials
// mode, and refuses every other before any work. A request without an Origin is
// no browser's, or one of the same origin.
func (a *API) cors(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r, h := c.Request(), c.Response().Header()
		origins := r.Header.Values("Origin")
		if len(origins) == 0 {
			return next(c)
		}
		if len(origins) > 1 || !a.origins[origins[0]] {
			return errOriginNotAllowed
		}
		h.Set("Access-Control-Allow-Origin", origins[0])
		h.Set("Access-Control-Expose-Headers", "X-Request-Id, Retry-After, WWW-Authenticate")
		if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
			return next(c)
		}
		if !strings.HasPrefix(r.URL.Path, "/v1/") && r.URL.Path != uppyPath {
			return errNotFound
		}
		h.Set("Access-Control-Allow-Methods", "GET, POST, DELETE")
		h.Set("Access-Control-Allow-Headers", "authorization, content-type")
		h.Set("Access-Control-Max-Age", "600") // ten minutes: a withdrawn origin is refused at the request itself anyway
		return c.NoContent(http.StatusNoContent)
	}
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
		address, _ := netip.ParseAddr(c.RealIP()) // what is none is counted as one
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

func ipNet(p netip.Prefix) *net.IPNet {
	p = p.Masked()
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

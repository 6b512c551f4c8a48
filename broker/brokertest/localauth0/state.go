package localauth0

import (
	"net/http"
	"slices"
	"sync"
	"time"
)

// maxEntries bounds each kind of thing that the tenant remembers. A load test of 300 sign-ins a second fills it in
// five minutes, well past the life of a code; at some 500 bytes each it is 50 MB.
const maxEntries = 100_000

// state is what the tenant remembers between requests. Everything is keyed by a random 256-bit value that only its
// holder knows.
type state struct {
	now func() time.Time

	mu       sync.Mutex // guards what follows, what the pointers point to included
	sessions shelf[session]
	codes    shelf[*code]
	refresh  shelf[*refreshToken]
	opaque   shelf[signIn] // access tokens without an API, for /userinfo only
}

func newState(now func() time.Time) state {
	return state{
		now: now, sessions: shelf[session]{}, codes: shelf[*code]{}, refresh: shelf[*refreshToken]{}, opaque: shelf[signIn]{},
	}
}

// session is a browser that has signed in.
type session struct {
	id    string // sid of the ID tokens
	email string
}

// code is an authorization code and what it is bound to.
type code struct {
	signIn    signIn
	redirect  string
	challenge string
	used      bool
	family    *family
}

// family is every refresh token that descends from one sign-in.
type family struct{ revoked bool }

type refreshToken struct {
	signIn  signIn
	expires time.Time
	used    bool
	family  *family
}

// shelf is a bounded map whose entries expire. :: random key → entry
type shelf[V any] map[string]shelved[V]

type shelved[V any] struct {
	value   V
	expires time.Time
}

func (s shelf[V]) put(now time.Time, key string, value V, expires time.Time) error {
	if len(s) >= maxEntries {
		for k, e := range s {
			if !now.Before(e.expires) {
				delete(s, k)
			}
		}
	}
	if len(s) >= maxEntries {
		return &oauthError{http.StatusServiceUnavailable, "temporarily_unavailable", "too many sign-ins at once"}
	}
	s[key] = shelved[V]{value, expires}
	return nil
}

func (s shelf[V]) get(now time.Time, key string) (V, bool) {
	e, ok := s[key]
	if !ok || !now.Before(e.expires) {
		var none V
		return none, false
	}
	return e.value, true
}

func (st *state) addSession(email string) (key, sid string, err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	key, sid = randomToken(), randomToken()
	now := st.now()
	return key, sid, st.sessions.put(now, key, session{id: sid, email: email}, now.Add(sessionLife))
}

func (st *state) session(key string) (session, bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.sessions.get(st.now(), key)
}

func (st *state) dropSession(key string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	delete(st.sessions, key)
}

func (st *state) addCode(c *code) (key string, err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	key = randomToken()
	now := st.now()
	c.family = &family{}
	return key, st.codes.put(now, key, c, now.Add(codeLife))
}

// takeCode yields a code once. A second attempt also revokes the refresh tokens that the first one led to, since one
// of the two is a thief (RFC 6749 §4.1.2).
func (st *state) takeCode(key string) (*code, bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	c, ok := st.codes.get(st.now(), key)
	if !ok {
		return nil, false
	}
	if c.used {
		c.family.revoked = true
		return nil, false
	}
	c.used = true
	return c, true
}

func (st *state) addOpaque(in signIn, life time.Duration) (string, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	key := randomToken()
	now := st.now()
	return key, st.opaque.put(now, key, in, now.Add(life))
}

func (st *state) opaqueToken(key string) (signIn, bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.opaque.get(st.now(), key)
}

func (st *state) addRefresh(in signIn, f *family) (string, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	now := st.now()
	in.nonce = "" // OpenID Connect Core §12.2: belongs to the first ID token only
	return st.putRefresh(now, &refreshToken{signIn: in, expires: now.Add(refreshLife), family: f})
}

func (st *state) putRefresh(now time.Time, t *refreshToken) (string, error) {
	key := randomToken()
	return key, st.refresh.put(now, key, t, t.expires)
}

// rotate trades a refresh token for its successor, which ends when the first of the family would have. A token that
// comes back after its use revokes the whole family (RFC 9700 §4.14.2). Scopes may only narrow (RFC 6749 §6); a
// request that asks for more leaves the token unused, as does one by another client.
func (st *state) rotate(key, clientID string, scopes []string) (signIn, string, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	now := st.now()
	refused := invalidGrant("Unknown or invalid refresh token.")
	old, ok := st.refresh.get(now, key)
	if !ok || old.signIn.client.ID != clientID || old.family.revoked {
		return signIn{}, "", refused
	}
	if old.used {
		old.family.revoked = true
		return signIn{}, "", refused
	}
	for _, want := range scopes {
		if !slices.Contains(old.signIn.scopes, want) {
			return signIn{}, "", &oauthError{http.StatusBadRequest, "invalid_scope", "the scope exceeds the one that was granted"}
		}
	}
	old.used = true
	next, err := st.putRefresh(now, &refreshToken{signIn: old.signIn, expires: old.expires, family: old.family})
	in := old.signIn
	if len(scopes) > 0 {
		in.scopes = scopes
	}
	return in, next, err
}

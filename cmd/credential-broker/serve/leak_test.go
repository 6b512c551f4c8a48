package serve_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"credential-broker/broker/brokertest/localauth0"
	"credential-broker/cmd/credential-broker/serve"
)

// leak is a world in which everything that goes out is looked at.
type leak struct {
	*world
	hidden   canaries // must be seen nowhere
	released canaries // must be seen in the body of an answer with credentials alone
	minted   atomic.Int64
	audited  func() error        // nil, or what the audit log's disk does
	logged   atomic.Pointer[any] // what the log panics with at the next request
	codes    map[string]bool
}

// Write is the audit log's disk.
func (l *leak) Write(p []byte) (int, error) {
	if l.audited != nil {
		if err := l.audited(); err != nil {
			return 0, err
		}
	}
	return l.audit.Write(p)
}

// noisy is the log, which a test can have panic.
type noisy struct{ *leak }

func (n noisy) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(`"msg":"request"`)) { // others come from the background, where a panic is the end
		if value := n.logged.Swap(nil); value != nil {
			panic(*value)
		}
	}
	return n.log.Write(p)
}

// broken is a connection that panics at its first write.
type broken struct {
	net.Conn
	value atomic.Pointer[any]
}

func (b *broken) Write(p []byte) (int, error) {
	if value := b.value.Swap(nil); value != nil {
		panic(*value)
	}
	return b.Conn.Write(p)
}

// unseen fails if anything that is secret is in the text.
func (l *leak) unseen(where, text string) {
	l.Helper()
	l.hidden.unseen(l, where, text)
	l.released.unseen(l, where, text)
}

// sts answers as the local STS does, and learns what is secret.
func (l *leak) sts(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	form, _ := url.ParseQuery(string(body))
	l.hidden.addToken("the minted token", form.Get("WebIdentityToken"))
	l.minted.Add(1)
	r.Body = io.NopCloser(bytes.NewReader(body))
	w := httptest.NewRecorder()
	l.world.sts.ServeHTTP(w, r)
	for _, name := range []string{"SecretAccessKey", "SessionToken"} {
		if m := regexp.MustCompile("<" + name + ">([^<]+)<").FindStringSubmatch(w.Body.String()); m != nil {
			l.released.add(name, []byte(m[1]))
		}
	}
	maps.Copy(rw.Header(), w.Header())
	rw.WriteHeader(w.Code)
	_, _ = rw.Write(w.Body.Bytes())
}

// atSTS has STS answer otherwise: with what change makes of a good answer, and a
// status.
func (l *leak) atSTS(status int, change func(answer, token string) string) {
	l.internet.set(stsURL, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(body))
		r.Body = io.NopCloser(bytes.NewReader(body))
		w := httptest.NewRecorder()
		l.sts(w, r)
		rw.Header().Set("Content-Type", "text/xml")
		rw.WriteHeader(status)
		_, _ = io.WriteString(rw, change(w.Body.String(), form.Get("WebIdentityToken")))
	}))
}

// refusing is an answer of STS, or of what stands in its place, that repeats what
// it was sent.
func refusing(code string) func(answer, token string) string {
	return func(_, token string) string {
		return "<ErrorResponse><Error><Code>" + code + "</Code><Message>cannot take " + token + " of " + url.QueryEscape(token) + "</Message></Error></ErrorResponse>"
	}
}

// asks makes a request, looks at the answer and returns it.
func (l *leak) asks(method, target, body string, change func(http.Header)) (int, string) {
	l.Helper()
	r, err := http.NewRequestWithContext(l.Context(), method, target, strings.NewReader(body))
	if err != nil {
		l.Fatal(err)
	}
	change(r.Header)
	status, header, text := l.sendFor(r)
	l.unseen("header of "+target, fmt.Sprint(header))
	l.hidden.unseen(l, "body of "+target, text)
	if m := regexp.MustCompile(`"Code":"(\w+)"`).FindStringSubmatch(text); m != nil {
		l.codes[m[1]] = true
	}
	if status != 200 || r.URL.Path != "/v1/credentials" && r.URL.Path != "/s3/sts" {
		l.released.unseen(l, "body of "+target, text)
	}
	return status, text
}

// as asks for credentials, or what else stands behind the path, with a token.
func (l *leak) as(token, path string) (int, string) {
	l.Helper()
	return l.asks(http.MethodGet, brokerURL+path, "", func(h http.Header) { h.Set("Authorization", "Bearer "+token) })
}

// marked is a token of a demo user with what nobody but its issuer knows, which is
// hidden from here on, to the last claim.
func (l *leak) marked(name, email string, change func(map[string]any)) string {
	l.Helper()
	claims, err := l.auth0[issuerURL].UserClaims(email)
	if err != nil {
		l.Fatal(err)
	}
	claims["https://acme.test/mark"] = "mark-of-" + strings.ReplaceAll(name, " ", "-") + "-7d1f0c5be2a94e38"
	if change != nil {
		change(claims)
	}
	token, err := l.auth0[issuerURL].Mint(claims)
	if err != nil {
		l.Fatal(err)
	}
	l.hidden.addToken(name, token)
	l.hidden.add(name+"'s claim", []byte(claims["https://acme.test/mark"].(string)))
	return token
}

// Threat cases CC23, CC24 and CC25: what is secret goes through everything that the
// service does, and what comes out of it anywhere is looked at, piece by piece.
func TestNothingSecretComesOutAnywhere(t *testing.T) {
	l := &leak{codes: map[string]bool{}}
	prepare := func(w *world) {
		l.world, w.auditTo, w.logTo = w, l, noisy{l}
		w.text = "admin_pprof: true\n" + w.text
		w.text = strings.Replace(w.text, "issuers: [{", "cors: {allowed_origins: [\"https://app.example.com\"]}\nissuers: [{logout_audiences: [demo-spa], ", 1)
		w.text = strings.Replace(w.text, "per_subject_per_minute: 30", "per_subject_per_minute: 500, per_tenant_per_minute: 10000, per_address_failures_per_minute: 10000", 1)
		for _, name := range []string{"a.pem", "b.pem", "c.pem"} {
			hide(l, &l.hidden, filepath.Join(w.folder, name))
		}
	}
	inWorld(t, prepare, func(w *world) {
		l.internet.set(stsURL, http.HandlerFunc(l.sts))
		l.succeed()
		l.fail()
		l.failAtSTS()
		l.panics()
		l.logOut()
		l.reloads()
		l.fill()
		for _, code := range []string{
			"invalid_request", "missing_token", "invalid_token", "expired_token", "no_grant", "invalid_tenant", "scope_not_allowed", "revoked",
			"origin_not_allowed", "not_found", "method_not_allowed", "too_large", "rate_limited", "sts_rejected", "sts_unavailable", "keys_unavailable",
			"busy", "internal",
		} {
			if !l.codes[code] {
				t.Errorf("nothing was refused with %s: %q", code, slices.Sorted(maps.Keys(l.codes)))
			}
		}
		for _, path := range []string{"/metrics", "/readyz"} { // after all that
			if status, body := l.asks(http.MethodGet, adminURL+path, "", func(http.Header) {}); status != 200 || len(body) < 100 {
				t.Errorf("%s: %d %s", path, status, body)
			}
		}
		w.stop()
		if err := <-w.done; err != nil {
			t.Error(err)
		}
		close(w.done)
		l.unseen("the log", w.log.String())
		l.unseen("the audit records", w.audit.String())
		fitTheSchema(t, w.audit.String())
		if l.minted.Load() == 0 || strings.Count(w.log.String(), `"stack"`) < 10 || !strings.Contains(w.audit.String(), `"decision":"allow"`) {
			t.Errorf("%d minted; log: %s", l.minted.Load(), &w.log)
		}
	})
}

// succeed gets credentials in each form, while somebody looks at the stacks.
func (l *leak) succeed() {
	token := l.marked("alice's token", alice, nil)
	release := make(chan struct{})
	l.internet.set(stsURL, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { l.sts(rw, r); <-release }))
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		l.as(token, "/v1/credentials")
	}()
	synctest.Wait() // STS has the token now, and its answer is ready
	for debug := range 3 {
		var dump bytes.Buffer
		if err := pprof.Lookup("goroutine").WriteTo(&dump, debug); err != nil {
			l.Fatal(err)
		}
		text := dump.String()
		if debug > 0 && !strings.Contains(text, "awssts") {
			l.Error("no call to STS is under way")
		}
		l.unseen(fmt.Sprint("dump of the goroutines, debug=", debug), text)
	}
	for _, profile := range []string{"goroutine?debug=1", "goroutine?debug=2", "heap?debug=1", "allocs?debug=1", "block?debug=1", "mutex?debug=1"} {
		if status, body := l.asks(http.MethodGet, adminURL+"/debug/pprof/"+profile, "", func(http.Header) {}); status != 200 || len(body) < 20 {
			l.Errorf("%s: %d %s", profile, status, body)
		}
	}
	stack := make([]byte, 4<<20)
	l.unseen("stacks", string(stack[:runtime.Stack(stack, true)]))
	close(release)
	<-answered
	l.internet.set(stsURL, http.HandlerFunc(l.sts))
	for _, path := range []string{"/v1/credentials", "/v1/credentials?format=process", "/v1/credentials?format=js", "/s3/sts", "/v1/credentials?access=read&path=in/"} {
		status, body := l.as(token, path)
		if name, _ := l.released.in(body); status != 200 || name == "" {
			l.Errorf("%s: %d %s", path, status, body)
		}
	}
	l.as(token, "/v1/grants")
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/.well-known/jwks.json", "/.well-known/openid-configuration", "/v1/client.js"} {
		l.as(token, path)
		l.asks(http.MethodGet, adminURL+path, "", func(h http.Header) { h.Set("Authorization", "Bearer "+token) })
	}
	l.as(token, "/v1/credentials") // from the cache
	after(40 * time.Minute)        // past half of its life
	l.as(l.marked("alice's next token", alice, nil), "/v1/credentials")
	synctest.Wait()
	l.asks(http.MethodDelete, brokerURL+"/v1/credentials", "", func(h http.Header) { h.Set("Authorization", "Bearer "+token) })
}

// fail is refused before STS is asked.
func (l *leak) fail() {
	token := l.marked("alice's last token", alice, nil)
	parts := strings.Split(token, ".")
	for _, shown := range []string{
		token[:len(token)-4] + "AAAA", token + "=", token + " ", " " + token, token + "\t" + token, token + "." + token, parts[0] + "." + parts[1], token[1:],
		strings.ToLower(token), parts[0] + "." + parts[2] + "." + parts[1], parts[1] + "." + parts[1] + "." + parts[2], token + strings.Repeat("A", 9000), token + strings.Repeat("A", 40_000),
		l.marked("an old token", alice, func(c map[string]any) { c["iat"], c["exp"] = time.Now().Unix()-7200, time.Now().Unix()-3600 }),
		l.marked("a token for elsewhere", alice, func(c map[string]any) { c["aud"] = "https://elsewhere.example" }),
		l.marked("a token of an unknown issuer", alice, func(c map[string]any) { c["iss"] = "https://elsewhere.example/" }),
		l.marked("a token of nobody", alice, func(c map[string]any) { delete(c, "sub") }),
		l.marked("a bound token", alice, func(c map[string]any) { c["cnf"] = map[string]any{"jkt": "x"} }),
		l.marked("a token without a permission", alice, func(c map[string]any) { c["permissions"] = []string{} }),
		l.marked("a token without a tenant", alice, func(c map[string]any) { delete(c, "org_id") }),
		l.marked("a token of a bad tenant", alice, func(c map[string]any) { c["org_id"] = "org_*" }),
	} {
		l.as(shown, "/v1/credentials")
		l.as(shown, "/v1/grants")
	}
	for _, header := range []func(http.Header){
		func(http.Header) {},
		func(h http.Header) { h["Authorization"] = []string{"Bearer " + token, "Bearer " + token} },
		func(h http.Header) { h.Set("Authorization", "Basic "+token) },
		func(h http.Header) { h.Set("Authorization", token+" "+token) },
		func(h http.Header) { h.Set("Cookie", "token="+token) },
		func(h http.Header) { h.Set("Origin", "https://evil.example"); h.Set("Authorization", "Bearer "+token) },
		func(h http.Header) { h.Set("X-Request-Id", token); h.Set("Authorization", token) },
	} {
		l.asks(http.MethodGet, brokerURL+"/v1/credentials", "", header)
	}
	// Where a token does not belong, but is put by whoever has not read on.
	good := func(h http.Header) {
		h.Set("Authorization", "Bearer "+token)
		h.Set("Content-Type", "application/json")
	}
	for _, ask := range []struct{ method, path, body string }{
		{"GET", "/v1/credentials?access_token=" + token, ""}, {"GET", "/v1/credentials?" + token, ""}, {"GET", "/v1/credentials?" + token + "=1", ""},
		{"GET", "/v1/credentials?format=" + token, ""}, {"GET", "/v1/credentials?duration=" + token, ""}, {"GET", "/v1/credentials?access=" + token, ""},
		{"GET", "/v1/credentials?grant=" + token, ""}, {"GET", "/v1/credentials?path=" + token + "//", ""}, {"GET", "/v1/credentials?tenant=" + token, ""},
		{"GET", "/v1/" + token, ""}, {"GET", "/v1/credentials/" + token, ""}, {"PUT", "/v1/credentials", token}, {"GET", "/v1/credentials?access=delete", ""},
		{"POST", "/v1/credentials", token}, {"POST", "/v1/credentials", `{"token":"` + token + `"}`}, {"POST", "/v1/credentials", `{"` + token + `":1}`},
		{"POST", "/v1/credentials", `{"grant":"` + token + `"}`}, {"POST", "/v1/credentials", `{"a":1}` + token},
		{"POST", "/v1/credentials", strings.Repeat(token, 30)[:16<<10+1]}, // one more than is taken: of a longer one some would still be sent when the answer comes
		{"GET", "/v1/credentials?grant=none", ""}, {"GET", "/v1/credentials?duration=2h", ""},
	} {
		l.asks(ask.method, brokerURL+ask.path, ask.body, good)
		l.asks(ask.method, adminURL+ask.path, ask.body, good)
	}
	// A key that is not known, of an issuer that is out.
	l.internet.set(issuerURL, nil)
	for range 2 { // to a key that was not yet published
		if err := l.auth0[issuerURL].Rotate(); err != nil {
			l.Fatal(err)
		}
	}
	l.as(l.marked("a token of another key", alice, nil), "/v1/credentials")
	after(time.Minute)
	l.asks(http.MethodGet, adminURL+"/readyz", "", func(http.Header) {})
	l.internet.set(issuerURL, l.auth0[issuerURL])
	after(time.Minute)
}

// failAtSTS is let down by STS in each way.
func (l *leak) failAtSTS() {
	n := 0
	next := func() {
		l.Helper()
		n++
		token := l.marked(fmt.Sprint("token for STS ", n), alice, func(c map[string]any) { c["sub"] = fmt.Sprint("auth0|sts", n) })
		for range 2 { // the second time, of what is remembered
			if status, body := l.as(token, "/v1/credentials"); status == 200 {
				l.Errorf("%d: %d %s", n, status, body)
			}
		}
		after(time.Minute) // breakers close again
	}
	for _, code := range []string{
		"AccessDenied", "InvalidIdentityToken", "ExpiredTokenException", "IDPRejectedClaim", "IDPCommunicationError", "MalformedPolicyDocument",
		"Throttling", "InternalFailure", "SomethingNew",
	} {
		for _, status := range []int{400, 403, 500} {
			l.atSTS(status, refusing(code))
			next()
		}
	}
	for _, change := range []func(answer, token string) string{
		func(answer, _ string) string { return answer[:strings.Index(answer, "</SessionToken>")] },
		func(answer, _ string) string {
			return strings.ReplaceAll(answer, "assumed-role/", "assumed-role/another-")
		},
		func(answer, _ string) string { return strings.ReplaceAll(answer, "<Expiration>", "<Expiration>never ") },
		func(answer, _ string) string { return strings.ReplaceAll(answer, "SecretAccessKey>", "Secret>") },
		func(answer, token string) string { return "<" + token + ">" + answer },
		func(_, token string) string { return token },
	} {
		l.atSTS(200, change)
		next()
	}
	l.atSTS(307, func(_, token string) string { return token })
	next()
	l.internet.set(stsURL, http.HandlerFunc(hang))
	next()
	l.internet.set(stsURL, nil)
	next()
	l.internet.set(stsURL, http.HandlerFunc(l.sts))
	after(time.Minute)
	token := l.marked("a token that finds no record", alice, nil)
	l.audited = func() error { return errors.New("disk full") }
	l.as(token, "/v1/credentials")
	l.audited = nil
}

// panics are with the secrets in their values: in a handler, and in a call to STS.
func (l *leak) panics() {
	token := l.marked("a token in a panic", alice, func(c map[string]any) { c["sub"] = "auth0|panic" })
	for _, value := range []any{token, errors.New(token), []string{token}, map[string]string{token: token}, struct{ token string }{token}} {
		l.public.wrap = func(c net.Conn) net.Conn {
			b := &broken{Conn: c}
			b.value.Store(&value)
			return b
		}
		l.as(token, "/v1/client.js") // longer than what is held back, so that it is written by the route
		l.public.wrap = nil
		l.logged.Store(&value)
		if status, body := l.as(token, "/v1/grants"); status != 0 {
			l.Errorf("%d %s", status, body)
		}
		l.internet.sending = func(r *http.Request) {
			if strings.HasPrefix(stsURL, "http://"+r.URL.Host) {
				panic(value)
			}
		}
		l.asks(http.MethodDelete, brokerURL+"/v1/credentials", "", func(h http.Header) { h.Set("Authorization", "Bearer "+token) })
		if status, body := l.as(token, "/v1/credentials"); status != 500 {
			l.Errorf("%d %s", status, body)
		}
		l.internet.sending = nil
	}
}

// logOut shows logout tokens, good ones and bad.
func (l *leak) logOut() {
	show := func(body string) {
		l.Helper()
		l.asks(http.MethodPost, brokerURL+"/v1/backchannel-logout", body, func(h http.Header) { h.Set("Content-Type", "application/x-www-form-urlencoded") })
	}
	for i, change := range []func(map[string]any){
		func(map[string]any) {}, func(c map[string]any) { c["aud"] = "elsewhere" }, func(c map[string]any) { delete(c, "events") },
		func(c map[string]any) { c["exp"] = time.Now().Unix() - 60 }, func(c map[string]any) { delete(c, "jti") },
	} {
		claims := map[string]any{
			"iss": issuerURL, "aud": "demo-spa", "iat": time.Now().Unix(), "exp": time.Now().Unix() + 120, "jti": fmt.Sprint(i), "sub": "auth0|panic",
			"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
		}
		change(claims)
		token, err := l.auth0[issuerURL].Mint(claims, localauth0.WithHeader("typ", "logout+jwt"))
		if err != nil {
			l.Fatal(err)
		}
		l.hidden.addToken("a logout token", token)
		show(url.Values{"logout_token": {token}}.Encode())
		show(url.Values{"logout_token": {token}}.Encode()) // a replay
		show(url.Values{"logout_token": {token, token}}.Encode())
		show(url.Values{"logout_token": {token + "A"}}.Encode())
		show(url.Values{"token": {token}}.Encode())
		show(token)
		show("%zz" + token)
	}
}

// reloads reads good configurations and bad ones, with secrets where they do not
// belong.
func (l *leak) reloads() {
	token := l.marked("a token at a reload", alice, nil)
	key, err := os.ReadFile(filepath.Join(l.folder, "a.pem"))
	if err != nil {
		l.Fatal(err)
	}
	look := func(r serve.Reload) {
		l.Helper()
		l.unseen("what came of a reload", fmt.Sprintf("%v %+v %#v %q", r, r, r, r))
		if r.Problem != nil {
			l.unseen("what came of a reload", r.Problem.Error())
		}
		for _, url := range []string{adminURL + "/readyz", brokerURL + "/readyz", brokerURL + "/.well-known/jwks.json"} {
			l.asks(http.MethodGet, url, "", func(http.Header) {})
		}
		l.as(token, "/v1/credentials")
	}
	for _, keys := range []string{"FOLDER/a.pem, FOLDER/b.pem", "FOLDER/b.pem, FOLDER/a.pem", "FOLDER/c.pem"} { // the last out of order
		l.loads(`"`+l.folder+`/a.pem"`, strings.ReplaceAll(keys, "FOLDER", l.folder))
		look(serve.Reload{})
	}
	oneLine, quoted := strings.ReplaceAll(strings.TrimSpace(string(key)), "\n", `\n`), `"`+l.folder+`/a.pem"`
	refused := func(name string, oldnew ...string) {
		l.Helper()
		l.change(oldnew...)
		r := l.reload()
		if r.Result != serve.Refused {
			l.Errorf("%s: %+v", name, r)
		}
		look(r)
	}
	refused("the key itself", quoted, `"`+oneLine+`"`)
	refused("the key without its frame", quoted, `"`+strings.Split(string(key), "\n")[1]+`"`)
	refused("the key, not quoted", quoted, string(key))
	for _, place := range []string{`"` + issuerURL + `"`, `"` + brokerURL + `"`, "eu-west-1", "acme-uploads", "tenants/{tenant}/", "arn:aws:iam::123456789012:role/tenant-uploads", "1h", "minted", "uploads\n"} {
		refused("the key in place of "+place, place, strings.ReplaceAll(`"`+oneLine+`"`, `\n`, "")+"\n")
		refused("a token in place of "+place, place, `"`+token+`"`+"\n")
	}
	for name, text := range map[string]string{
		"two keys": string(key) + string(key), "another kind": strings.ReplaceAll(string(key), "PRIVATE KEY", "OPENSSH PRIVATE KEY"),
		"cut": string(key[:len(key)/2]), "no end": strings.Split(string(key), "-----END")[0], "broken": strings.Replace(string(key), "M", "A", 3),
		"not PEM": strings.ReplaceAll(string(key), "-----", "----"),
	} {
		if err := os.WriteFile(filepath.Join(l.folder, "bad.pem"), []byte(text), 0o600); err != nil {
			l.Fatal(err)
		}
		refused(name, "a.pem", "bad.pem")
	}
	l.loads("revoked: {subjects: [], ", `revoked: {subjects: ["auth0|panic"], `)
	l.as(l.marked("a token of who was thrown out", alice, func(c map[string]any) { c["sub"] = "auth0|panic" }), "/v1/credentials")
}

// fill asks until there is too much.
func (l *leak) fill() {
	token := l.marked("a token in a loop", alice, nil)
	for range 1100 {
		if status, _ := l.ask(http.MethodGet, brokerURL+"/v1/credentials", token); status == 429 {
			break
		}
	}
	after(time.Second) // what was refused before has its ten records, and eight requests come back
	for range 9 {
		l.as(token, "/v1/credentials")
	}
	for range 12 {
		l.as(token, "/v1/grants")
	}
	l.as(token, "/v1/credentials")
}

package serve_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"credential-broker/cmd/credential-broker/serve"
)

// Threat case CC21.
func TestAChangeOfWhatShapesAScopeMakesOldEntriesUnreachable(t *testing.T) {
	for name, change := range map[string][]string{
		"role":       {"role/tenant-uploads", "role/other"},
		"prefix":     {"tenants/{tenant}/", "data/{tenant}/"},
		"bucket":     {"acme-uploads", "acme-files"},
		"access":     {"[list, read]", "[read]"},
		"duration":   {"duration: 1h", "duration: 30m"},
		"permission": {`["upload:files"]`, "[]"},
		"grant":      {"name: uploads", "name: files"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, nil, func(w *world) {
				token := w.token(alice)
				first := w.fetches(token, 200)
				if again := w.fetches(token, 200); again != first || w.calls() != 1 {
					t.Fatalf("%d calls before the change", w.calls())
				}
				w.loads(change...)
				if next := w.fetches(token, 200); next.AccessKeyID == first.AccessKeyID || w.calls() != 2 {
					t.Errorf("%d calls: %+v, before %+v", w.calls(), next, first)
				}
				w.loads() // and back again: what was cached then is gone
				if last := w.fetches(token, 200); last.AccessKeyID == first.AccessKeyID || w.calls() != 3 {
					t.Errorf("%d calls after the change was taken back", w.calls())
				}
			})
		})
	}
}

// Threat case CC19.
func TestARequestEndsUnderTheRevisionThatItBeganWith(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		token, release := w.token(alice), make(chan struct{})
		w.internet.set(stsURL, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.sts.ServeHTTP(rw, r); <-release }))
		early := make(chan string, 1)
		go func() {
			_, body := w.ask(http.MethodGet, brokerURL+"/v1/credentials", token)
			early <- body
		}()
		synctest.Wait() // it is with STS now
		w.internet.set(stsURL, w.sts)
		w.loads("acme-uploads", "acme-files")
		if late := w.fetches(token, 200); late.Bucket != "acme-files" || w.calls() != 2 {
			t.Errorf("after the change: %+v", late)
		}
		close(release)
		var c credentials
		if body := <-early; json.Unmarshal([]byte(body), &c) != nil || c.Bucket != "acme-uploads" {
			t.Errorf("begun before the change: %s", body)
		}
		w.loads() // the old revision again, but what came late for it is not kept
		if again := w.fetches(token, 200); again.AccessKeyID == c.AccessKeyID || w.calls() != 3 {
			t.Errorf("%d calls, %+v", w.calls(), again)
		}
	})
}

func TestAReloadIsAllOrNothing(t *testing.T) {
	for name, tc := range map[string]struct {
		change  []string
		prepare func(*world)
		problem string
	}{
		"not YAML":          {[]string{"grants:", "grants: ["}, nil, "not YAML"},
		"an unknown key":    {[]string{"revoked:", "revoket:"}, nil, "revoket: unknown key"},
		"two problems":      {[]string{"eu-west-1", "nowhere"}, nil, "sts.region"},
		"another port":      {[]string{":8080\"\nissuers", ":8081\"\nissuers"}, nil, "listen: a change needs a restart"},
		"another admin":     {[]string{"listen: ", "admin_listen: \":9\"\nlisten: "}, nil, "admin_listen: a change needs a restart"},
		"another audit log": {[]string{"listen: ", "audit: {output: x}\nlisten: "}, nil, "audit.output: a change needs a restart"},
		"no key file":       {[]string{"a.pem", "missing.pem"}, nil, "read signing key"},
		"a key for all": {[]string{"a.pem", "b.pem"}, func(w *world) {
			if err := os.Chmod(filepath.Join(w.folder, "b.pem"), 0o644); err != nil {
				w.Fatal(err)
			}
		}, "others cannot read"},
		"an issuer without keys": {[]string{`issuers: [`, `issuers: [{url: "` + otherURL + `", audiences: [a]}, `, `match: {`, `match: {claims: {iss: "` + issuerURL + `"}, `}, nil, "issuer " + otherURL + ": no keys within 15s"},
		"an origin of no web":    {[]string{"listen: ", "cors: {allowed_origins: [\"*\"]}\nlisten: "}, nil, "cors.allowed_origins"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, nil, func(w *world) {
				token := w.token(alice)
				before := w.fetches(token, 200)
				_, was := w.ready()
				if tc.prepare != nil {
					tc.prepare(w)
				}
				// What stands in the same file and is good does not come into force either.
				w.change(append(tc.change, "tenants: []", "tenants: [org_acme]")...)
				r := w.reload()
				if r.Result != serve.Refused || r.Problem == nil || !strings.Contains(r.Problem.Error(), tc.problem) {
					t.Fatalf("%+v", r)
				}
				if now := w.fetches(token, 200); now != before || w.calls() != 1 {
					t.Errorf("%+v, before %+v", now, before)
				}
				status, is := w.ready()
				if status != 200 || is.Revision != was.Revision || is.Since != was.Since {
					t.Errorf("%d %+v, before %+v", status, is, was)
				}
				if is.Reload == nil || is.Reload.Result != "refused" || !strings.Contains(is.Reload.Problem, tc.problem) {
					t.Errorf("%+v", is.Reload)
				}
				if !strings.Contains(w.log.String(), "configuration refused: the old one stays") {
					t.Errorf("log: %s", &w.log)
				}
				if _, body := w.ask(http.MethodGet, brokerURL+"/readyz", ""); body != `{"Status":"ready"}` {
					t.Errorf("the public port tells %s", body)
				}
				after(time.Second)
				w.loads()
				if _, is := w.ready(); is.Reload.Result != "loaded" || is.Reload.Problem != "" || is.Since == was.Since {
					t.Errorf("mended: %+v %+v", is, is.Reload)
				}
			})
		})
	}
}

func TestWhatIsShutOutByAReloadGetsNothing(t *testing.T) {
	for name, change := range map[string][]string{
		"subject": {"subjects: []", "subjects: [SUBJECT]"},
		"tenant":  {"tenants: []", "tenants: [org_acme]"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, nil, func(w *world) {
				claims, err := w.auth0[issuerURL].UserClaims(alice)
				if err != nil {
					t.Fatal(err)
				}
				token, other := w.token(alice), w.token(bob)
				first := w.fetches(token, 200)
				w.internet.set(issuerURL, http.HandlerFunc(hang)) // shutting out needs nobody else
				w.loads(change[0], strings.ReplaceAll(change[1], "SUBJECT", fmt.Sprintf("%q", claims["sub"])))
				if c := w.fetches(token, 403); c.Code != "revoked" {
					t.Errorf("%+v", c)
				}
				w.fetches(other, 200)
				calls := w.calls()
				w.loads()
				if again := w.fetches(token, 200); again.AccessKeyID == first.AccessKeyID || w.calls() != calls+1 {
					t.Errorf("let in again, and given what was cached before")
				}
			})
		})
	}
}

func TestWhatWasRefusedIsTriedAgain(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.change(`issuers: [`, `issuers: [{url: "`+otherURL+`", audiences: ["`+"https://uploads.acme.test"+`"]}, `, `match: {`, `match: {claims: {iss: "`+otherURL+`"}, `)
		if r := w.reload(); r.Result != serve.Refused {
			t.Fatalf("%+v", r)
		}
		refused := time.Now()
		after(10 * time.Minute) // it goes on being refused, and that is said once
		if n := len(w.reloaded); n != 0 || strings.Count(w.log.String(), "configuration refused") != 1 {
			t.Errorf("told %d times more", n)
		}
		w.internet.set(otherURL, w.auth0[otherURL])
		if r := <-w.reloaded; r.Result != serve.Loaded || time.Since(refused) > 12*time.Minute {
			t.Errorf("%+v after %s", r, time.Since(refused))
		}
		token, err := w.auth0[otherURL].UserToken(alice)
		if err != nil {
			t.Fatal(err)
		}
		w.fetches(token, 200)

		// What is refused and then taken back is what runs.
		w.change("eu-west-1", "nowhere")
		w.reload()
		w.change(`issuers: [`, `issuers: [{url: "`+otherURL+`", audiences: ["`+"https://uploads.acme.test"+`"]}, `, `match: {`, `match: {claims: {iss: "`+otherURL+`"}, `)
		began := time.Now()
		if r := <-w.reloaded; r.Result != serve.Unchanged || time.Since(began) != time.Minute {
			t.Errorf("%+v after %s", r, time.Since(began))
		}
	})
}

// A reload begins with the keys that are there, so that an issuer that is out
// keeps nothing from changing; and it asks for them anew at once, so that a key
// that was withdrawn is gone with it.
func TestIssuersThatStayKeepTheirKeys(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		token, keys := w.token(alice), issuerURL+".well-known/jwks.json"
		w.internet.set(issuerURL, http.HandlerFunc(hang))
		w.loads("duration: 1h", "duration: 2h")
		w.fetches(token, 200)
		after(6 * time.Minute)
		w.fetches(token, 200)
		if _, is := w.ready(); len(is.Issuers) != 1 || *is.Issuers[0].AgeSeconds != 360 || is.Issuers[0].Problem == "" || is.Issuers[0].Keys != 2 {
			t.Errorf("%+v", is.Issuers)
		}
		w.internet.set(issuerURL, w.auth0[issuerURL])
		after(time.Minute)
		if _, is := w.ready(); *is.Issuers[0].AgeSeconds > 60 || is.Issuers[0].Problem != "" {
			t.Errorf("%+v", is.Issuers)
		}
		// Threat case CC22, by a signal: what was signed with a key that is withdrawn
		// gets nothing more, cached or not.
		kid := w.auth0[issuerURL].KeyID()
		if err := w.auth0[issuerURL].Rotate(); err != nil {
			t.Fatal(err)
		}
		if err := w.auth0[issuerURL].Revoke(kid); err != nil {
			t.Fatal(err)
		}
		w.fetches(token, 200)
		before := w.internet.count(keys)
		w.loads()
		synctest.Wait()
		w.fetches(token, 401)
		w.fetches(w.token(alice), 200)
		if n := w.internet.count(keys) - before; n != 2 { // by the reload, and for the key that is not known any more
			t.Errorf("%d fetches", n)
		}
		// And the verifier before it has ended: in an hour, one asks.
		after(time.Hour)
		if n := w.internet.count(keys) - before; n < 10 || n > 14 {
			t.Errorf("%d fetches in an hour", n)
		}
	})
}

// Threat case CC22, by the refresh alone.
func TestAKeyThatIsWithdrawnStopsWorkingByTheNextRefresh(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		token, kid := w.token(alice), w.auth0[issuerURL].KeyID()
		w.fetches(token, 200)
		if err := w.auth0[issuerURL].Rotate(); err != nil {
			t.Fatal(err)
		}
		if err := w.auth0[issuerURL].Revoke(kid); err != nil {
			t.Fatal(err)
		}
		after(5*time.Minute + 30*time.Second)
		if c := w.fetches(token, 401); c.Code != "invalid_token" {
			t.Errorf("%+v", c)
		}
		w.fetches(w.token(alice), 200)
	})
}

// The order of a rotation: the next key is published, then signs, and then the
// old one goes. STS reads what is published at that moment.
func TestSigningKeysAreRotatedBySignal(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		published := func() []string {
			_, body := w.ask(http.MethodGet, brokerURL+"/.well-known/jwks.json", "")
			var set struct{ Keys []struct{ Kid string } }
			if err := json.Unmarshal([]byte(body), &set); err != nil {
				t.Fatal(err)
			}
			var kids []string
			for _, k := range set.Keys {
				kids = append(kids, k.Kid)
			}
			return kids
		}
		token := w.token(alice)
		step := func(keys string, want int) []string {
			t.Helper()
			w.loads(`"`+w.folder+`/a.pem"`, strings.ReplaceAll(keys, "FOLDER", w.folder))
			w.fetches(token, 200)
			kids := published()
			if len(kids) != want {
				t.Errorf("%s: published %q", keys, kids)
			}
			return kids
		}
		const outOfOrder = "was not published before"
		first := step("FOLDER/a.pem, FOLDER/b.pem", 2)
		if second := step("FOLDER/b.pem, FOLDER/a.pem", 2); second[0] != first[1] || second[1] != first[0] {
			t.Errorf("%q, before %q", second, first)
		}
		if third := step("FOLDER/b.pem", 1); third[0] != first[1] {
			t.Errorf("%q", third)
		}
		if strings.Contains(w.log.String(), outOfOrder) {
			t.Errorf("log: %s", &w.log)
		}
		// The same file with another key in it, under the same configuration. It signs
		// at once, as it must where the old one is known to others, but that is said.
		signingKey(t, filepath.Join(w.folder, "b.pem"))
		if fourth := step("FOLDER/b.pem", 1); fourth[0] == first[1] {
			t.Errorf("the old key is published: %q", fourth)
		}
		if strings.Count(w.log.String(), outOfOrder) != 1 {
			t.Errorf("log: %s", &w.log)
		}
		if w.calls() != 4 {
			t.Errorf("%d calls", w.calls())
		}
	})
}

func TestLimitsGoOnUnderAnotherConfiguration(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		token := w.token(alice)
		for range 20 {
			w.fetches(token, 200)
		}
		w.loads("per_subject_per_minute: 30", "per_subject_per_minute: 60")
		for range 20 { // a third of the minute is left, of whatever it is
			w.fetches(token, 200)
		}
		if c := w.fetches(token, 429); c.Code != "rate_limited" {
			t.Errorf("%+v", c)
		}
		after(time.Second)
		w.fetches(token, 200)
		w.fetches(w.token(bob), 200)
		if !strings.Contains(w.audit.String(), `"code":"rate_limited","reason":"rate_limited: the subject asks more than 60 times a minute"`) {
			t.Errorf("audit: %s", &w.audit)
		}
	})
}

// Threat case DS13: of one token, one call.
func TestATokenThatIsShownAgainAndAgainCostsOneCall(t *testing.T) {
	inWorld(t, func(w *world) {
		w.text = strings.ReplaceAll(w.text, "per_subject_per_minute: 30", "per_subject_per_minute: 1000, per_tenant_per_minute: 1000")
	}, func(w *world) {
		token := w.token(alice)
		first := w.fetches(token, 200)
		for range 999 {
			if w.fetches(token, 200) != first {
				t.Fatal("other credentials")
			}
		}
		if w.fetches(token, 429); w.calls() != 1 {
			t.Errorf("%d calls", w.calls())
		}
	})
}

// Threat case DS12: what comes without a pause and without a token that is good.
func TestAnAddressThatFailsTooOftenCostsNothing(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		token := w.token(alice)
		w.fetches(token, 200)
		forged := token[:strings.LastIndex(token, ".")] + "." + strings.Repeat("A", 342)
		for range 60 {
			w.fetches(forged, 401)
		}
		records := strings.Count(w.audit.String(), "\n")
		for range 100 {
			w.fetches(forged, 429)
		}
		w.fetches(token, 429)                                                             // a good one from there is not looked at either
		if n := strings.Count(w.audit.String(), "\n"); n != records+1 || w.calls() != 1 { // one tells of all within a second
			t.Errorf("%d records more, %d calls", n-records, w.calls())
		}
		for _, url := range []string{brokerURL + "/healthz", brokerURL + "/readyz", brokerURL + "/.well-known/jwks.json"} {
			if status, _ := w.ask(http.MethodGet, url, ""); status != 200 {
				t.Errorf("%s: %d", url, status)
			}
		}
		w.loads("duration: 1h", "duration: 2h") // which is no way out
		w.fetches(token, 429)
		after(time.Second)
		w.fetches(token, 200)
	})
}

// With a shared cache too, an order may take what the configuration in use says, and
// not the one at the start. This Redis is not there. Threat case SC22.
func TestAReloadChangesThePatienceOfWhatIsShared(t *testing.T) {
	inWorld(t, func(w *world) {
		key := filepath.Join(w.folder, "shared.key")
		if err := os.WriteFile(key, []byte(base64.StdEncoding.EncodeToString(make([]byte, 32))), 0o600); err != nil {
			w.Fatal(err)
		}
		w.text = strings.Replace(w.text, "sts: {", "sts: {timeout: 200ms, ", 1) + "shared_cache: {url: \"redis://127.0.0.1:1?master_set=m\", key_file: \"" + key + "\"}\n"
	}, func(w *world) {
		w.counts(map[string]string{"shared_cache_configured": "1", "shared_cache_up": "0"})
		w.internet.set(stsURL, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			<-time.After(400 * time.Millisecond)
			w.sts.ServeHTTP(rw, r)
		}))
		w.fetches(w.token(alice), http.StatusServiceUnavailable)
		w.loads("timeout: 200ms", "timeout: 1800ms")
		w.fetches(w.token(alice), http.StatusOK)
	})
}

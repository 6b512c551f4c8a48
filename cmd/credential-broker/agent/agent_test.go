package agent_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"credential-broker/cmd/credential-broker/agent"
)

const host = "broker.example"

func TestCredentialsAreRenewedInTheMiddleOfTheirLife(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.has("ASIA1")
		after(27*time.Minute - time.Second) // half an hour, less a tenth
		w.has("ASIA1")
		after(6*time.Minute + 2*time.Second) // more a tenth
		w.has("ASIA2")
		if n := w.count(host); n != 2 {
			t.Errorf("asked %d times", n)
		}
	})
}

// Agents that were started together do not come together.
func TestRenewalsAreSpread(t *testing.T) {
	at := map[time.Duration]bool{}
	for range 5 {
		inWorld(t, nil, func(w *world) {
			begin := time.Now()
			for w.count(host) == 1 {
				after(time.Second)
			}
			at[time.Since(begin)] = true
		})
	}
	if len(at) < 2 {
		t.Errorf("all at %v", at)
	}
}

func TestRequestsCostTheBrokerNothing(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		for range 1000 {
			w.has("ASIA1")
		}
		w.set(refuse(403, "no_grant"))
		after(time.Hour)
		before := w.count(host)
		for range 1000 {
			w.fails("no_grant")
		}
		if n := w.count(host); n != before || n > 2+32*60/27 {
			t.Errorf("asked %d times, then %d", before, n)
		}
	})
}

func TestWhileTheBrokerIsAwayWhatIsThereServesToItsEnd(t *testing.T) {
	for name, answer := range map[string]func(*http.Request) *http.Response{
		"refused connections": away, "hangs": hang, "503": refuse(503, "sts_unavailable"), "429": refuse(429, "rate_limited"), "500": refuse(500, "internal"),
		"502": refuse(502, "sts_rejected"),
		"something in between": func(*http.Request) *http.Response {
			return reply(403, "<html>nothing here", "Content-Type", "text/html")
		},
		"another's JSON":     func(*http.Request) *http.Response { return reply(403, `{"error":"no"}`) },
		"a page with a code": func(*http.Request) *http.Response { return reply(403, `{"Code":"x"}`, "Content-Type", "text/html") },
		"404, as a broker's": refuse(404, "not_found"),
		"a redirect":         func(*http.Request) *http.Response { return reply(307, ``, "Location", "https://evil.example/") },
		"nothing":            func(*http.Request) *http.Response { return reply(200, `{}`) },
		"no JSON":            func(*http.Request) *http.Response { return reply(200, `<html>`) },
		"too much": func(*http.Request) *http.Response {
			return reply(200, strings.Repeat(" ", 65<<10)+`{"AccessKeyId":"ASIA9","SecretAccessKey":"canary","Token":"canary","Expiration":"`+time.Now().Add(time.Hour).UTC().Format(time.RFC3339)+`"}`)
		},
		"too much behind it": func(*http.Request) *http.Response {
			end := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
			return reply(200, `{"AccessKeyId":"ASIA9","SecretAccessKey":"canary","Token":"canary","Expiration":"`+end+`"}`+strings.Repeat(" ", 65<<10))
		},
		"a redirect with a code": refuse(302, "invalid_token", "Location", "https://evil.example/"),
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, nil, func(w *world) {
				w.set(answer)
				after(59*time.Minute - time.Second)
				w.has("ASIA1")
				after(2 * time.Second)
				var p *agent.Problem
				if _, err := w.agent.Get(w.Context()); !errors.As(err, &p) {
					t.Fatal("handed out with less than a minute left")
				}
				if p.Status < 400 || p.Final { // and no redirect for the SDK to follow
					t.Errorf("%+v", p)
				}
				if n := w.count("evil.example"); n != 0 {
					t.Errorf("the redirect was followed %d times", n)
				}
				if n := w.count(host); n < 10 || n > 60 {
					t.Errorf("asked %d times in half an hour", n)
				}
				w.set(w.credentials)
				after(72 * time.Second) // the longest pause, and the longest attempt
				if _, err := w.agent.Get(w.Context()); err != nil {
					t.Errorf("not recovered: %v", err)
				}
			})
		})
	}
}

// A gateway between may answer in JSON of the same form, and repeat what it was sent.
func TestATokenThatIsRepeatedIsNotPassedOn(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.set(func(r *http.Request) *http.Response {
			shown := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
			body, _ := json.Marshal(map[string]string{"Code": "waf", "Message": "blocked: " + shown + " and eyJhbGciOiJSUzI1NiJ9.e30.x", "RequestId": shown})
			return reply(403, string(body))
		})
		after(33 * time.Minute)
		p := w.fails("waf")
		if p.Message != "blocked: [redacted] and [redacted]" || p.RequestID != "[redacted]" {
			t.Errorf("%+v", p)
		}
	})
}

func TestARefusalEndsWhatWasThere(t *testing.T) {
	for status, code := range map[int]string{400: "invalid_request", 401: "missing_token", 403: "revoked"} {
		inWorld(t, nil, func(w *world) {
			w.set(refuse(status, code))
			after(33 * time.Minute)
			p := w.fails(code)
			if p.Status != status || p.Message != "why" || p.RequestID != "id1" || p.RetryAfter <= 0 {
				t.Errorf("%+v", p)
			}
			w.set(w.credentials)
			after(time.Minute)
			if _, err := w.agent.Get(w.Context()); err != nil {
				t.Errorf("not recovered: %v", err)
			}
		})
	}
}

func TestTheBrokerSaysWhenToComeAgain(t *testing.T) {
	for header, wait := range map[string]time.Duration{"90": 90 * time.Second, "86400": 0, "65535": 5 * time.Minute, "soon": 0, "-5": 0} {
		inWorld(t, func(i *internet, _ *agent.Options) { i.broker = refuse(429, "rate_limited", "Retry-After", header) }, func(w *world) {
			if p := w.fails("rate_limited"); p.RetryAfter < wait || p.RetryAfter > max(wait*11/10, time.Second) {
				t.Errorf("%s: told to come again after %s", header, p.RetryAfter)
			}
			after(wait - time.Second)
			if n := w.count(host); wait > 0 && n != 1 {
				t.Errorf("%s: asked %d times", header, n)
			}
			after(wait/10 + 2*time.Second)
			if n := w.count(host); n < 2 {
				t.Errorf("%s: asked %d times", header, n)
			}
		})
	}
}

func TestARequestWaitsNoLongerThanAnSDKDoes(t *testing.T) {
	inWorld(t, func(i *internet, _ *agent.Options) { i.broker = hang }, func(w *world) {
		begin := time.Now()
		w.fails("agent_waiting")
		if waited := time.Since(begin); waited != 1800*time.Millisecond {
			t.Errorf("waited %s", waited)
		}
		after(9 * time.Second) // the attempt is given up, and the next begins
		begin = time.Now()
		p := w.fails("broker_unavailable") // why it failed says more than that it is being tried
		if waited := time.Since(begin); waited > 1800*time.Millisecond || !strings.Contains(p.Message, "deadline") {
			t.Errorf("waited %s: %v", waited, p)
		}
	})
	// One that is answered in time is waited for.
	inWorld(t, func(i *internet, _ *agent.Options) {
		i.broker = func(r *http.Request) *http.Response { <-time.After(time.Second); return i.credentials(r) }
	}, func(w *world) { w.has("ASIA1") })
}

// What came of the last attempt is not the answer while another is under way.
func TestARequestWaitsForTheNextAttempt(t *testing.T) {
	inWorld(t, func(i *internet, _ *agent.Options) { i.broker = refuse(503, "sts_unavailable") }, func(w *world) {
		w.fails("sts_unavailable")
		w.set(func(r *http.Request) *http.Response { <-time.After(time.Second); return w.credentials(r) })
		after(time.Second + time.Millisecond) // the pause is over, and the attempt has begun
		w.has("ASIA2")
	})
}

// An attempt that is due is asked for, though the timer has not struck.
func TestARequestAsksForAnAttemptThatIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, err := agent.New(options(newInternet()))
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		a.Fail(&agent.Problem{Code: "before"}, 0) // nobody runs the agent, so that nothing comes of it
		if _, err := a.Get(t.Context()); err == nil || time.Since(begin) != 1800*time.Millisecond {
			t.Errorf("after %s: %v", time.Since(begin), err)
		}
		a.Fail(&agent.Problem{Code: "before"}, 0)
		go a.Run(t.Context())
		if got, err := a.Get(t.Context()); err != nil || got.AccessKeyID != "ASIA1" {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

// The log says how long a failure can be borne.
func TestTheLogSaysHowLongWhatIsThereServes(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		until := time.Now().Add(59 * time.Minute)
		w.set(refuse(503, "sts_unavailable"))
		after(34 * time.Minute)
		if want := `"served_until":"` + until.UTC().Format(time.RFC3339) + `"`; !strings.Contains(w.logged(), want) {
			t.Errorf("no %s in\n%s", want, w.logged())
		}
	})
	inWorld(t, func(i *internet, _ *agent.Options) { i.broker = away }, func(w *world) {
		if strings.Contains(w.logged(), "served_until") {
			t.Error(w.logged())
		}
	})
}

// A machine that sleeps wakes up with credentials that are over, and timers that are not.
func TestWhatIsOverIsAskedForAgainAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newInternet()
		a, err := agent.New(options(i))
		if err != nil {
			t.Fatal(err)
		}
		w := &world{T: t, internet: i, agent: a}
		go a.Run(t.Context())
		w.has("ASIA1")
		a.Sleep(24 * time.Hour)
		w.has("ASIA2")
		if n := i.count(host); n != 2 {
			t.Errorf("asked %d times", n)
		}
	})
}

// Credentials are taken from a minute to the longest session that STS gives, and a
// quarter of an hour for the clocks.
func TestCredentialsThatCannotBeLiveTellOfAClock(t *testing.T) {
	for life, want := range map[time.Duration]string{
		-time.Hour: "clock", time.Minute: "clock", time.Minute + time.Second: "",
		12*time.Hour + 15*time.Minute: "", 12*time.Hour + 15*time.Minute + time.Second: "12 hours", 75 * 365 * 24 * time.Hour: "12 hours",
	} {
		inWorld(t, func(i *internet, _ *agent.Options) { i.life = life }, func(w *world) {
			if want == "" {
				w.has("ASIA1")
				return
			}
			if p := w.fails("broker_unavailable"); !strings.Contains(p.Message, want) || p.Final {
				t.Errorf("%s: %+v", life, p)
			}
		})
		synctest.Test(t, func(t *testing.T) { // and in a credential_process
			i := newInternet()
			i.life = life
			if _, err := agent.Once(t.Context(), options(i)); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", life, err)
			}
		})
	}
}

// What was good stays when the next answer claims too much.
func TestAnAnswerThatClaimsTooMuchEndsNothing(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.set(func(*http.Request) *http.Response {
			return reply(200, `{"AccessKeyId":"ASIA9","SecretAccessKey":"canary","Token":"canary","Expiration":"2100-01-01T00:00:00Z"}`)
		})
		after(58 * time.Minute)
		w.has("ASIA1")
		after(2 * time.Minute)
		w.fails("broker_unavailable")
		w.set(w.credentials)
		after(72 * time.Second)
		if _, err := w.agent.Get(w.Context()); err != nil {
			t.Errorf("not recovered: %v", err)
		}
	})
}

func TestWhatIsAskedForIsFixed(t *testing.T) {
	inWorld(t, func(_ *internet, o *agent.Options) {
		o.BrokerURL += "/below/"
		o.Grant, o.Access, o.Path, o.Duration, o.Tenant = "reports", "list,read", "in/", "20m", "org_acme"
	}, func(w *world) {
		w.has("ASIA1")
		if got, want := w.queries[0], "access=list%2Cread&duration=20m&format=container&grant=reports&path=in%2F&tenant=org_acme"; got != want {
			t.Errorf("asked for %s", got)
		}
	})
	inWorld(t, nil, func(w *world) {
		w.has("ASIA1")
		if got := w.queries[0]; got != "format=container" {
			t.Errorf("asked for %s", got)
		}
	})
}

func TestOnce(t *testing.T) {
	i := newInternet()
	got, err := agent.Once(t.Context(), options(i))
	var text strings.Builder
	if err == nil {
		_, err = got.WriteTo(&text)
	}
	if err != nil || !strings.HasPrefix(text.String(), `{"Version":1,"AccessKeyId":"ASIA1",`) {
		t.Errorf("%s, %v", text.String(), err)
	}
	var mistake agent.OptionsError
	if _, err := agent.Once(t.Context(), agent.Options{}); !errors.As(err, &mistake) {
		t.Errorf("%v", err)
	}
	i.life = time.Second
	if _, err := agent.Once(t.Context(), options(i)); err == nil {
		t.Error("credentials that are over are taken")
	}
	i.set(refuse(403, "no_grant"))
	if _, err := agent.Once(t.Context(), options(i)); err == nil || err.Error() != "no_grant: why (request id id1)" {
		t.Error(err)
	}
}

func TestAnAnswerWithoutAPartIsNone(t *testing.T) {
	end := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	whole := `{"Version":1,"AccessKeyId":"A","SecretAccessKey":"B","SessionToken":"C","Expiration":"` + end + `"}`
	for _, change := range [][2]string{
		{`"Version":1`, `"Version":2`}, {`"A"`, `""`}, {`"B"`, `""`}, {`"C"`, `""`}, {"SessionToken", "Token"}, {`Z"}`, `+00:00"}`}, {`Z"}`, `"}`}, {end, "never"},
		{`"A"`, `1`}, {`}`, ``}, {"", ""},
	} {
		i := newInternet()
		i.set(func(*http.Request) *http.Response { return reply(200, strings.Replace(whole, change[0], change[1], 1)) })
		_, err := agent.Once(t.Context(), options(i))
		if good := change[0] == ""; good != (err == nil) {
			t.Errorf("%s for %s: %v", change[1], change[0], err)
		}
	}
}

package credcache_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/awssts"
	"credential-broker/broker/credcache"
)

// fakeSTS answers in place of AWS, behind the real client.
type fakeSTS struct {
	calls, now, most atomic.Int64
	takes            time.Duration
	answer           func(url.Values) (status int, body string) // nil: good
}

func (f *fakeSTS) RoundTrip(r *http.Request) (*http.Response, error) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(text))
	if err != nil {
		return nil, err
	}
	f.calls.Add(1)
	for n := f.now.Add(1); ; {
		if most := f.most.Load(); n <= most || f.most.CompareAndSwap(most, n) {
			break
		}
	}
	defer f.now.Add(-1)
	if f.takes > 0 {
		select {
		case <-time.After(f.takes):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	status, body := http.StatusOK, goodAnswer(form)
	if f.answer != nil {
		status, body = f.answer(form)
	}
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {"text/xml"}}, Body: io.NopCloser(strings.NewReader(body)),
		ContentLength: int64(len(body)), ProtoMajor: 1, ProtoMinor: 1,
	}, nil
}

func goodAnswer(form url.Values) string {
	life, _ := time.ParseDuration(form.Get("DurationSeconds") + "s")
	return `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult>` +
		`<SubjectFromWebIdentityToken>user1</SubjectFromWebIdentityToken><Audience>sts.amazonaws.com</Audience><Provider>https://broker.example</Provider>` +
		`<AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/uploads/` + form.Get("RoleSessionName") + `</Arn><AssumedRoleId>AROA:x</AssumedRoleId></AssumedRoleUser>` +
		`<Credentials><AccessKeyId>ASIAEXAMPLE</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>` +
		time.Now().Add(life).UTC().Format(time.RFC3339) + `</Expiration></Credentials>` +
		`</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`
}

func refuse(status int, code string) func(url.Values) (int, string) {
	return func(url.Values) (int, string) {
		return status, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>` + code + `</Code><Message>m</Message></Error></ErrorResponse>`
	}
}

// behind is a cache before the real client of STS.
func behind(t *testing.T, f *fakeSTS, places int) *credcache.Cache {
	t.Helper()
	client, err := awssts.New(awssts.Config{
		Region: "eu-west-1", MaxConcurrent: places, PerSecond: 1000, Transport: f,
		Assert: func(context.Context, broker.Order) (broker.Assertion, error) {
			return broker.Assertion{
				Token: broker.NewSecret("a.b.c"), Issuer: "https://broker.example", Subject: "user1", Audiences: []string{"sts.amazonaws.com"}, CallersOwn: true,
			}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return made(t, credcache.Config{Issuer: client, Entries: 2000, Refreshes: max(1, places/4), Random: middle})
}

// CC17, CC18: a thousand callers with one key make one call; with a thousand keys
// they make no more calls at a time than there are places, and who gets none in time
// is told when to come again.
func TestAThousandCallersAtSTS(t *testing.T) {
	for _, tc := range []struct {
		keys          int
		calls, served int64
	}{{1, 1, 1000}, {1000, 20, 20}} { // four places at first, then eight, twice; after that there is no time left to ask
		t.Run(fmt.Sprint(tc.keys, " keys"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeSTS{takes: 550 * time.Millisecond} // three of them fit into the client's 1.8 s
				c := behind(t, f, 8)
				var served, busy atomic.Int64
				var wg sync.WaitGroup
				for n := range 1000 {
					wg.Go(func() {
						switch got, err := c.Issue(t.Context(), living(t, fmt.Sprint("user", n%tc.keys), time.Hour)); {
						case err == nil:
							if got.SessionName != fmt.Sprint("cb-user", n%tc.keys) {
								t.Errorf("user%d got %s", n%tc.keys, got.SessionName)
							}
							served.Add(1)
						case errors.Is(err, broker.ErrBusy), errors.Is(err, broker.ErrSTSUnavailable): // both are 503
							if after, ok := broker.RetryAfter(err); !ok || after <= 0 {
								t.Errorf("again after %s, %t", after, ok)
							}
							busy.Add(1)
						default:
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if served.Load() != tc.served || busy.Load() != 1000-tc.served || f.calls.Load() != tc.calls || f.most.Load() > 8 {
					t.Errorf("%d served, %d refused, %d calls, %d at a time", served.Load(), busy.Load(), f.calls.Load(), f.most.Load())
				}
			})
		})
	}
}

// CC11, CC12, CC28: what the codes of AWS do to what is held, by way of the classes
// of the real client.
func TestWhatSTSSaysDecidesOverWhatIsHeld(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer func(url.Values) (int, string)
		kept   bool
	}{
		{"ExpiredTokenException", refuse(400, "ExpiredTokenException"), false},
		{"InvalidIdentityToken", refuse(400, "InvalidIdentityToken"), false},
		{"AccessDenied", refuse(403, "AccessDenied"), false},
		{"IDPRejectedClaim", refuse(403, "IDPRejectedClaim"), false},
		{"IDPCommunicationError", refuse(400, "IDPCommunicationError"), true},
		{"Throttling", refuse(400, "Throttling"), true},
		{"ServiceUnavailable", refuse(503, "ServiceUnavailable"), true},
		{"PackedPolicyTooLarge", refuse(400, "PackedPolicyTooLarge"), true},
		{"nothing", func(url.Values) (int, string) { return 200, "" }, true},
		{"no credentials", func(url.Values) (int, string) {
			return 200, `<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult/></AssumeRoleWithWebIdentityResponse>`
		}, true},
		{"another session", func(form url.Values) (int, string) {
			form.Set("RoleSessionName", "cb-bob")
			return 200, goodAnswer(form)
		}, true},
		{"a past end", func(form url.Values) (int, string) { form.Set("DurationSeconds", "-1"); return 200, goodAnswer(form) }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeSTS{}
				c := behind(t, f, 8)
				mustIssue(t, c, living(t, "alice", time.Hour))
				f.answer = tc.answer
				pass(30 * time.Minute)
				mustIssue(t, c, living(t, "alice", time.Hour)) // begins the refresh
				pass(2 * time.Second)                          // both attempts
				synctest.Wait()
				if kept := c.Len() == 1; kept != tc.kept {
					t.Errorf("kept: %t", kept)
				}
				calls := f.calls.Load()
				_, err := c.Issue(t.Context(), living(t, "alice", time.Hour))
				if (err == nil) != tc.kept || f.calls.Load() != calls {
					t.Errorf("the next hit: %v after %d calls", err, f.calls.Load()-calls)
				}
				if creds, err := c.Issue(t.Context(), living(t, "bob", time.Hour)); err == nil && tc.name != "another session" {
					t.Errorf("a miss got %s", creds.AccessKeyID)
				}
				if n := c.Len(); n > 1 && tc.name != "another session" {
					t.Errorf("%d entries", n)
				}
			})
		})
	}
}

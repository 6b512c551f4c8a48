package serve_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"credential-broker/cmd/credential-broker/serve"
)

// No test leaves a goroutine behind. A bubble of time fails by itself if one is
// left in it.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestReadinessGoesFirst(t *testing.T) {
	inWorld(t, func(w *world) { w.notice = serve.Notice }, func(w *world) {
		token := w.token(alice)
		w.stop()
		began := time.Now()
		after(serve.Notice - 1) // up to the last moment there is an answer, and whoever balances the load is told
		if status, is := w.ready(); status != 503 || is.Reason != "stopping" {
			t.Errorf("%d %+v", status, is)
		}
		if status, body := w.ask(http.MethodGet, brokerURL+"/readyz", ""); status != 503 || body != `{"Status":"not ready"}` {
			t.Errorf("%d %s", status, body)
		}
		w.fetches(token, 200)
		after(1)
		if status, body := w.ask(http.MethodGet, brokerURL+"/v1/credentials", token); status != 0 {
			t.Errorf("after that: %d %s", status, body)
		}
		if err := <-w.done; err != nil || time.Since(began) > serve.Notice+time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		close(w.done)
	})
}

func TestWhatIsUnderWayFinishes(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		token, release := w.token(alice), make(chan struct{})
		w.internet.set(stsURL, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.sts.ServeHTTP(rw, r); <-release }))
		early := make(chan int, 1)
		go func() {
			status, _ := w.ask(http.MethodGet, brokerURL+"/v1/credentials", token)
			early <- status
		}()
		synctest.Wait() // it is with STS now
		w.stop()
		after(time.Second / 2) // less than an attempt has
		if len(w.done) != 0 {
			t.Error("stopped with a request under way")
		}
		close(release)
		if status := <-early; status != 200 {
			t.Errorf("%d", status)
		}
		if err := <-w.done; err != nil {
			t.Error(err)
		}
		close(w.done)
	})
}

func TestWhatDoesNotFinishIsCutOff(t *testing.T) {
	for name, lasts := range map[string]time.Duration{"for a while": 17 * time.Second, "for ever": time.Hour} {
		t.Run(name, func(t *testing.T) {
			var release chan struct{}
			inWorld(t, func(w *world) {
				release = make(chan struct{})
				w.audited = func(error) { <-release } // nothing of ours takes so long
			}, func(w *world) {
				token := w.token(alice)
				early := make(chan int, 1)
				go func() {
					status, _ := w.ask(http.MethodGet, brokerURL+"/v1/credentials", token)
					early <- status
				}()
				synctest.Wait()
				began := time.Now()
				w.stop()
				after(16*time.Second - 1)
				if len(w.done)+len(early) != 0 {
					t.Error("cut off before its time")
				}
				after(1)
				if status := <-early; status != 0 {
					t.Errorf("answered with %d", status)
				}
				time.AfterFunc(lasts-16*time.Second, func() { close(release) })
				err := <-w.done
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 18*time.Second {
					t.Errorf("%v after %s", err, time.Since(began))
				}
				if goesOn := strings.Contains(err.Error(), "goes on after its connection was cut"); goesOn != (lasts > 18*time.Second) {
					t.Errorf("%v", err)
				}
				close(w.done)
				<-release
				synctest.Wait()
			})
		})
	}
}

// A reload that is under way does not hold up the end, and nothing comes of it.
func TestTheEndDoesNotWaitForAReload(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.internet.set(otherURL, http.HandlerFunc(hang))
		w.change(`issuers: [`, `issuers: [{url: "`+otherURL+`", audiences: [a]}, `, `match: {`, `match: {claims: {iss: "`+issuerURL+`"}, `)
		w.hangup <- os.Interrupt
		after(time.Second)
		began := time.Now()
		w.stop()
		if err := <-w.done; err != nil || time.Since(began) > time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		close(w.done)
		if len(w.reloaded) != 0 || strings.Contains(w.log.String(), "configuration") {
			t.Errorf("log: %s", &w.log)
		}
	})
}

// Time and again, with requests under way: each generation ends with its last
// request, and none before.
func TestRequestsAndReloadsAtOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		w.text = strings.ReplaceAll(w.text, "per_subject_per_minute: 30", "per_subject_per_minute: 100000")
	}, func(w *world) {
		token := w.token(alice)
		stop, asked := make(chan struct{}), make(chan int)
		for range 4 {
			go func() {
				n := 0
				for ; ; n++ {
					select {
					case <-stop:
						asked <- n
						return
					case <-time.After(10 * time.Millisecond):
					}
					if status, body := w.ask(http.MethodGet, brokerURL+"/v1/credentials", token); status != 200 {
						t.Errorf("%d %s", status, body)
					}
				}
			}()
		}
		for i := range 20 {
			after(25 * time.Millisecond)
			w.loads("duration: 1h", "duration: "+[]string{"30m", "45m"}[i%2])
		}
		close(stop)
		for range 4 {
			if n := <-asked; n < 10 {
				t.Errorf("%d requests", n)
			}
		}
	})
}

// An issuer that is down at the start is no reason to stay down when the
// configuration no longer has it.
func TestAServiceThatWasNeverReadyIsMendedByAReload(t *testing.T) {
	inWorld(t, func(w *world) {
		w.text = strings.Replace(w.text, "issuers: [{url: \""+issuerURL, "issuers: [{url: \""+otherURL, 1)
		go func() {
			after(time.Minute)
			if status, is := w.ready(); status != 503 || !strings.Contains(is.Reason, otherURL) {
				t.Errorf("%d %+v", status, is)
			}
			w.loads(otherURL, issuerURL)
		}()
	}, func(w *world) {
		w.fetches(w.token(alice), 200)
		if n := strings.Count(w.log.String(), `"msg":"ready"`); n != 1 {
			t.Errorf("said %d times", n)
		}
	})
}

package httpapi_test

import (
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"credential-broker/broker/httpapi"
)

// looking is a connection on which net/http looks whether the caller has gone.
type looking struct {
	net.Conn
	below *telling
	far   net.Conn
	done  chan error // what came of each look
}

func newLooking() looking {
	near, far := net.Pipe()
	below := &telling{Conn: near}
	return looking{httpapi.Patient(below), below, far, make(chan error, 2)}
}

func (l looking) look() {
	go func() {
		_, err := l.Read(make([]byte, 1))
		l.done <- err
	}()
	synctest.Wait()
}

func (l looking) move(t *testing.T, at time.Time) {
	t.Helper()
	if err := l.SetReadDeadline(at); err != nil {
		t.Error(err)
	}
}

// ends waits for what came of the look, and how long that took.
func (l looking) ends() (time.Duration, error) {
	began := time.Now()
	err := <-l.done
	return time.Since(began), err
}

func TestALookForWhoHasGoneIsPutOff(t *testing.T) {
	const moment = 10 * time.Millisecond
	for name, tc := range map[string]struct {
		play func(*testing.T, looking)
		took time.Duration
		want error
	}{
		"somebody is there": {func(_ *testing.T, l looking) {
			go l.far.Write([]byte("x"))
			l.look()
		}, moment, nil},
		"the answer is given": {func(t *testing.T, l looking) {
			l.look()
			l.move(t, time.Unix(1, 0))
		}, 0, os.ErrDeadlineExceeded},
		"it was given before": {func(t *testing.T, l looking) {
			l.move(t, time.Unix(1, 0))
			l.look()
		}, 0, os.ErrDeadlineExceeded},
		"each time": {func(t *testing.T, l looking) {
			for range 3 {
				l.look()
				l.move(t, time.Unix(1, 0))
				if took, err := l.ends(); took != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%v after %s", err, took)
				}
				l.move(t, time.Time{})
			}
			go l.far.Write([]byte("x"))
			l.look()
		}, moment, nil},
		"another looks too": {func(_ *testing.T, l looking) {
			l.look()
			go l.far.Write([]byte("x"))
			l.look()
		}, 0, nil},
		"there is more time": {func(t *testing.T, l looking) {
			go l.far.Write([]byte("x"))
			l.look()
			l.move(t, time.Now().Add(time.Minute))
		}, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLooking()
				tc.play(t, l)
				if took, err := l.ends(); took != tc.took || !errors.Is(err, tc.want) {
					t.Errorf("%v after %s, want %v after %s", err, took, tc.want, tc.took)
				}
				_ = l.Close()
				<-time.After(time.Second) // another's look ends
			})
		})
	}
}

// A request that is answered in a moment asks the system nothing of its caller.
func TestALookThatIsPutOffAsksNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLooking()
		for range 100 {
			l.look()
			l.move(t, time.Unix(1, 0))
			if _, err := l.ends(); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
			l.move(t, time.Time{})
		}
		if l.below.told != 0 {
			t.Errorf("told %d times", l.below.told)
		}
	})
}

package awssts

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// crowd is more callers than are ever served: somebody always waits.
type crowd struct {
	l       *limit
	entered atomic.Int64
	left    int
}

func newCrowd(ctx context.Context, l *limit) *crowd {
	c := &crowd{l: l}
	for range 1000 {
		go func() {
			if l.enter(ctx, true) == nil { // that line has no bound
				c.entered.Add(1)
			}
		}()
	}
	return c
}

// round lets the calls that are under way end, and returns how many there were.
// The last of the outcomes is that of all further calls.
func (c *crowd) round(outcomes ...outcome) int {
	synctest.Wait()
	n, began := int(c.entered.Load())-c.left, time.Now()
	<-time.After(50 * time.Millisecond)
	for i := range n {
		c.l.leave(began, outcomes[min(i, len(outcomes)-1)])
	}
	c.left += n
	return n
}

// withCrowd runs a test in a bubble.
func withCrowd(t *testing.T, most int, test func(*testing.T, *crowd)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		test(t, newCrowd(ctx, newLimit(most)))
	})
}

func TestPlacesDoubleFromFewUntilSTSThrottles(t *testing.T) {
	for most, want := range map[int][]int{
		1:   {1, 1},
		3:   {3, 3},
		6:   {4, 6, 6},
		20:  {4, 8, 16, 20, 20},
		256: {4, 8, 16, 32, 64, 128, 128, 129, 130}, // from 128 on one a round
	} {
		withCrowd(t, most, func(t *testing.T, c *crowd) {
			var got []int
			for range want {
				got = append(got, c.round(taken))
			}
			if !slices.Equal(got, want) {
				t.Errorf("at most %d: %d", most, got)
			}
		})
	}
}

func TestWhatIsNotNeededIsNotTried(t *testing.T) {
	l := newLimit(100)
	for range 10 {
		for range firstPlaces {
			if err := l.enter(t.Context(), false); err != nil {
				t.Fatal(err)
			}
		}
		for range firstPlaces {
			l.leave(time.Now(), taken)
		}
	}
	if l.places != firstPlaces {
		t.Errorf("%f places", l.places)
	}
}

func TestWhatFailedSaysNothingOfTheRate(t *testing.T) {
	withCrowd(t, 100, func(t *testing.T, c *crowd) {
		c.round(taken)
		c.round(unknown)
		if n := c.round(taken); n != 8 {
			t.Errorf("%d places", n)
		}
	})
}

func TestThrottlesTakePlacesAndTheyComeBackSlowly(t *testing.T) {
	withCrowd(t, 100, func(t *testing.T, c *crowd) {
		for range 4 {
			c.round(taken) // 64 places after it
		}
		if n := c.round(refused, refused, refused, unknown); n != 64 {
			t.Fatalf("%d places", n)
		}
		// A tenth for the first of the round, one each for the two others: 55.6.
		if n := c.round(taken); n != 55 {
			t.Fatalf("%d places after three throttles", n)
		}
		// 55 answers at 55.6 places are nearly one place more, and no doubling: 56.6.
		if n := c.round(refused, unknown); n != 56 {
			t.Errorf("%d places a round later", n)
		}
		if n := c.round(refused); n != 50 { // the next round: a tenth again
			t.Errorf("%d places", n)
		}
		if n := c.round(unknown); n != 1 {
			t.Errorf("%d places after a round of throttles", n)
		}
	})
}

// A call that began at the very moment of a decrease is of the next round.
func TestARoundBeginsWithTheDecrease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimit(10)
		l.places = 10
		for range 3 {
			if err := l.enter(t.Context(), false); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		l.leave(began, refused)
		if l.places != 9 {
			t.Errorf("%f places", l.places)
		}
		l.leave(began, refused)
		if l.places > 8.11 || l.places < 8.09 {
			t.Errorf("%f places", l.places)
		}
		l.leave(began.Add(-1), refused)
		if l.places > 7.11 || l.places < 7.09 {
			t.Errorf("%f places", l.places)
		}
	})
}

// One place is not slow enough where STS takes four calls a second.
func TestBelowOnePlaceOnlyTimeIsLeftToGive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimit(1)
		wait := func(o outcome) time.Duration {
			t.Helper()
			asked := time.Now()
			if err := l.enter(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			l.leave(began, o) // an answer in no time
			return began.Sub(asked)
		}
		var got []time.Duration
		for range 8 {
			got = append(got, wait(refused)/time.Millisecond)
		}
		if want := []time.Duration{0, 50, 100, 200, 400, 800, 1000, 1000}; !slices.Equal(got, want) {
			t.Errorf("waited %d", got)
		}
		got = nil
		for range 4 {
			got = append(got, wait(taken)/time.Millisecond)
		}
		if want := []time.Duration{1000, 1000, 900, 810}; !slices.Equal(got, want) {
			t.Errorf("waited %d", got)
		}
		for l.gap > 0 {
			wait(taken)
		}
		if wait(taken); wait(taken) != 0 {
			t.Error("still waits")
		}
		// And the next throttle begins with the shortest.
		wait(refused)
		if d := wait(taken); d != shortestGap {
			t.Errorf("waited %s", d)
		}
	})
}

func TestTheGapShrinksToTheShortestAndIsGone(t *testing.T) {
	for gap, want := range map[time.Duration]time.Duration{
		56 * time.Millisecond: 50400 * time.Microsecond, shortestGap * 10 / 9: 50 * time.Millisecond, 55 * time.Millisecond: 0,
	} {
		l := newLimit(1)
		l.gap, l.used = gap, 1
		l.leave(time.Now(), taken)
		if diff := l.gap - want; diff < 0 || diff > 1 {
			t.Errorf("after %s a gap of %s", gap, l.gap)
		}
	}
}

// take takes the first places.
func take(t testing.TB, l *limit) {
	t.Helper()
	for range int(l.places) {
		if err := l.enter(t.Context(), false); err != nil {
			t.Fatal(err)
		}
	}
}

// A part of a place lets no call more be made. While it took the throttles, one
// call at a time went on at full speed: at about 1.9 places what each throttle
// took and what each answer gave were even, with three calls of four refused.
func TestAThrottleOfTheOnlyCallOpensAGap(t *testing.T) {
	for places, want := range map[float64]struct {
		places float64
		gap    time.Duration
	}{2: {1.8, 0}, 1.999: {1, shortestGap}, 1.8: {1, shortestGap}, 1: {1, shortestGap}} {
		l := newLimit(4)
		l.places = places
		take(t, l)
		l.leave(time.Now(), refused)
		if l.places != want.places || l.gap != want.gap {
			t.Errorf("of %v: %v places and a gap of %s, want %v and %s", places, l.places, l.gap, want.places, want.gap)
		}
	}
}

// line lets n wait, and gives the order in which they are served.
func line(l *limit, n int, again func(int) bool) (served func() []int) {
	var mu sync.Mutex
	var order []int
	for i := range n {
		go func() {
			if l.enter(context.Background(), again(i)) != nil {
				return
			}
			mu.Lock()
			order = append(order, i)
			mu.Unlock()
		}()
		synctest.Wait() // it stands in the line
	}
	return func() []int {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(order)
	}
}

func never(int) bool { return false }

func TestWhoWaitsIsServedInTheOrderOfArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimit(1)
		take(t, l)
		served := line(l, 30, never)
		for range 30 {
			l.leave(time.Now(), unknown)
			synctest.Wait()
		}
		for i, got := range served() {
			if got != i {
				t.Fatalf("served %d", served())
			}
		}
		if len(served()) != 30 {
			t.Errorf("%d served", len(served()))
		}
	})
}

func TestWhoAsksAgainArrivedBeforeTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimit(1)
		take(t, l)
		served := line(l, 6, func(i int) bool { return i%2 == 1 })
		for range 6 {
			l.leave(time.Now(), unknown)
			synctest.Wait()
		}
		if want := []int{1, 3, 5, 0, 2, 4}; !slices.Equal(served(), want) {
			t.Errorf("served %d", served())
		}
	})
}

// Whoever comes while others wait waits behind them, although a place is free: the
// gap holds the others back.
func TestNobodyOvertakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimit(1)
		l.gap, l.next = time.Second, time.Now().Add(time.Second)
		served := line(l, 3, never)
		if len(served()) != 0 {
			t.Fatalf("served %d before its time", served())
		}
		for range 3 {
			<-time.After(time.Second)
			synctest.Wait()
			l.leave(time.Now(), unknown)
		}
		if want := []int{0, 1, 2}; !slices.Equal(served(), want) {
			t.Errorf("served %d", served())
		}
	})
}

func TestTheQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimit(2)
		take(t, l)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 2 * waitersPerPlace {
			wg.Go(func() {
				if l.enter(ctx, false) == nil {
					t.Error("a third place")
				}
			})
		}
		synctest.Wait()
		began := time.Now()
		if err := l.enter(t.Context(), false); err == nil || time.Since(began) != 0 {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		wg.Go(func() { // who had a place already is not refused
			if err := l.enter(t.Context(), true); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		l.leave(time.Now(), unknown)
		cancel()
		wg.Wait()
		if n := l.fresh.Len() + l.again.Len(); n != 0 {
			t.Errorf("%d still stand in the line", n)
		}
	})
}

// A place that comes at the moment in which its caller goes away is not lost.
func TestAPlaceInTheLastMomentIsForTheNext(t *testing.T) {
	for range 100 { // which of two ready channels is read is chance
		synctest.Test(t, func(t *testing.T) {
			l := newLimit(1)
			take(t, l)
			ctx, cancel := context.WithCancel(t.Context())
			var first error
			var wg sync.WaitGroup
			wg.Go(func() { first = l.enter(ctx, false) })
			synctest.Wait()
			wg.Go(func() {
				if err := l.enter(t.Context(), false); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
			cancel()
			l.leave(time.Now(), unknown)
			wg.Wait()
			if first == nil || l.used != 1 {
				t.Fatalf("%v, %d places taken", first, l.used)
			}
		})
	}
}

// Whatever happens: never more than the bound, and nothing leaks.
func TestPlacesAreNeitherExceededNorLost(t *testing.T) {
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			most := 1 + r.IntN(12)
			l := newLimit(most)
			var mu sync.Mutex
			under := 0
			var wg sync.WaitGroup
			for range 100 {
				start, patience := time.Duration(r.IntN(500))*time.Millisecond, time.Duration(1+r.IntN(300))*time.Millisecond
				took, o, again := time.Duration(r.IntN(80))*time.Millisecond, outcome(r.IntN(3)), r.IntN(4) == 0
				wg.Go(func() {
					<-time.After(start)
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					defer cancel()
					if l.enter(ctx, again) != nil {
						return
					}
					began := time.Now()
					mu.Lock()
					if under++; under > most {
						t.Errorf("%d of %d", under, most)
					}
					mu.Unlock()
					<-time.After(took)
					mu.Lock()
					under--
					mu.Unlock()
					l.leave(began, o)
				})
			}
			wg.Wait()
			if l.used != 0 || l.fresh.Len()+l.again.Len() != 0 || l.places < 1 || l.places > float64(most) {
				t.Errorf("seed %d: %d used, %d and %d wait, %f places", seed, l.used, l.fresh.Len(), l.again.Len(), l.places)
			}
			<-time.After(longestGap)
			if err := l.enter(t.Context(), false); err != nil {
				t.Error(err)
			}
		})
	}
}

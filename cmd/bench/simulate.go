package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/credcache"
	"credential-broker/broker/sharedcache"
)

// simulateCmd is in the help of commands.
type simulateCmd struct {
	Users    int           `help:"Who could ask." default:"20000"`
	Replicas int           `help:"Of the broker." default:"3"`
	Hours    int           `help:"How long, from midnight; what the first six hours bring is not counted." default:"30"`
	Requests float64       `help:"Of an average user in the busiest hour." default:"2"`
	Zipf     float64       `help:"How unequal users are: the exponent of Zipf's law, above 1." default:"1.05"`
	Session  time.Duration `help:"How long a session lasts." default:"1h"`
	Restart  int           `help:"The hour at which the replicas are replaced, one a minute; -1: never." default:"12"`
	Outage   int           `help:"The hour at which STS is out for ten minutes; -1: never." default:"18"`
	Seed     uint64        `help:"The same seed gives the same day." default:"1"`
}

const (
	warmUp     = 6 * time.Hour
	outageTime = 10 * time.Minute
)

// Run simulates the same day three times, and prints what STS was asked.
func (s simulateCmd) Run(b *bench) error {
	if s.Users < 1 || s.Replicas < 1 || s.Hours < 7 || s.Zipf <= 1 || s.Requests <= 0 || s.Session < broker.MinDuration || s.Session > broker.MaxDuration {
		return fmt.Errorf("users and replicas from 1, hours from 7, zipf above 1, sessions of %s to %s are needed", broker.MinDuration, broker.MaxDuration)
	}
	orders, err := s.orders(b.ctx)
	if err != nil {
		return err
	}
	r := dayReport{Users: s.Users, Replicas: s.Replicas, Session: s.Session.String()}
	for _, how := range []arrangement{spread, hashed, shared} {
		d, err := s.day(b.ctx, how, orders)
		if err != nil {
			return err
		}
		r.Days = append(r.Days, d)
	}
	if b.SVG != "" {
		if err := os.WriteFile(b.SVG, []byte(r.svg()), 0o600); err != nil {
			return err
		}
	}
	if b.JSON {
		return printJSON(b.stdout, r)
	}
	return r.text(b.stdout)
}

// arrangement is how requests come to replicas, and what these share.
type arrangement string

const (
	spread arrangement = "caches of their own, requests spread over all"
	hashed arrangement = "caches of their own, a user always at one"
	shared arrangement = "a shared cache, requests spread over all"
)

// replica is one, with the cache that it really has.
type replica struct {
	cache *credcache.Cache
	calls *counted // what it asks
}

// sim is a day under way. It has one goroutine of its own; what the caches do behind
// their callers is waited for before time goes on.
type sim struct {
	simulateCmd
	how      arrangement
	now      time.Time
	out      bool // STS is
	replicas []*replica
	orders   []broker.Order
	held     map[string]broker.Credentials // :: subject → what replicas share
	minutes  []int                         // :: minute → calls to STS
	d        day
}

// day is what came of one arrangement.
type day struct {
	How       arrangement `json:"how"`
	Requests  int         `json:"requests"`
	Calls     int         `json:"sts_calls"`
	Hits      float64     `json:"hits"`               // part of the requests that no call to STS was made for
	Mean      float64     `json:"calls_per_second"`   // in the busiest hour
	Expected  float64     `json:"expected"`           // the same by the formula of deploy/scaling.md
	Peak      float64     `json:"busiest_minute"`     // calls a second, in it
	Restarted float64     `json:"after_the_restart"`  // calls a second, in the busiest minute of the ten after it
	Back      float64     `json:"after_the_outage"`   // likewise
	Refused   int         `json:"refused_in_outage"`  // requests
	Asked     int         `json:"requests_in_outage"` //
	Minutes   []int       `json:"calls_by_minute"`
}

func (s simulateCmd) start(how arrangement, orders []broker.Order) (*sim, error) {
	m := &sim{
		simulateCmd: s, how: how, now: time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC), orders: orders, held: map[string]broker.Credentials{},
		minutes: make([]int, 60*s.Hours), d: day{How: how},
	}
	for range s.Replicas {
		r, err := m.replica()
		if err != nil {
			return nil, err
		}
		m.replicas = append(m.replicas, r)
	}
	return m, nil
}

func (m *sim) replica() (*replica, error) {
	r := &replica{calls: &counted{m: m}}
	random := rand.New(rand.NewPCG(m.Seed, 7)) //nolint:gosec // a simulation
	var err error
	r.cache, err = credcache.New(credcache.Config{
		Issuer: r.calls, Entries: len(m.orders), Refreshes: math.MaxInt32, Now: func() time.Time { return m.now }, Random: random.Float64,
	})
	return r, err
}

// counted is STS, with the shared cache before it where there is one.
type counted struct{ m *sim }

// Issue implements broker.Issuer. The shared cache is told by its rules, since Redis
// has no clock but the real one.
func (c *counted) Issue(_ context.Context, o broker.Order) (broker.Credentials, error) {
	m := c.m
	older, ok := m.held[o.Identity.Subject]
	if m.how == shared && ok && older.IssuedAt.After(o.After) && m.now.Sub(older.IssuedAt) < time.Duration(sharedcache.YoungUntil*float64(m.Session)) {
		return older, nil
	}
	if m.out {
		if m.how == shared && ok && older.IssuedAt.After(o.After) && older.Fresh(m.now) {
			return older, nil
		}
		return broker.Credentials{}, broker.WithRetryAfter(broker.ErrSTSUnavailable, 5*time.Second)
	}
	m.minutes[m.minute()]++
	made := broker.Credentials{
		AccessKeyID: "ASIA", SecretAccessKey: broker.NewSecret("s"), SessionToken: broker.NewSecret("t"),
		IssuedAt: m.now, Expiration: m.now.Add(o.Lifetime), SessionName: o.SessionName, Scope: o.Scope, Source: broker.FromSTS,
	}
	m.held[o.Identity.Subject] = made
	return made, nil
}

func (m *sim) since() time.Duration {
	return m.now.Sub(time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC))
}
func (m *sim) minute() int { return min(int(m.since()/time.Minute), len(m.minutes)-1) }

// ask is one request of a user at a replica.
func (m *sim) ask(ctx context.Context, user, at int) error {
	o := m.orders[user]
	o.NotAfter = m.now.Add(m.Session)
	_, err := m.replicas[at].cache.Issue(ctx, o)
	m.replicas[at].cache.Settle()
	if err != nil && !errors.Is(err, broker.ErrSTSUnavailable) {
		return err
	}
	if m.since() >= warmUp {
		m.d.Requests++
	}
	if m.out {
		m.d.Asked++
		if err != nil {
			m.d.Refused++
		}
	}
	return nil
}

// load is how many requests a second there are: most at two in the afternoon, a tenth
// of that at two at night.
func (s simulateCmd) load(since time.Duration) float64 {
	return float64(s.Users) * s.Requests / 3600 * (0.55 - 0.45*math.Cos(2*math.Pi*(since.Hours()-2)/24))
}

// day runs one, second by second.
func (s simulateCmd) day(ctx context.Context, how arrangement, orders []broker.Order) (day, error) {
	m, err := s.start(how, orders)
	if err != nil {
		return day{}, err
	}
	random := rand.New(rand.NewPCG(s.Seed, 1))                                  //nolint:gosec // a simulation
	who := rand.NewZipf(random, s.Zipf, float64(s.Users)/50, uint64(s.Users-1)) //nolint:gosec // at least one
	due, next := 0.0, 0
	active := map[int]map[int]bool{} // :: half a session's life → who asked in it
	for second := range s.Hours * 3600 {
		if ctx.Err() != nil {
			return day{}, ctx.Err()
		}
		since := time.Duration(second) * time.Second
		m.now = time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC).Add(since)
		m.out = s.Outage >= 0 && since >= time.Duration(s.Outage)*time.Hour && since < time.Duration(s.Outage)*time.Hour+outageTime
		if at := second - s.Restart*3600; s.Restart >= 0 && at >= 0 && at%60 == 0 && at/60 < s.Replicas {
			if m.replicas[at/60], err = m.replica(); err != nil {
				return day{}, err
			}
		}
		for due += s.load(since) * random.ExpFloat64(); due >= 1; due-- {
			user := int(who.Uint64()) //nolint:gosec // below Users
			at := user % s.Replicas
			if how != hashed {
				at, next = next%s.Replicas, next+1
			}
			if err := m.ask(ctx, user, at); err != nil {
				return day{}, err
			}
			half := int(since / (s.Session / 2))
			if active[half] == nil {
				active[half] = map[int]bool{}
			}
			active[half][user] = true
		}
	}
	busiest := 0
	for half := range active {
		if time.Duration(half)*(s.Session/2) >= warmUp && len(active[half]) > busiest {
			busiest = len(active[half])
		}
	}
	return m.sum(busiest), nil
}

// sum makes the figures. active is how many users asked in the busiest half of a
// session's life.
func (m *sim) sum(active int) day {
	d := m.d
	d.Minutes = m.minutes
	warm := m.minutes[int(warmUp.Minutes()):]
	hour := 0
	for i, n := range warm {
		d.Calls += n
		d.Peak = max(d.Peak, float64(n)/60)
		hour += n
		if i >= 60 {
			hour -= warm[i-60]
		}
		d.Mean = max(d.Mean, float64(hour)/3600)
	}
	after := func(minute int) (most float64) {
		for _, n := range m.minutes[min(minute, len(m.minutes)):min(minute+10, len(m.minutes))] {
			most = max(most, float64(n)/60)
		}
		return most
	}
	if m.Restart >= 0 {
		d.Restarted = after(60 * m.Restart)
	}
	if m.Outage >= 0 {
		d.Back = after(60*m.Outage + int(outageTime.Minutes()))
	}
	d.Hits = 1 - float64(d.Calls)/float64(max(d.Requests, 1))
	d.Expected = float64(active) / (m.Session / 2).Seconds()
	if m.how == spread {
		d.Expected *= float64(m.Replicas)
	}
	return d
}

// dayReport is what is printed.
type dayReport struct {
	Users    int    `json:"users"`
	Replicas int    `json:"replicas"`
	Session  string `json:"session"`
	Days     []day  `json:"days"`
}

func (r dayReport) text(w interface{ Write([]byte) (int, error) }) error {
	if _, err := fmt.Fprintf(w, "%d users, %d replicas, sessions of %s: calls to STS a second\n\n", r.Users, r.Replicas, r.Session); err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(t, "\trequests\tcalls\thits\tbusiest hour\tat most, by the formula\tbusiest minute\tafter the restart\tafter the outage\trefused in it\t")
	for _, d := range r.Days {
		_, _ = fmt.Fprintf(t, "%s\t%d\t%d\t%.1f %%\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%d of %d\t\n",
			d.How, d.Requests, d.Calls, 100*d.Hits, d.Mean, d.Expected, d.Peak, d.Restarted, d.Back, d.Refused, d.Asked)
	}
	return t.Flush()
}

// svg draws the calls of each minute, as means of five.
func (r dayReport) svg() string {
	const width, height, left, top = 900, 320, 60, 70
	colours := []string{"#c33", "#36c", "#393"}
	const step = 5
	most := 0.01
	mean := func(d day, i int) float64 {
		n := 0
		for _, k := range d.Minutes[i:min(i+step, len(d.Minutes))] {
			n += k
		}
		return float64(n) / step / 60
	}
	for _, d := range r.Days {
		for i := 0; i < len(d.Minutes); i += step {
			most = max(most, mean(d, i))
		}
	}
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", left+width+20, top+height+30)
	_, _ = fmt.Fprintf(&b, `<text x="8" y="18" font-size="14">Calls to STS a second: %d users, %d replicas, sessions of %s</text>`+"\n", r.Users, r.Replicas, r.Session)
	_, _ = fmt.Fprintf(&b, `<path d="M%d %d V%d H%d" fill="none" stroke="#555"/><text x="%d" y="%d" text-anchor="end">%.2f</text><text x="%d" y="%d" text-anchor="end">0</text>`+"\n",
		left, top, top+height, left+width, left-6, top+10, most, left-6, top+height)
	for i, d := range r.Days {
		_, _ = fmt.Fprintf(&b, `<text x="%d" y="%d" fill="%s">%s</text><polyline fill="none" stroke="%s" points="`, left+10, 36+14*i, colours[i%3], d.How, colours[i%3])
		for k := 0; k < len(d.Minutes); k += step {
			_, _ = fmt.Fprintf(&b, "%.1f,%.1f ", left+float64(k)/float64(len(d.Minutes))*width, top+height-mean(d, k)/most*height)
		}
		b.WriteString(`"/>` + "\n")
	}
	for h := 0; h <= len(r.Days[0].Minutes)/60; h += 6 {
		_, _ = fmt.Fprintf(&b, `<text x="%.0f" y="%d" text-anchor="middle">%d h</text>`+"\n", left+float64(60*h)/float64(len(r.Days[0].Minutes))*width, top+height+18, h)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

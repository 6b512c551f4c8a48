package sharedcache

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"credential-broker/broker"
)

const (
	// stream is the journal's key. In a cluster it has a node of its own.
	stream = "cb:journal"
	// maxRecords bounds the journal, and what a replica remembers of it: at one log-out
	// a second, the last 28 hours, more than twice the longest session. An entry that is
	// older than all of them is no answer. A record has 250 bytes.
	maxRecords = 100_000
	// batch is how many records are read at a time.
	batch = 1000
	// block is how long Redis waits for a record before it answers that there is none,
	// and blockSlack what is added until the connection is given up.
	block      = 500 * time.Millisecond
	blockSlack = 3 * time.Second
)

// The kinds of record.
const (
	kindBegin   = "begin"   // a new age: what was before it counts for nothing
	kindLogout  = "logout"  // of a subject
	kindSession = "session" // of a session, whose subject the replica that was told does not know
)

// record is what the journal holds, sealed.
type record struct {
	Kind    string `json:"k"`
	ID      string `json:"i"` // the writer's
	Age     string `json:"a"` // in which it was written
	Issuer  string `json:"s,omitempty"`
	Subject string `json:"u,omitempty"`
	Session string `json:"n,omitempty"`
}

// who is whose log-out it is.
type who struct{ issuer, subject string }

type logout struct {
	who
	at stamp
}

// journal is the list of log-outs, in one order for all replicas: that of a stream in
// Redis. There are no clocks in it. An entry says how far its writer had read before
// it asked STS; it is an answer where no later record is of its subject.
//
// A replica that was cut off reads on from where it was, if that record is still
// there. If it is not (Redis came back empty, or a replica of it took over that
// lacked the end), nobody can tell what is missing: everything is forgotten, and a
// new age begins, in which no entry of the old one is an answer. What a replica has
// to tell is told again until it has read it back.
type journal struct {
	s    *Store
	live atomic.Bool
	wake chan struct{} // there is something to tell

	mu      sync.Mutex // guards what follows
	at      position   // what was read last; its age is the present one
	last    string     // that record, as it stands there; empty: nothing was read
	floor   stamp      // what was written by who had not read this is no answer
	logouts map[who]stamp
	order   []logout          // the same, the oldest first
	past    map[string]bool   // the ages that have ended
	untold  map[string]record // :: ID → what was not read back yet
	sent    map[string]bool   // :: ID → it was written on this connection
}

func newJournal(s *Store) *journal {
	return &journal{
		s: s, wake: make(chan struct{}, 1), logouts: map[who]stamp{}, past: map[string]bool{}, untold: map[string]record{}, sent: map[string]bool{},
	}
}

// position returns how far this replica has read.
func (j *journal) position() position {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.at
}

// after reports whether what was made at a position is from after the identity's
// last log-out, as far as this replica knows. One that it has yet to tell the others
// is the last.
func (j *journal) after(p position, id broker.Identity) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if p.Age == "" || p.Age != j.at.Age || p.stamp().before(j.floor) || p.stamp().before(j.logouts[who{id.Issuer, id.Subject}]) {
		return false
	}
	for _, r := range j.untold {
		if r.Kind == kindBegin || r.Issuer == id.Issuer && r.Subject == id.Subject {
			return false
		}
	}
	return true
}

// maxUntold bounds what is kept while Redis is away. Of more, it is enough to tell
// that everything is to be forgotten.
const maxUntold = 10_000

// tell has the others told, as soon as that can be done.
func (j *journal) tell(r record) {
	j.mu.Lock()
	for id, other := range j.untold {
		r.ID = other.ID
		if r == other && !j.sent[id] { // it is to be told already
			j.mu.Unlock()
			return
		}
	}
	r.ID = newID()
	if len(j.untold) >= maxUntold {
		clear(j.untold)
		r = record{Kind: kindBegin, ID: r.ID, Age: r.ID}
	}
	j.untold[r.ID] = r
	j.mu.Unlock()
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// follow reads until ctx ends, and over again whenever Redis was away.
func (j *journal) follow(ctx context.Context, c rueidis.Client) {
	var writer sync.WaitGroup
	writer.Go(func() { j.write(ctx, c) })
	defer writer.Wait()
	var said string
	joined := "the shared cache is in use"
	for ctx.Err() == nil {
		err := j.resume(ctx, c)
		if err == nil {
			j.live.Store(true)
			j.s.cfg.Log.LogAttrs(ctx, slog.LevelInfo, joined)
			said, joined = "", "log-outs at other replicas are heard again"
			j.s.cfg.Observe(Joined)
		}
		for err == nil {
			_, err = j.read(ctx, c, block)
		}
		j.live.Store(false)
		j.mu.Lock()
		clear(j.sent)
		j.mu.Unlock()
		if ctx.Err() == nil {
			j.s.warn(ctx, &said, "log-outs at other replicas are not heard", err)
			j.s.cfg.Observe(Failed)
			pause(ctx, retryEvery)
		}
	}
}

// resume finds the place where it left off, or begins anew, and reads all that is
// there.
func (j *journal) resume(ctx context.Context, c rueidis.Client) error {
	j.mu.Lock()
	at, last := j.at.stamp(), j.last
	j.mu.Unlock()
	if last != "" {
		there, oldest, err := j.find(ctx, c, at)
		switch {
		case err != nil:
			return err
		case there == last:
		case at.before(oldest): // cut off for longer than the journal reaches back
			j.restart(false)
		default:
			j.restart(true)
		}
	}
	for {
		n, err := j.read(ctx, c, 0)
		if err != nil {
			return err
		}
		if n > 0 {
			continue
		}
		j.mu.Lock()
		begun := j.at.Age != ""
		j.mu.Unlock()
		if begun {
			return nil
		}
		id := newID()
		if err := j.append(ctx, c, record{Kind: kindBegin, ID: id, Age: id}); err != nil {
			return err
		}
	}
}

// find returns the record at a place, and the place of the oldest one, before which there
// is nothing if there is none.
func (j *journal) find(ctx context.Context, c rueidis.Client, at stamp) (there string, oldest stamp, err error) {
	ctx, cancel := context.WithTimeout(ctx, blockSlack)
	defer cancel()
	all := c.DoMulti(ctx,
		c.B().Xrange().Key(stream).Start(at.String()).End(at.String()).Build(),
		c.B().Xrange().Key(stream).Start("-").End("+").Count(1).Build())
	found, err0 := all[0].AsXRange()
	first, err1 := all[1].AsXRange()
	if err := errors.Join(err0, err1); err != nil {
		return "", stamp{}, err
	}
	if len(found) > 0 {
		there = found[0].FieldValues["d"]
	}
	if len(first) > 0 {
		oldest, err = parseStamp(first[0].ID)
	}
	return there, oldest, err
}

// restart forgets everything, and has the journal read from its beginning. Where a
// part of it is lost, the age has ended: if no other replica has begun a new one,
// this one does.
func (j *journal) restart(lost bool) {
	j.s.cfg.Observe(BeganAnew)
	j.mu.Lock()
	age := j.at.Age
	if lost {
		j.past[age] = true
		age = ""
	}
	j.at = position{Age: age}
	j.last, j.floor = "", stamp{}
	j.mu.Unlock()
	j.s.cfg.Clear()
}

// read reads what comes next, and waits for it for so long.
func (j *journal) read(ctx context.Context, c rueidis.Client, wait time.Duration) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+blockSlack)
	defer cancel()
	from := j.position().stamp().String()
	ask := c.B().Xread().Count(batch).Streams().Key(stream).Id(from).Build()
	if wait > 0 {
		ask = c.B().Xread().Count(batch).Block(wait.Milliseconds()).Streams().Key(stream).Id(from).Build()
	}
	got, err := c.Do(ctx, ask).AsXRead()
	if rueidis.IsRedisNil(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for _, e := range got[stream] {
		at, err := parseStamp(e.ID)
		if err != nil {
			return 0, err
		}
		j.take(at, e.FieldValues["d"])
	}
	return len(got[stream]), nil
}

// write tells what there is to tell, again after Redis was away.
func (j *journal) write(ctx context.Context, c rueidis.Client) {
	again := time.NewTicker(retryEvery)
	defer again.Stop()
	var said string
	for {
		select {
		case <-ctx.Done():
			return
		case <-j.wake:
		case <-again.C:
		}
		if !j.live.Load() {
			continue
		}
		for _, r := range j.toTell() {
			if err := j.append(ctx, c, r); err != nil {
				j.s.warn(ctx, &said, "other replicas cannot be told of a log-out: it is tried again", err)
				j.s.cfg.Observe(Failed)
				break
			}
			said = ""
			j.mu.Lock()
			j.sent[r.ID] = true
			j.mu.Unlock()
		}
	}
}

// toTell returns what was not written on this connection, a new age first.
func (j *journal) toTell() []record {
	j.mu.Lock()
	defer j.mu.Unlock()
	var all []record
	for id, r := range j.untold {
		switch {
		case j.sent[id]:
		case r.Kind == kindBegin:
			all = append([]record{r}, all...)
		default:
			r.Age = j.at.Age
			all = append(all, r)
		}
	}
	return all
}

// append writes a record.
func (j *journal) append(ctx context.Context, c rueidis.Client, r record) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	sealed, err := j.s.keys.seal("journal", nil, text)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, blockSlack)
	defer cancel()
	add := c.B().Xadd().Key(stream).Maxlen().Almost().Threshold(strconv.Itoa(maxRecords)).Id("*").FieldValue().
		FieldValue("d", rueidis.BinaryString(sealed)).Build()
	if err := c.Do(ctx, add).Error(); err != nil {
		return err
	}
	if r.Kind != kindBegin {
		j.s.cfg.Observe(Told)
	}
	return nil
}

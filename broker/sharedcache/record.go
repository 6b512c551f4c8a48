package sharedcache

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// stamp is the place of a record in the stream.
type stamp struct{ ms, n uint64 }

func (a stamp) before(b stamp) bool { return a.ms < b.ms || a.ms == b.ms && a.n < b.n }

func (a stamp) String() string { return fmt.Sprintf("%d-%d", a.ms, a.n) }

func parseStamp(s string) (stamp, error) {
	ms, n, _ := strings.Cut(s, "-")
	a, err0 := strconv.ParseUint(ms, 10, 64)
	b, err1 := strconv.ParseUint(n, 10, 64)
	return stamp{a, b}, errors.Join(err0, err1)
}

// position is how far somebody has read.
type position struct {
	Age string `json:"a"`
	MS  uint64 `json:"m"`
	N   uint64 `json:"n"`
}

func (p position) stamp() stamp { return stamp{p.MS, p.N} }

// take does what a record says.
func (j *journal) take(at stamp, sealed string) {
	var r record
	text, err := j.s.keys.open("journal", nil, []byte(sealed))
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	anew := j.note(at, sealed, r, err == nil)
	switch {
	case err != nil:
		j.s.cfg.Observe(j.unread(sealed))
	case anew:
		j.s.cfg.Observe(BeganAnew)
		j.s.cfg.Clear()
	case r.Kind == kindLogout:
		j.s.cfg.Observe(Heard)
		j.s.cfg.Forget(r.Issuer, r.Subject)
	case r.Kind == kindSession: // this replica may have told it, and have learnt since whose it is
		if subject, known := j.s.cfg.Session(r.Issuer, r.Session); known {
			j.s.forget(r.Issuer, subject)
		}
	}
}

// unread is why a record does not open.
func (j *journal) unread(sealed string) Event {
	switch {
	case !j.s.keys.foreign([]byte(sealed)):
		return Forged
	case j.live.Load():
		return OtherKey
	default:
		return OldKey
	}
}

// note remembers a record, and reports whether everything is to be forgotten for it.
func (j *journal) note(at stamp, sealed string, r record, good bool) (anew bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.at.MS, j.at.N, j.last = at.ms, at.n, sealed
	if j.floor == (stamp{}) || !good { // it may have been a log-out, of whomever
		j.floor = at
	}
	if !good {
		return false
	}
	delete(j.untold, r.ID)
	delete(j.sent, r.ID)
	if j.at.Age == "" || r.Kind == kindBegin && r.Age != j.at.Age {
		anew = j.begin(at, r)
	}
	if r.Kind == kindLogout {
		j.remember(at, who{r.Issuer, r.Subject})
	}
	return anew
}

// begin goes over to a record's age, if that has not ended yet: who writes to Redis
// could bring an old one back. mu is held.
func (j *journal) begin(at stamp, r record) bool {
	if r.Age == "" || j.past[r.Age] {
		return false
	}
	was := j.at.Age
	if was != "" {
		j.past[was] = true
	}
	j.at.Age = r.Age
	if r.Kind == kindBegin {
		j.floor = at
		clear(j.logouts)
		j.order = nil
	}
	return was != ""
}

// remember keeps the place of a subject's last log-out. Of more than there is room
// for, the oldest is told apart no longer: all that was written before it counts as
// before a log-out. mu is held.
func (j *journal) remember(at stamp, w who) {
	j.logouts[w] = at
	j.order = append(j.order, logout{w, at})
	if len(j.order) <= maxRecords {
		return
	}
	oldest := j.order[0]
	j.order = j.order[1:]
	j.floor = oldest.at
	if j.logouts[oldest.who] == oldest.at {
		delete(j.logouts, oldest.who)
	}
}

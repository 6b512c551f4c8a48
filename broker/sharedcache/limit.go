package sharedcache

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/redis/rueidis"
)

// spend is the generic cell rate algorithm of package limits, by the clock of Redis:
// it takes one event, or returns how long to wait, in microseconds. What stands
// under the name is when the allowance is whole again; whatever somebody writes
// there makes nobody wait for longer than a whole allowance takes to come back.
const spend = `local t=redis.call('TIME')
local now,interval,all=t[1]*1000000+t[2],tonumber(ARGV[1]),tonumber(ARGV[2])
local owed=math.min(math.max((tonumber(redis.call('GET',KEYS[1])) or 0)-now,0),all)
local wait=owed+interval-all
if wait>0 then return math.ceil(wait) end
redis.call('SET',KEYS[1],string.format('%.0f',now+owed+interval),'PX',math.ceil((owed+interval)/1000)+1)
return 0`

// Allowance is somebody's, over all replicas.
type Allowance struct {
	PerMinute int      // events, of which all may come at once
	Kind      string   // what is counted: subject, tenant
	Name      []string // whose it is
}

// Spend takes an event of each, in this order, up to the first that has none left. It
// returns which that is and how long he has to wait, or 0 where each had one. An error
// says that nobody knows. All of it has the timeout of one question: there is one call
// for each, since the nodes of a cluster take no two names at once.
func (s *Store) Spend(ctx context.Context, of ...Allowance) (over int, wait time.Duration, err error) {
	for _, a := range of {
		if a.PerMinute < 1 {
			return 0, 0, errors.New("a limit of at least one a minute is needed")
		}
	}
	err = s.do(ctx, func(ctx context.Context, c rueidis.Client) error {
		for i, a := range of {
			var err error
			if wait, err = s.spend(ctx, c, a); err != nil || wait > 0 {
				over = i
				return err
			}
		}
		return nil
	})
	return over, wait, err
}

func (s *Store) spend(ctx context.Context, c rueidis.Client, a Allowance) (time.Duration, error) {
	f := fields{}
	f.add(a.Kind)
	f.add(a.Name...)
	interval := time.Minute / time.Duration(a.PerMinute)
	all := interval * time.Duration(a.PerMinute)
	wait, err := c.Do(ctx, c.B().Eval().Script(spend).Numkeys(1).Key("cb:{"+s.keys[0].hash("limit", f)+"}").
		Arg(strconv.FormatInt(interval.Microseconds(), 10), strconv.FormatInt(all.Microseconds(), 10)).Build()).AsInt64()
	return time.Duration(min(wait, all.Microseconds())) * time.Microsecond, err
}

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

// Spend counts an event of somebody over all replicas, of whom there are so many a
// minute, and returns how long he has to wait, or 0. What is named says what is
// counted (subject, tenant) and whose. An error says that nobody knows.
func (s *Store) Spend(ctx context.Context, perMinute int, kind string, name ...string) (time.Duration, error) {
	if perMinute < 1 {
		return 0, errors.New("a limit of at least one a minute is needed")
	}
	f := fields{}
	f.add(kind)
	f.add(name...)
	interval := time.Minute / time.Duration(perMinute)
	all := interval * time.Duration(perMinute)
	var wait int64
	err := s.do(ctx, func(ctx context.Context, c rueidis.Client) error {
		var err error
		wait, err = c.Do(ctx, c.B().Eval().Script(spend).Numkeys(1).Key("cb:{"+s.keys[0].hash("limit", f)+"}").
			Arg(strconv.FormatInt(interval.Microseconds(), 10), strconv.FormatInt(all.Microseconds(), 10)).Build()).AsInt64()
		return err
	})
	if err != nil || wait <= 0 {
		return 0, err
	}
	return min(time.Duration(wait)*time.Microsecond, all), nil
}

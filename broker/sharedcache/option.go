package sharedcache

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"time"

	"github.com/redis/rueidis"

	"credential-broker/broker"
)

// ParseURL reports what keeps a text from naming the Redis to use:
//
//	rediss://[user:password@]host[:port][/database][?addr=host2:port&master_set=name]
//
// addr names further nodes of a cluster, or sentinels; with master_set all of them
// are sentinels. redis:// without TLS is for loopback only. Nothing else can be said:
// what weakens TLS is refused. The error does not repeat the text.
func ParseURL(text broker.Secret) error {
	_, err := option(text)
	return err
}

func option(text broker.Secret) (rueidis.ClientOption, error) {
	u, err := url.Parse(text.Reveal())
	if err != nil || u.Hostname() == "" || u.Fragment != "" {
		return rueidis.ClientOption{}, errors.New("not a URL rediss://[user:password@]host[:port][/database]")
	}
	switch {
	case u.Scheme == "rediss" || u.Scheme == "valkeys":
	case (u.Scheme == "redis" || u.Scheme == "valkey") && loopback(u.Hostname()):
	default:
		return rueidis.ClientOption{}, errors.New("rediss:// is needed; redis:// is for loopback only")
	}
	for name := range u.Query() {
		if name != "addr" && name != "master_set" {
			return rueidis.ClientOption{}, fmt.Errorf("%q: addr and master_set are known", name)
		}
	}
	if u.Path == "/" { // which the library takes for a database without a number
		u.Path = ""
	}
	o, err := rueidis.ParseURL(u.String())
	if err != nil {
		return rueidis.ClientOption{}, errors.New("not a URL that the client takes")
	}
	o.Dialer.Timeout = dialTimeout
	o.Dialer.KeepAlive = time.Second     // how often a connection without traffic is looked at
	o.ConnWriteTimeout = 2 * time.Second // after which one that says nothing is given up
	o.DisableRetry = true                // a request has no time for it
	o.CacheSizeEachConn = trackedBytes   // the library's own: 128 MB
	o.ReadBufferEachConn = bufferBytes   //
	o.WriteBufferEachConn = bufferBytes  //
	o.ClientName = "credential-broker"   // for CLIENT LIST
	o.ClientSetInfo = rueidis.DisableClientSetInfo
	if o.Sentinel.MasterSet != "" {
		o.Sentinel.Dialer, o.Sentinel.TLSConfig = o.Dialer, o.TLSConfig
		o.Sentinel.Username, o.Sentinel.Password = o.Username, o.Password
		o.Sentinel.TopologyRefreshInterval = 5 * time.Second // a change that was missed would bind it to the old master
	}
	return o, nil
}

func loopback(host string) bool {
	ip, _ := netip.ParseAddr(host) // what is none is the zero one, and nowhere
	return host == "localhost" || ip.IsLoopback()
}

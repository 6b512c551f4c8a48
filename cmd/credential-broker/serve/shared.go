package serve

import (
	"context"
	"fmt"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/awssts"
	"credential-broker/broker/limits"
	"credential-broker/broker/sharedcache"
	"credential-broker/cmd/credential-broker/config"
)

// openShared begins to share with the other replicas, if that is asked for.
func (s *Service) openShared(cfg config.Config) (*sharedcache.Store, error) {
	if cfg.SharedCache.URL.IsZero() {
		return nil, nil //nolint:nilnil // nothing is shared
	}
	data, err := ReadKey("key of shared_cache.key_file", cfg.SharedCache.KeyFile)
	if err != nil {
		return nil, err
	}
	keys, err := sharedcache.ParseKeys(data)
	if err != nil {
		return nil, fmt.Errorf("read key of shared_cache.key_file: %s: %w", cfg.SharedCache.KeyFile, err)
	}
	return sharedcache.Open(sharedcache.Config{
		URL: cfg.SharedCache.URL, Keys: keys, Timeout: cfg.SharedCache.Timeout,
		Forget: s.forgetHere, Clear: s.clearHere, Session: s.sessions.Subject, Observe: s.sharing, Log: s.log,
	})
}

// forgetHere drops what this replica holds of a subject. There is no generation yet
// when the first record is read at start, and nothing that one would hold.
func (s *Service) forgetHere(issuer, subject string) {
	if g := s.current.Load(); g != nil {
		g.cache.Forget(issuer, subject)
	}
}

func (s *Service) clearHere() {
	if g := s.current.Load(); g != nil {
		g.cache.Clear()
	}
}

// The methods below put what is shared around a part, or return the part as it is.

// share has an order take no longer than it may at STS alone, whose timeout another
// configuration may change.
func (s *Service) share(cfg config.STS, next broker.Issuer) broker.Issuer {
	if s.shared == nil {
		return next
	}
	patience := cfg.Timeout
	if patience == 0 {
		patience = awssts.MaxTimeout
	}
	return s.shared.Issuer(next, patience)
}

func (s *Service) forgetter(g *generation) broker.Forgetter {
	if s.shared == nil {
		return g.cache
	}
	return s.shared.Forgetter(g.cache)
}

func (s *Service) knownSessions() broker.Sessions {
	if s.shared == nil {
		return s.sessions
	}
	return s.shared.Sessions(s.sessions)
}

func (s *Service) sharedLimits() func(context.Context, ...limits.Allowance) (int, time.Duration, error) {
	if s.shared == nil {
		return nil
	}
	return func(ctx context.Context, of ...limits.Allowance) (int, time.Duration, error) {
		all := make([]sharedcache.Allowance, len(of))
		for i, a := range of {
			all[i] = sharedcache.Allowance{PerMinute: a.PerMinute, Kind: string(a.Of), Name: a.Whose}
		}
		return s.shared.Spend(ctx, all...)
	}
}

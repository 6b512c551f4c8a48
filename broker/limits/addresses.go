package limits

import (
	"errors"
	"net/netip"
	"time"
)

// ipv6Bits is what of an IPv6 address is one caller's: a network gives its hosts
// 64 bits to choose from (RFC 4291 §2.5.1).
const ipv6Bits = 64

// AddressConfig is what Addresses are made of. All of it is needed but Now and
// Observe.
type AddressConfig struct {
	Counters *Counters
	Failures int              // a minute
	Now      func() time.Time // nil: time.Now
	Observe  func(Limit)      // nil, or told of each refusal; must be quick and safe for concurrent use
}

// Addresses bounds what fails from one address, before anything is verified. It is
// safe for concurrent use. What is under way at once may exceed the bound: a
// failure is known when it has happened.
type Addresses struct{ cfg AddressConfig }

// NewAddresses checks the configuration.
func NewAddresses(cfg AddressConfig) (*Addresses, error) {
	if cfg.Counters == nil || cfg.Failures < 1 {
		return nil, errors.New("make address limit: counters and a limit of at least one a minute are needed")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Observe == nil {
		cfg.Observe = func(Limit) {}
	}
	return &Addresses{cfg: cfg}, nil
}

// Check returns ErrRateLimited, with the time to wait, for an address that has
// failed too often, whatever it brings now.
func (a *Addresses) Check(address netip.Addr) error {
	c, most := a.cfg.Counters, rate(a.cfg.Failures)
	c.mu.Lock()
	defer c.mu.Unlock()
	if wait := c.addresses.wait(network(address), most, a.cfg.Now()); wait > 0 {
		a.cfg.Observe(OfAddress)
		return limited(wait, "the address fails more than %d times a minute", most)
	}
	return nil
}

// Failed counts a failure.
func (a *Addresses) Failed(address netip.Addr) {
	c := a.cfg.Counters
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addresses.spend(network(address), rate(a.cfg.Failures), a.cfg.Now())
}

// network is what an address is counted as: itself, or the network of an IPv6
// one. What is no address is counted as one of its own.
func network(address netip.Addr) netip.Prefix {
	address = address.Unmap().WithZone("")
	bits := address.BitLen()
	if address.Is6() {
		bits = ipv6Bits
	}
	p, _ := address.Prefix(bits) // fails of no address only, and then is none
	return p
}

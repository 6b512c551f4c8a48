// Package brokertest is a small world for tests and for the demo: a local Auth0
// and a local AWS (STS and S3) that really enforce, over the parts in the
// folders below it.
//
// It is NOT SAFE FOR PRODUCTION USE: the passwords are in the source, anybody
// who reaches the local Auth0 can be anybody, and objects live in memory. Listen
// therefore takes loopback addresses only.
package brokertest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"credential-broker/broker/brokertest/localauth0"
)

// The demo's world. Names under .test are reserved and belong to nobody (RFC 6761 §6.2).
const (
	Region   = "ap-northeast-1"
	Bucket   = "acme-uploads"
	Account  = "123456789012"
	Audience = "https://uploads.acme.test"
	// STSAudience is the audience of the tokens that the broker mints for STS.
	STSAudience = "sts.amazonaws.com"
	// RoleARN is the one role of the account.
	RoleARN  = "arn:aws:iam::" + Account + ":role/" + roleName
	roleName = "tenant-uploads"
)

// Listen opens a loopback address; ":0" as the port takes any free one. An
// address that another machine could reach is refused.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	if err := localauth0.CheckLoopback(addr); err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return l, nil
}

// Serve answers on the listener until ctx ends, and then closes at once: there
// is nothing in this world that a cut connection could harm.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second, // the only limit: uploads may take long
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}

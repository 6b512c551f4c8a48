package sharedcache_test

import (
	"context"

	"credential-broker/broker"
)

// fails has STS answer with an error.
func fails(err error) func(context.Context, broker.Order) error {
	return fail(func() error { return err })
}

func fail(f func() error) func(context.Context, broker.Order) error {
	return func(context.Context, broker.Order) error { return f() }
}

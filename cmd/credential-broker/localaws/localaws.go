// Package localaws makes the local AWS what `credential-broker iam` prints for an
// account, so that the demo and the tests run on the very policies that are deployed.
package localaws

import (
	"strings"
	"time"

	"credential-broker/broker/brokertest"
	"credential-broker/cmd/credential-broker/account"
	"credential-broker/cmd/credential-broker/config"
)

// Of is the account that a configuration asks for, with one empty bucket,
// brokertest.Bucket. What a caller wants otherwise it changes before brokertest.NewAWS.
func Of(cfg config.Config) (brokertest.AWSConfig, error) {
	setup, err := account.Of(cfg)
	if err != nil {
		return brokertest.AWSConfig{}, err
	}
	return Deploy(setup), nil
}

// Deploy is Of for what was printed already.
func Deploy(setup account.Setup) brokertest.AWSConfig {
	local := brokertest.AWSConfig{Buckets: []brokertest.LocalBucket{{Name: brokertest.Bucket}}}
	for _, p := range setup.Providers {
		local.Providers = append(local.Providers, brokertest.Provider{URL: p.URL, ClientIDs: p.ClientIDs})
	}
	for _, r := range setup.Roles {
		_, name, _ := strings.Cut(r.ARN, ":role/")
		local.Roles = append(local.Roles, brokertest.Role{
			Name: name, TrustPolicy: r.TrustPolicy, Policy: r.Policy, MaxSession: time.Duration(r.MaxSessionDuration) * time.Second,
		})
	}
	return local
}

// Package versitygw runs a third-party S3 with STS and IAM, versitygw, for
// tests: what the local stand-ins enforce was written by whoever wrote the
// broker, and this was not.
//
// The server fetches an issuer's keys only over https, on port 443, and never
// from a loopback or private address. So the tests of a package that uses it run
// in a network namespace of their own (Isolate), where an address of TEST-NET-3
// belongs to the loopback interface and port 443 is free.
//
// It stands in for AWS with gaps that a caller has to know. Of a token's claims
// under https://aws.amazon.com/ none is honoured: there are no session tags, no
// source identity and no list of roles. The policy variable
// ${aws:PrincipalTag/…} stays literal text, and aws:RequestTag is absent from
// trust policies, so that what depends on either refuses everything. kms actions
// are accepted and never asked for.
package versitygw

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Address is where an issuer listens inside the namespace that Isolate makes. It
// is of TEST-NET-3 (RFC 5737, section 3): public for the server's guard, and
// nobody's.
const Address = "203.0.113.7"

// AccountID is the one account that versitygw has.
const AccountID = "000000000000"

// binaryEnv names the binary where it is not in the cache.
const binaryEnv = "CREDENTIAL_BROKER_VERSITYGW"

// Config says what a server holds when Start returns. Binary, Dir and Provider
// are needed.
type Config struct {
	Binary   string   // see Find
	Dir      string   // an empty folder of the test's, for objects and accounts
	Region   string   // of S3; us-east-1 when empty
	Buckets  []string // created empty
	Provider Provider
	Roles    []Role
	Output   io.Writer // the server's log; nil discards it
}

// Provider is the issuer whose tokens STS takes.
type Provider struct {
	URL       string            // https, no port; exactly the token's iss
	ClientIDs []string          // audiences; a token's azp counts in place of its aud
	CA        *x509.Certificate // root of the issuer's chain; the issuer must send it along
}

// Role is a role and its one inline policy.
type Role struct {
	Name        string
	TrustPolicy []byte        // at most 2048 bytes
	Policy      []byte        // the role's own permissions; none when empty
	MaxSession  time.Duration // one to twelve hours; one when zero
}

// Server is a running versitygw. Its fields are not to be changed; it is safe for
// concurrent use.
type Server struct {
	S3    string            // URL of S3, path style
	STS   string            // URL of STS and IAM, which sign for us-east-1
	Roles map[string]string // :: role's name → its ARN
	Root  aws.Credentials   // may do everything: for seeding

	children []*child
}

// ProviderARN names the provider of an issuer in a trust policy.
func ProviderARN(issuer string) string {
	return "arn:aws:iam::" + AccountID + ":oidc-provider/" + providerName(issuer)
}

// Find says where the binary is: $CREDENTIAL_BROKER_VERSITYGW, otherwise
// credential-broker/peers/versitygw in the user's cache.
func Find() (path string, ok bool) {
	path = os.Getenv(binaryEnv)
	if path == "" {
		cache := os.Getenv("XDG_CACHE_HOME")
		if cache == "" {
			home, err := os.UserHomeDir()
			if err != nil {
				return "", false
			}
			cache = filepath.Join(home, ".cache")
		}
		path = filepath.Join(cache, "credential-broker", "peers", "versitygw")
	}
	info, err := os.Stat(path) //nolint:gosec // whoever runs the tests says where
	return path, err == nil && info.Mode().IsRegular()
}

// Need returns the binary's path. Without the binary or the namespace it skips
// the test and says why; with CI=true in the environment the test fails instead,
// so that a green run means that the server was there.
func Need(t testing.TB) string {
	t.Helper()
	miss := t.Skip
	if os.Getenv("CI") == "true" {
		miss = t.Fatal
	}
	path, ok := Find()
	if !ok {
		miss("versitygw is not here; `make peers` builds it")
	}
	if !isolated() {
		miss("this system gives the test no network namespace of its own")
	}
	return path
}

// Start runs the server until Close, or until the test process is gone. It
// returns when everything in c exists; ctx bounds only the start.
func Start(ctx context.Context, c Config) (*Server, error) {
	if c.Binary == "" || c.Dir == "" || c.Provider.URL == "" || c.Provider.CA == nil {
		return nil, errors.New("start versitygw: binary, folder and provider are needed")
	}
	if c.Region == "" {
		c.Region = iamRegion
	}
	s := &Server{
		Roles: map[string]string{},
		Root:  aws.Credentials{AccessKeyID: "root" + rand.Text()[:12], SecretAccessKey: rand.Text()},
	}
	if err := s.run(ctx, c); err != nil {
		return nil, fmt.Errorf("start versitygw: %w", errors.Join(err, s.Close()))
	}
	if err := s.seed(ctx, c); err != nil {
		return nil, fmt.Errorf("seed versitygw: %w", errors.Join(err, s.Close()))
	}
	return s, nil
}

// Close kills the server; its folder stays. A second call does nothing.
func (s *Server) Close() error {
	var errs []error
	for _, c := range s.children {
		errs = append(errs, c.stop())
	}
	return errors.Join(errs...)
}

// run starts IAM, which holds roles and sessions, and then the gateway, which
// asks it about every request over a socket that only this namespace sees.
func (s *Server) run(ctx context.Context, c Config) error {
	objects, accounts := filepath.Join(c.Dir, "objects"), filepath.Join(c.Dir, "accounts")
	for _, folder := range []string{objects, accounts} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
	}
	iam, err := freePort(ctx)
	if err != nil {
		return err
	}
	s3, err := freePort(ctx)
	if err != nil {
		return err
	}
	s.STS, s.S3 = "http://"+iam, "http://"+s3
	private := "@credential-broker-" + rand.Text() // an abstract socket: see unix(7)
	common := []string{"--health", health, "--quiet", "--region", c.Region}
	if err := s.launch(ctx, c, s.STS, slices.Concat(common, []string{"--port", iam,
		"iam", "--dir", accounts, "--private-ports", private})); err != nil {
		return fmt.Errorf("iam: %w", err)
	}
	if err := s.launch(ctx, c, s.S3, slices.Concat(common, []string{"--port", s3,
		"--iam-standalone-endpoint", private, "posix", objects})); err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	return nil
}

// freePort finds an address on loopback that was free a moment ago.
func freePort(ctx context.Context) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer func() { _ = listener.Close() }() // nothing was accepted
	return listener.Addr().String(), nil
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }

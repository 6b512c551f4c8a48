// Command clouds stands in for Auth0 and AWS, under their own names, so that an
// unchanged configuration meets them: it answers https on port 443 of one loopback
// address, by the name that is asked for, with a certificate of a CA of its own. Who
// resolves these names to that address and trusts that CA does not notice:
//
//	acme.eu.auth0.test                   the local Auth0
//	sts.ap-northeast-1.amazonaws.com     the local AWS, which enforces
//	s3.ap-northeast-1.amazonaws.com      the same, path style
//	broker.acme.test                     what terminates TLS for the broker
//
// What the account has is what `credential-broker iam` printed. For tests only.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"credential-broker/broker/brokertest"
	"credential-broker/cmd/credential-broker/account"
	"credential-broker/cmd/credential-broker/localaws"
)

// The names that are answered to.
const (
	auth0Name  = "acme.eu.auth0.test"
	stsName    = "sts." + brokertest.Region + ".amazonaws.com"
	s3Name     = "s3." + brokertest.Region + ".amazonaws.com"
	brokerName = "broker.acme.test"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// run answers until ctx ends. Once it does, it prints "ready".
func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("clouds", flag.ContinueOnError)
	address := flags.String("address", "127.91.0.1:443", "where to answer; loopback")
	plain := flags.String("plain", "", "where to answer the same without TLS, for a caller that speaks none; empty: nowhere")
	setup := flags.String("iam", "", "what `credential-broker iam` printed")
	origin := flags.String("origin", "https://app.acme.test", "the page's origin, in the bucket's CORS configuration")
	broker := flags.String("broker", "http://127.0.0.1:8080", "where the broker listens")
	tags := flags.Bool("tags", false, "Auth0 has the Action that sets the tenant's tag, as mode forwarded needs it")
	ca := flags.String("ca", "", "the CA's certificate is written to this file")
	if err := flags.Parse(args); err != nil {
		return err
	}
	authority, err := newAuthority()
	if err != nil {
		return err
	}
	if err := os.WriteFile(*ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.certificate.Raw}), 0o644); err != nil { //nolint:gosec // a CA's certificate is public
		return err
	}
	authority.redirect(*address)
	handler, err := names(*setup, *origin, *broker, *tags)
	if err != nil {
		return err
	}
	listener, err := brokertest.Listen(ctx, *address)
	if err != nil {
		return err
	}
	if *plain != "" {
		l, err := brokertest.Listen(ctx, *plain)
		if err != nil {
			return err
		}
		go func() { _ = brokertest.Serve(ctx, l, handler) }() // it ends with the other
	}
	if _, err := fmt.Fprintln(stdout, "ready"); err != nil {
		return err
	}
	return brokertest.Serve(ctx, tls.NewListener(listener, &tls.Config{GetCertificate: authority.issue, MinVersion: tls.VersionTLS12}), handler)
}

// names answers each name as whom it belongs to.
func names(setup, origin, broker string, tags bool) (http.Handler, error) {
	auth0, err := brokertest.NewAuth0("https://"+auth0Name+"/", origin, tags)
	if err != nil {
		return nil, err
	}
	aws, err := newAWS(setup, origin)
	if err != nil {
		return nil, err
	}
	target, err := url.Parse(broker)
	if err != nil {
		return nil, err
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.SetXForwarded() }, Transport: &http.Transport{}}
	hosts := map[string]http.Handler{auth0Name: brokertest.TrimSlashes(auth0), stsName: aws, s3Name: aws, brokerName: proxy}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h := hosts[r.Host]; h != nil {
			h.ServeHTTP(w, r)
			return
		}
		http.Error(w, "nobody of that name", http.StatusMisdirectedRequest)
	}), nil
}

// newAWS makes the account that `credential-broker iam` asks for, with one bucket.
func newAWS(setup, origin string) (http.Handler, error) {
	data, err := os.ReadFile(setup) //nolint:gosec // who calls names the file
	if err != nil {
		return nil, err
	}
	var printed account.Setup
	if err := json.Unmarshal(data, &printed); err != nil {
		return nil, fmt.Errorf("read %s: %w", setup, err)
	}
	local := localaws.Deploy(printed)
	local.Buckets[0].AllowedOrigins = []string{origin}
	if len(local.Roles) == 0 {
		return nil, errors.New(setup + " has no roles")
	}
	return brokertest.NewAWS(local)
}

// authority is a CA that issues a certificate for whatever name is asked for.
type authority struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "clouds, for tests"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	return &authority{key, certificate}, err
}

// issue makes a certificate for the name of a handshake.
func (a *authority) issue(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{hello.ServerName},
		NotBefore: a.certificate.NotBefore, NotAfter: a.certificate.NotAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, a.key.Public(), a.key)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.key}, err
}

// redirect leads whatever this process itself fetches (STS: an issuer's keys) here.
func (a *authority) redirect(address string) {
	roots := x509.NewCertPool()
	roots.AddCert(a.certificate)
	http.DefaultTransport = &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, address)
		},
	}
}

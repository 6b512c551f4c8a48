package clients_test

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"credential-broker/broker/brokertest"
	"credential-broker/broker/brokertest/versitygw"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/cmd/credential-broker/serve"
	"credential-broker/cmd/credential-broker/servetest"
)

// newPeer is a world whose S3 and STS are versitygw's, which nobody here has written.
// It has no session tags, so that the role's own policy opens the whole bucket: what
// holds a client inside its prefix is the session policy alone.
func newPeer(t *testing.T) *world {
	t.Helper()
	binary := versitygw.Need(t)
	cert, ca, err := versitygw.NewTLS()
	if err != nil {
		t.Fatal(err)
	}
	const issuer = "https://" + versitygw.Address
	server, err := versitygw.Start(t.Context(), versitygw.Config{
		Binary: binary, Dir: t.TempDir(), Region: brokertest.Region, Buckets: []string{brokertest.Bucket},
		Provider: versitygw.Provider{URL: issuer, ClientIDs: []string{brokertest.STSAudience}, CA: ca},
		Roles: []versitygw.Role{{
			Name:   "tenant-uploads",
			Policy: []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:*"],"Resource":"arn:aws:s3:::*"}]}`),
			TrustPolicy: []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Federated":"` + versitygw.ProviderARN(issuer) + `"},` +
				`"Action":["sts:AssumeRoleWithWebIdentity","sts:TagSession","sts:SetSourceIdentity"],` +
				`"Condition":{"StringEquals":{"` + versitygw.Address + `:aud":"` + brokertest.STSAudience + `"}}}]}`),
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})

	w := &world{ended: map[string]bool{}, renewals: map[string]*renewal{}}
	auth0, auth0URL := servetest.Listen(t)
	local, s3 := servetest.Listen(t)
	broker, brokerURL := servetest.Listen(t)
	w.broker, w.s3 = brokerURL, s3
	if w.auth0, err = brokertest.NewAuth0(auth0URL+"/", "http://127.0.0.1:1", false); err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("PAGE", "http://127.0.0.1:1", "ISSUER", auth0URL+"/", "BROKER", issuer, "KEY", servetest.SigningKey(t),
		`sts: {region: `+brokertest.Region+`, endpoint: "STS"}`, `sts: {region: us-east-1, endpoint: "`+server.STS+`"}`,
		brokertest.RoleARN, server.Roles["tenant-uploads"]).Replace(configuration)
	cfg, err := config.Parse("clients.yaml", []byte(text), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	servetest.Handle(t, auth0, w.auth0)
	servetest.Handle(t, local, w.watch(to(t, server.S3)))
	servetest.Start(t, cfg, serve.Options{Listener: broker})

	// Where versitygw fetches the broker's keys.
	l, err := tls.Listen("tcp", net.JoinHostPort(versitygw.Address, "443"), &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	public := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: to(t, w.broker)}
	go func() { _ = public.Serve(l) }() // until it is closed
	t.Cleanup(func() { _ = public.Close() })
	return w
}

// to passes requests on as they are: the name of the host is signed.
func to(t *testing.T, address string) http.Handler {
	t.Helper()
	target, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return &httputil.ReverseProxy{
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), // a client that has gone
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
		},
	}
}

// Clients of three libraries, on an S3 and an STS of somebody else's.
func TestClientsOnVersitygw(t *testing.T) {
	asked(t)
	w := newPeer(t)
	names := []string{"aws cli", "boto3", "rclone"}
	for _, cl := range clients() {
		if !slices.Contains(names, cl.name) {
			continue
		}
		names = slices.DeleteFunc(names, func(name string) bool { return name == cl.name })
		t.Run(cl.name, func(t *testing.T) {
			t.Parallel()
			cl.check(t, w)
			worksInside(t, w, cl)
			isRefusedOutside(t, w, cl)
		})
	}
	if len(names) > 0 {
		t.Errorf("there is no client %v", names)
	}
}

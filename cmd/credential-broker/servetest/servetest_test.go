package servetest_test

import (
	"context"
	"io"
	"net/http"
	"testing"

	"credential-broker/broker/brokertest"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/cmd/credential-broker/serve"
	"credential-broker/cmd/credential-broker/servetest"
)

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// The service takes no fixed port, is ready when Start returns, and gone after stop.
func TestAServiceIsReadyAndThenStops(t *testing.T) {
	issuer, issuerURL := servetest.Listen(t)
	auth0, err := brokertest.NewAuth0(issuerURL+"/", "", true)
	if err != nil {
		t.Fatal(err)
	}
	servetest.Handle(t, issuer, auth0)
	own, ownURL := servetest.Listen(t)
	account, accountURL := servetest.Listen(t)
	cfg, err := config.Parse("test.yaml", []byte(`
issuers: [{url: "`+issuerURL+`/", audiences: ["`+brokertest.Audience+`"]}]
web_identity: {mode: minted, issuer: "`+ownURL+`", signing_keys: ["`+servetest.SigningKey(t)+`"]}
sts: {region: `+brokertest.Region+`, endpoint: "`+accountURL+`"}
grants: [{name: uploads, match: {permissions: ["upload:files"]}, role_arn: "`+brokertest.RoleARN+`", tenant: {claim: org_id}, bucket: `+brokertest.Bucket+`, region: `+brokertest.Region+`, prefix: "tenants/{tenant}/", access: [list, read]}]
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	servetest.Handle(t, account, servetest.AWS(t, cfg, func(c *brokertest.AWSConfig) { c.EnforceNothing = true }))
	service, stop := servetest.Start(t, cfg, serve.Options{Listener: own})
	if status, body := get(t, ownURL+"/readyz"); status != http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
	if status, _ := get(t, "http://"+service.AdminAddr().String()+"/metrics"); status != http.StatusOK {
		t.Errorf("the admin port answers %d", status)
	}
	stop()
	if status, body := get(t, ownURL+"/healthz"); status != 0 {
		t.Errorf("after the stop: %d %s", status, body)
	}
}

func TestStopWaits(t *testing.T) {
	ended := false
	stop := servetest.Run(t, func(ctx context.Context) error {
		<-ctx.Done()
		ended = true
		return nil
	})
	stop()
	stop()
	if !ended {
		t.Error("stop does not wait")
	}
}

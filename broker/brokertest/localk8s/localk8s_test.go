package localk8s_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/brokertest/localk8s"
	"credential-broker/broker/idtoken"
)

const issuer = "https://kubernetes.default.svc.cluster.local"

// roundTrip hands requests to the cluster, wherever they go.
type roundTrip struct{ http.Handler }

func (h roundTrip) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result(), nil
}

// The broker's own verifier reads what the cluster publishes and signs.
func TestATokenIsTakenByWhoBelievesTheCluster(t *testing.T) {
	cluster, err := localk8s.New(issuer)
	if err != nil {
		t.Fatal(err)
	}
	for audience, good := range map[string]bool{"https://uploads.acme.test": true, issuer: false} {
		verifier, err := idtoken.New(idtoken.Config{
			Issuers:   []idtoken.Issuer{{URL: issuer, Audiences: []string{"https://uploads.acme.test"}, Algorithms: []string{"RS256"}}},
			Transport: roundTrip{cluster}, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ready := make(chan error, 1)
		if err := verifier.Start(ctx); err != nil {
			t.Fatal(err)
		}
		go func() {
			for verifier.Ready() != nil {
				<-time.After(time.Millisecond)
			}
			ready <- nil
		}()
		<-ready
		token, err := cluster.Token(localk8s.Account{Namespace: "team-a", Name: "uploader", Audience: audience})
		if err != nil {
			t.Fatal(err)
		}
		id, err := verifier.Verify(t.Context(), broker.NewSecret(token))
		if (err == nil) != good || good && (id.Subject != "system:serviceaccount:team-a:uploader" || id.Client != "") {
			t.Errorf("%s: %+v, %v", audience, id.Subject, err)
		}
		stop()
		verifier.Wait()
	}
}

package brokertest

import (
	"net/http"
	"strings"

	"credential-broker/broker/brokertest/localauth0"
)

// NewAuth0 makes the local Auth0 of the demo's world: its users, its page's
// client and its machine client. The page is the origin of the browser app, and
// may be empty. With tags, an Action puts the tenant into the claim that STS
// turns into principal tags, as mode forwarded needs it.
func NewAuth0(issuer, page string, tags bool) (*localauth0.Server, error) {
	cfg := localauth0.Demo(issuer, Audience, page)
	if tags {
		cfg.Action = localauth0.TenantTags
	}
	return localauth0.New(cfg)
}

// TrimSlashes lets a script write "{issuer}/oauth/token" although an issuer
// ends in a slash already.
func TrimSlashes(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "//") {
			r.URL.Path = "/" + strings.TrimLeft(r.URL.Path, "/")
		}
		h.ServeHTTP(w, r)
	})
}

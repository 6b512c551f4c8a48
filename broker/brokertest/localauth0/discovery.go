package localauth0

import "net/http"

// discovery is the document of OpenID Connect Discovery §3 with the members that Auth0 publishes and this server
// honours. AWS refuses an issuer whose document lacks response_types_supported, subject_types_supported,
// id_token_signing_alg_values_supported or claims_supported.
type discovery struct {
	Issuer                string   `json:"issuer"`
	AuthorizationEndpoint string   `json:"authorization_endpoint"`
	TokenEndpoint         string   `json:"token_endpoint"`
	UserInfoEndpoint      string   `json:"userinfo_endpoint"`
	JWKSURI               string   `json:"jwks_uri"`
	EndSessionEndpoint    string   `json:"end_session_endpoint"`
	Scopes                []string `json:"scopes_supported"`
	ResponseTypes         []string `json:"response_types_supported"`
	ResponseModes         []string `json:"response_modes_supported"`
	GrantTypes            []string `json:"grant_types_supported"`
	SubjectTypes          []string `json:"subject_types_supported"`
	IDTokenAlgorithms     []string `json:"id_token_signing_alg_values_supported"`
	TokenEndpointAuth     []string `json:"token_endpoint_auth_methods_supported"`
	Claims                []string `json:"claims_supported"`
	ChallengeMethods      []string `json:"code_challenge_methods_supported"`
	RequestParameter      bool     `json:"request_parameter_supported"`
	RequestURIParameter   bool     `json:"request_uri_parameter_supported"`
}

// serveDiscovery answers GET /.well-known/openid-configuration.
func (s *Server) serveDiscovery(w http.ResponseWriter, _ *http.Request) {
	base := s.cfg.Issuer
	writeWellKnown(w, discovery{
		Issuer:                base,
		AuthorizationEndpoint: base + "authorize",
		TokenEndpoint:         base + "oauth/token",
		UserInfoEndpoint:      base + "userinfo",
		JWKSURI:               base + ".well-known/jwks.json",
		EndSessionEndpoint:    base + "oidc/logout",
		Scopes:                []string{scopeOpenID, scopeProfile, scopeEmail, scopeOffline},
		ResponseTypes:         []string{"code"},
		ResponseModes:         []string{"query"},
		GrantTypes:            supportedGrants(),
		SubjectTypes:          []string{"public"},
		IDTokenAlgorithms:     []string{"RS256"},
		TokenEndpointAuth:     []string{"client_secret_basic", "client_secret_post", "none"},
		Claims: []string{
			"aud", "azp", "email", "email_verified", "exp", "iat", "iss", "name", "nickname", "nonce", "org_id", "sid", "sub",
		},
		ChallengeMethods: []string{"S256"},
	})
}

package idtoken_test

import (
	"crypto"
	"time"
)

// draft is a token before it is signed; newDraft is the good one.
type draft struct {
	header, claims map[string]any
	private        crypto.Signer
	alg            string // signs, whatever the header says

	headerJSON, claimsJSON func(string) string // change the text that is signed
	token                  func(string) string // changes the token that is made
}

func newDraft(now time.Time) *draft {
	return &draft{
		header: map[string]any{"alg": "RS256", "kid": "a1", "typ": "JWT"},
		claims: map[string]any{
			"iss": acme, "aud": audience, "sub": "auth0|alice", "azp": "spa",
			"iat": now.Unix() - 60, "exp": now.Unix() + 3600, "org_id": "org_acme",
		},
		private: acmeRSA(), alg: "RS256",
	}
}

// ofGlobex makes the draft one of the issuer with more algorithms and a client list.
func (d *draft) ofGlobex(alg string) {
	d.claims["iss"], d.header["kid"], d.header["alg"], d.alg = globex, "b-"+alg, alg, alg
	d.private = globexRSA()
	if make, ok := globexECDSA[alg]; ok {
		d.private = make()
	}
}

func (d *draft) mint() string {
	header, claims := marshal(d.header), marshal(d.claims)
	if d.headerJSON != nil {
		header = d.headerJSON(header)
	}
	if d.claimsJSON != nil {
		claims = d.claimsJSON(claims)
	}
	token := seal(d, b64([]byte(header))+"."+b64([]byte(claims)))
	if d.token != nil {
		token = d.token(token)
	}
	return token
}

func seal(d *draft, signed string) string {
	return signed + "." + b64(sign(d.alg, d.private, signed))
}

package localauth0_test

import (
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"credential-broker/broker/brokertest/localauth0"
)

func TestKeysCarryACertificateAsAuth0sDo(t *testing.T) {
	tn := start(t)
	var set struct {
		Keys []struct {
			Kid string
			X5t string
			X5c []string
		}
	}
	if err := json.Unmarshal([]byte(tn.get(".well-known/jwks.json").body), &set); err != nil {
		t.Fatal(err)
	}
	published := tn.jwks()
	if len(set.Keys) != 2 {
		t.Fatalf("%d keys, want the current and the next", len(set.Keys))
	}
	for _, k := range set.Keys {
		der, err := base64.StdEncoding.DecodeString(k.X5c[0])
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		thumb := sha1.Sum(der)
		if k.X5t != base64.RawURLEncoding.EncodeToString(thumb[:]) || !published[k.Kid].Equal(cert.PublicKey) {
			t.Errorf("key %s: certificate or thumbprint is another's", k.Kid)
		}
	}
}

func TestRotationKeepsTheOldKeyUntilItIsRevoked(t *testing.T) {
	tn := start(t)
	old := tn.server.KeyID()
	before := granted(t, tn.post("oauth/token", passwordForm())).Access
	announced := slices.DeleteFunc(slices.Collect(maps.Keys(tn.jwks())), func(kid string) bool { return kid == old })
	if err := tn.server.Revoke(old); err == nil {
		t.Error("the current key was revoked")
	}
	if err := tn.server.Rotate(); err != nil {
		t.Fatal(err)
	}
	if len(announced) != 1 || tn.server.KeyID() != announced[0] {
		t.Fatalf("signs with %s, announced was %v", tn.server.KeyID(), announced)
	}
	if n := len(tn.jwks()); n != 3 {
		t.Errorf("%d keys, want current, next and previous", n)
	}
	header, _ := tn.verify(granted(t, tn.post("oauth/token", passwordForm())).Access)
	if header["kid"] != announced[0] {
		t.Errorf("kid %v", header["kid"])
	}
	tn.verify(before)
	if err := tn.server.Revoke(old); err != nil {
		t.Fatal(err)
	}
	if _, _, err := verifyWith(tn.jwks(), before); err == nil {
		t.Error("the revoked key is still published")
	}
	if err := tn.server.Revoke(old); err == nil {
		t.Error("a key was revoked twice")
	}
}

func TestMintSignsWhatItIsGiven(t *testing.T) {
	tn := start(t)
	claims, err := tn.server.UserClaims("bob@globex.test")
	if err != nil {
		t.Fatal(err)
	}
	claims["org_id"] = 7
	delete(claims, "sub")
	token, err := tn.server.Mint(claims, localauth0.WithHeader("typ", nil), localauth0.WithHeader("crit", []string{"x"}))
	if err != nil {
		t.Fatal(err)
	}
	header, got := tn.verify(token)
	if diff := cmp.Diff([]string{"alg", "crit", "kid"}, names(header)); diff != "" {
		t.Errorf("header: -want +got\n%s", diff)
	}
	if got["org_id"] != json.Number("7") || got["sub"] != nil {
		t.Errorf("claims %v", got)
	}
	forged, err := tn.server.Mint(claims, localauth0.WithKey(foreignKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := verifyWith(tn.jwks(), forged); err == nil {
		t.Error("a foreign key's signature verifies")
	}
	raw, err := tn.server.MintBytes([]byte(`{"kid":"`+tn.server.KeyID()+`"}`), []byte(`{"sub":"a","sub":"b"}`))
	if err != nil {
		t.Fatal(err)
	}
	tn.verify(raw)
	if middle := strings.Split(raw, ".")[1]; middle != base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"a","sub":"b"}`)) {
		t.Errorf("payload %q", middle)
	}
	for rule, opt := range map[string]localauth0.MintOption{"header": localauth0.WithHeader("x", func() {})} {
		if _, err := tn.server.Mint(claims, opt); err == nil {
			t.Errorf("%s that cannot be encoded: no error", rule)
		}
	}
	if _, err := tn.server.Mint(map[string]any{"x": func() {}}); err == nil {
		t.Error("claims that cannot be encoded: no error")
	}
}

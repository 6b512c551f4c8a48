package localsts

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // for crypto.SHA256
	_ "crypto/sha512" // for crypto.SHA384 and crypto.SHA512
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"time"
)

// leeway is how far the clocks of STS and the issuer may be apart.
const leeway = 5 * time.Minute

// token is what STS reads in a web identity token.
type token struct {
	issuer, subject string
	audience        string   // `azp`, or else the one `aud`
	audiences       []string // `aud`
	amr             []string
	tags            map[string]string
	sourceIdentity  string
	roles           []string
	providerARN     string
}

func invalid(format string, args ...any) error {
	return refuse("InvalidIdentityToken", format, args...)
}

// verify checks a token as STS does: more loosely in time than the broker, and
// by the provider rather than by an audience of its own.
func (s *Server) verify(ctx context.Context, compact string) (token, error) {
	parts := strings.Split(compact, ".")
	if len(parts) != 3 {
		return token{}, invalid("The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)")
	}
	var header struct {
		Alg, Kid string
		Crit     any
	}
	var claims map[string]any
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err := errors.Join(err, decode(parts[0], &header), decode(parts[1], &claims)); err != nil || header.Crit != nil {
		return token{}, invalid("The ID Token provided is not a valid JWT.")
	}
	for _, name := range []string{"iss", "sub", "aud", "iat", "exp"} {
		if _, ok := claims[name]; !ok {
			return token{}, invalid("Missing a required claim: %s", name)
		}
	}
	issuer, _ := claims["iss"].(string)
	i := slices.IndexFunc(s.cfg.Providers, func(p Provider) bool { return p.URL == issuer })
	if i < 0 {
		return token{}, invalid("No OpenIDConnect provider found in your account for %s", issuer)
	}
	key, err := s.key(ctx, issuer, header.Kid)
	if err != nil {
		return token{}, invalid("Couldn't retrieve verification key from your identity provider, please reference AssumeRoleWithWebIdentity documentation for requirements")
	}
	if !verifies(key, header.Alg, parts[0]+"."+parts[1], signature) {
		return token{}, invalid("The ID Token provided could not be validated: its signature is invalid")
	}
	if err := s.checkTimes(claims); err != nil {
		return token{}, err
	}
	t, err := read(claims, s.cfg.Providers[i].ClientIDs)
	t.providerARN = s.providerARN(issuer)
	return t, err
}

func decode(part string, v any) error {
	data, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	return dec.Decode(v)
}

func (s *Server) checkTimes(claims map[string]any) error {
	now := s.cfg.Now()
	at := func(name string) (time.Time, error) {
		n, ok := claims[name].(json.Number)
		seconds, err := n.Int64()
		if !ok || err != nil {
			return time.Time{}, invalid("Invalid timestamp in token claims.")
		}
		return time.Unix(seconds, 0), nil
	}
	expiry, err := at("exp")
	if err != nil {
		return err
	}
	if now.After(expiry.Add(leeway)) {
		return refuse("ExpiredTokenException", "Token expired: current date/time %d must be before the expiration date/time %d", now.Unix(), expiry.Unix())
	}
	for name, message := range map[string]string{"iat": "Token issued in the future", "nbf": "Token not yet valid"} {
		if _, ok := claims[name]; !ok {
			continue
		}
		t, err := at(name)
		if err != nil {
			return err
		}
		if t.After(now.Add(leeway)) {
			return invalid("%s", message)
		}
	}
	return nil
}

// read takes the claims apart. Where `azp` is present it alone is compared with
// the provider's client ids, and `aud` may be anything.
func read(claims map[string]any, clientIDs []string) (token, error) {
	t := token{}
	t.issuer, _ = claims["iss"].(string)
	t.subject, _ = claims["sub"].(string)
	t.amr = stringList(claims["amr"])
	t.audiences = stringList(claims["aud"])
	if azp, present := claims["azp"]; present {
		t.audience, _ = azp.(string)
	} else {
		if len(t.audiences) > 1 {
			return t, invalid("Token audience contains more than one audience while authorized party is not present")
		}
		if len(t.audiences) == 1 {
			t.audience = t.audiences[0]
		}
	}
	if t.audience == "" || !slices.Contains(clientIDs, t.audience) {
		return t, invalid("Incorrect token audience")
	}
	var err error
	if t.tags, err = tags(claims); err != nil {
		return t, err
	}
	if v, present := claims["https://aws.amazon.com/source_identity"]; present {
		t.sourceIdentity, _ = v.(string)
		if !sessionNameForm.MatchString(t.sourceIdentity) { // nor may it begin with "aws:", whose colon is no part of the form
			return t, invalid("source_identity passed in claim is not in correct format.")
		}
	}
	if v, present := claims["https://aws.amazon.com/roles"]; present {
		if text, ok := v.(string); ok {
			t.roles = strings.Split(text, ";")
		} else {
			t.roles = stringList(v)
		}
		if len(t.roles) == 0 {
			t.roles = []string{""} // a claim that names no role lets none be assumed
		}
	}
	return t, nil
}

// tags reads principal tags: nested, each value an array of exactly one string,
// or flattened into claims of their own with plain strings.
func tags(claims map[string]any) (map[string]string, error) {
	wrong := invalid("principal_tags passed in claim is not in correct format.")
	all := map[string]string{}
	const flat = "https://aws.amazon.com/tags/principal_tags/"
	for name, v := range claims {
		if key, ok := strings.CutPrefix(name, flat); ok {
			value, isText := v.(string)
			if !isText {
				return nil, wrong
			}
			all[key] = value
		}
	}
	if v, present := claims["https://aws.amazon.com/tags"]; present {
		object, _ := v.(map[string]any)
		nested, ok := object["principal_tags"].(map[string]any)
		if !ok {
			return nil, wrong
		}
		for key, v := range nested {
			list, _ := v.([]any)
			if len(list) != 1 {
				return nil, wrong
			}
			value, isText := list[0].(string)
			if _, twice := all[key]; !isText || twice {
				return nil, wrong
			}
			all[key] = value
		}
	}
	if len(all) > 50 {
		return nil, refuse("ValidationError", "more than 50 tags")
	}
	for key, value := range all {
		if key == "" || len(key) > 128 || len(value) > 256 || !tagForm.MatchString(key) || !tagForm.MatchString(value) {
			return nil, refuse("ValidationError", "tag %q is not valid", key)
		}
	}
	return all, nil
}

func stringList(v any) []string {
	if s, ok := v.(string); ok {
		return []string{s}
	}
	list, _ := v.([]any)
	all := make([]string, 0, len(list))
	for _, e := range list {
		if s, ok := e.(string); ok {
			all = append(all, s)
		}
	}
	return all
}

// jwk is a key of an issuer. STS does not use one that has key_ops.
type jwk struct {
	Kty, Kid, Use, Alg, N, E, Crv, X, Y string
	KeyOps                              any `json:"key_ops"`
}

// key fetches the issuer's key by its id: discovery first, then the key set,
// each time anew, so that tests of rotation see what is published now.
func (s *Server) key(ctx context.Context, issuer, kid string) (crypto.PublicKey, error) {
	var discovery map[string]any
	if err := s.fetch(ctx, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration", &discovery); err != nil {
		return nil, err
	}
	for _, name := range []string{"response_types_supported", "subject_types_supported", "id_token_signing_alg_values_supported", "claims_supported"} {
		if list, _ := discovery[name].([]any); len(list) == 0 {
			return nil, fmt.Errorf("discovery lacks %s", name)
		}
	}
	uri, _ := discovery["jwks_uri"].(string)
	if discovery["issuer"] != issuer || uri == "" {
		return nil, errors.New("discovery is another issuer's")
	}
	var set struct{ Keys []jwk }
	if err := s.fetch(ctx, uri, &set); err != nil {
		return nil, err
	}
	for _, k := range set.Keys {
		if k.Kid == kid && kid != "" && k.KeyOps == nil && (k.Use == "" || k.Use == "sig") {
			return k.public()
		}
	}
	return nil, fmt.Errorf("no key %q", kid)
}

func (s *Server) fetch(ctx context.Context, address string, v any) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	resp, err := s.cfg.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", address, resp.Status)
	}
	return json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(v)
}

func (k jwk) public() (crypto.PublicKey, error) {
	number := func(s string) *big.Int {
		data, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			return new(big.Int)
		}
		return new(big.Int).SetBytes(data)
	}
	switch k.Kty {
	case "RSA":
		return &rsa.PublicKey{N: number(k.N), E: int(number(k.E).Int64())}, nil
	case "EC":
		curves := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}
		curve, ok := curves[k.Crv]
		if !ok {
			return nil, fmt.Errorf("curve %q", k.Crv)
		}
		x, err1 := base64.RawURLEncoding.DecodeString(k.X)
		y, err2 := base64.RawURLEncoding.DecodeString(k.Y)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		return ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, x, y)) // SEC 1 §2.3.3
	default:
		return nil, fmt.Errorf("key type %q", k.Kty)
	}
}

// verifies checks a signature of one of the six algorithms that STS takes.
func verifies(key crypto.PublicKey, alg, signed string, signature []byte) bool {
	if len(alg) != 5 {
		return false
	}
	hash, ok := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[alg[2:]]
	if !ok {
		return false
	}
	h := hash.New()
	_, _ = h.Write([]byte(signed)) // hash.Hash never returns an error
	digest := h.Sum(nil)
	switch k := key.(type) {
	case *rsa.PublicKey:
		return alg[:2] == "RS" && rsa.VerifyPKCS1v15(k, hash, digest, signature) == nil
	case *ecdsa.PublicKey:
		size := (k.Curve.Params().BitSize + 7) / 8
		if alg[:2] != "ES" || len(signature) != 2*size {
			return false
		}
		return ecdsa.Verify(k, digest, new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:]))
	default:
		return false
	}
}

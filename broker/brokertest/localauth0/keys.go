package localauth0

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // RFC 7517 §4.8: x5t is a SHA-1 thumbprint by definition, and Auth0 publishes it
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"sync"
	"time"
)

// signingKey is one RSA key with what the JWKS says about it; it never changes after it is made.
type signingKey struct {
	private *rsa.PrivateKey
	public  jwk
}

// jwk is a key as Auth0 publishes it.
type jwk struct {
	KeyType    string   `json:"kty"`
	Use        string   `json:"use"`
	Algorithm  string   `json:"alg"`
	KeyID      string   `json:"kid"`
	Modulus    string   `json:"n"`
	Exponent   string   `json:"e"`
	Thumbprint string   `json:"x5t"`
	Chain      []string `json:"x5c"`
}

func newSigningKey(private *rsa.PrivateKey, name string, now time.Time) (*signingKey, error) {
	n := base64.RawURLEncoding.EncodeToString(private.N.Bytes())
	e := base64.RawURLEncoding.EncodeToString(big.NewInt(int64(private.E)).Bytes())
	// RFC 7638 §3: the thumbprint of the required members, in this order. The same key has the same kid in every run.
	id := sha256.Sum256([]byte(`{"e":"` + e + `","kty":"RSA","n":"` + n + `"}`))
	cert := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(id[:8]),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.AddDate(10, 0, 0), // ours to choose: nobody validates this chain
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &private.PublicKey, private)
	if err != nil {
		return nil, fmt.Errorf("certify signing key: %w", err)
	}
	thumb := sha1.Sum(der) //nolint:gosec // RFC 7517 §4.8, as above
	return &signingKey{private: private, public: jwk{
		KeyType: "RSA", Use: "sig", Algorithm: "RS256", Modulus: n, Exponent: e,
		KeyID:      base64.RawURLEncoding.EncodeToString(id[:]),
		Thumbprint: base64.RawURLEncoding.EncodeToString(thumb[:]),
		Chain:      []string{base64.StdEncoding.EncodeToString(der)},
	}}, nil
}

// keyring holds one active signer, the key that comes next (published early, so that verifiers know it before it
// signs), and those that signed before and are not revoked yet.
type keyring struct {
	name string

	mu       sync.RWMutex // guards what follows
	current  *signingKey
	next     *signingKey
	previous []*signingKey // newest first
}

// fill takes the given keys and makes the missing ones, side by side.
func (k *keyring) fill(given []*rsa.PrivateKey, name string, now time.Time) error {
	var (
		wg   sync.WaitGroup
		made [2]*signingKey
		errs [2]error
	)
	for i := range made {
		var private *rsa.PrivateKey
		if i < len(given) {
			private = given[i]
		}
		wg.Go(func() { made[i], errs[i] = makeKey(private, name, now) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	k.name, k.current, k.next = name, made[0], made[1]
	if k.current.public.KeyID == k.next.public.KeyID {
		return fmt.Errorf("key %s is both the current and the next one", k.current.public.KeyID)
	}
	return nil
}

func makeKey(private *rsa.PrivateKey, name string, now time.Time) (*signingKey, error) {
	if private == nil {
		var err error
		if private, err = rsa.GenerateKey(rand.Reader, minKeyBits); err != nil {
			return nil, fmt.Errorf("make signing key: %w", err)
		}
	}
	return newSigningKey(private, name, now)
}

func (k *keyring) signer() *signingKey {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.current
}

// published are the keys of the JWKS: current, next, then the previous ones.
func (k *keyring) published() []*signingKey {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return append([]*signingKey{k.current, k.next}, k.previous...)
}

// KeyID is the kid of the key that signs now.
func (s *Server) KeyID() string { return s.keys.signer().public.KeyID }

// Rotate makes the next key the current one and publishes a new next key. The key that signed before stays published
// until [Server.Revoke] drops it, so tokens that are out keep working.
func (s *Server) Rotate() error {
	fresh, err := makeKey(nil, s.keys.name, s.cfg.Now())
	if err != nil {
		return fmt.Errorf("rotate keys: %w", err)
	}
	k := &s.keys
	k.mu.Lock()
	defer k.mu.Unlock()
	k.previous = slices.Insert(k.previous, 0, k.current)
	k.current, k.next = k.next, fresh
	return nil
}

// Revoke stops publishing a previous key. The current and the next key cannot be revoked, as in Auth0: rotate first.
func (s *Server) Revoke(kid string) error {
	k := &s.keys
	k.mu.Lock()
	defer k.mu.Unlock()
	i := slices.IndexFunc(k.previous, func(p *signingKey) bool { return p.public.KeyID == kid })
	if i < 0 {
		return fmt.Errorf("revoke key %q: not a previous key", kid)
	}
	k.previous = slices.Delete(k.previous, i, i+1)
	return nil
}

// serveKeys answers GET /.well-known/jwks.json.
func (s *Server) serveKeys(w http.ResponseWriter, _ *http.Request) {
	set := struct {
		Keys []jwk `json:"keys"`
	}{}
	for _, k := range s.keys.published() {
		set.Keys = append(set.Keys, k.public)
	}
	writeWellKnown(w, set)
}

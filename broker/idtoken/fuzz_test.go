package idtoken_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"credential-broker/broker"
	"credential-broker/broker/idtoken"
)

func secretOf(d *draft) broker.Secret { return broker.NewSecret(d.mint()) }

// A token is accepted only if it is one that the signer made, to the byte: no
// second spelling of a token exists. (RS256 alone: whoever holds an ECDSA
// signature can make a second one of it.) Threat case DS20.
func FuzzVerify(f *testing.F) {
	v := started(f, config(newOrigin()))
	minted := map[string]bool{} // :: token → it is good
	for _, aud := range []any{audience, []string{audience, "x"}} {
		d := newDraft(noon)
		d.claims["aud"] = aud
		token := d.mint()
		minted[token] = true
		f.Add(token)
	}
	for _, r := range rules() {
		d := newDraft(noon)
		r.change(d)
		f.Add(d.mint())
	}
	f.Fuzz(func(t *testing.T, token string) {
		id, err := v.Verify(t.Context(), broker.NewSecret(token))
		if err == nil {
			if !minted[token] || id.Subject != "auth0|alice" {
				t.Fatalf("accepted %q", token)
			}
			return
		}
		switch broker.ClassOf(err) {
		case broker.ErrInvalidToken, broker.ErrExpiredToken, broker.ErrMissingToken:
		default:
			t.Fatalf("class %s: %v", broker.ClassOf(err), err)
		}
		keepsQuiet(t, err, token)
	})
}

// Whatever the set, each key that is taken is one that may be. Threat case DS20.
func FuzzKeySet(f *testing.F) {
	f.Add([]byte(jwks(with(), ec("ES384", "kid", "e"), map[string]any{"kty": "oct", "k": "AAAA"})))
	f.Add([]byte(jwks(with("n", modulus(1024)), with("kid", "x", "e", "AQ"))))
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","kid":"1","x":"AA","y":"AA"},{"kty":"OKP"},{"kty":"AKP"}]}`))
	log := slog.New(slog.DiscardHandler)
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := idtoken.ParseKeySet(data, log)
		if err == nil && (len(keys) == 0 || len(keys) > 20) {
			t.Fatalf("%d keys", len(keys))
		}
		for kid, k := range keys {
			if kid == "" || len(kid) > 128 {
				t.Errorf("kid %q", kid)
			}
			switch public := k.Public.(type) {
			case *rsa.PublicKey:
				if bits := public.N.BitLen(); bits < 2048 || bits > 4096 || public.E != 65537 || !strings.HasPrefix(k.Alg, "RS") {
					t.Errorf("%s: RSA of %d bits, e = %d", k.Alg, bits, public.E)
				}
			case *ecdsa.PublicKey:
				want := map[string]string{"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}[public.Curve.Params().Name]
				if _, err := public.ECDH(); err != nil || k.Alg != want {
					t.Errorf("%s on %s: %v", k.Alg, want, err)
				}
			default:
				t.Errorf("a key of type %T", public)
			}
		}
	})
}

// What is accepted, encoding/json reads the same; it has no name twice, for it is
// as long when written again; and it is valid Unicode throughout. What is refused has
// one of the faults that are refused.
func FuzzParseObject(f *testing.F) {
	for _, r := range rules() {
		d := newDraft(noon)
		r.change(d)
		if d.claimsJSON != nil {
			f.Add([]byte(d.claimsJSON(marshal(d.claims))))
		}
	}
	f.Add([]byte(`{"a":[1,{"b":null}],"c":"\u00e9\ud83d\ude00","":-0.0e-1}`))
	f.Add([]byte(`{"keys":[{"kty":"RSA"}]} `))
	f.Add([]byte(` { "a" : [ ] , "b" : { } , "c" : [ 1 , "\\" , "\"" , true , [ [ ] , { } ] ] , "\u0064" : "é" } `))
	f.Add([]byte(`{"a":"\\\"","b":false,"c":null,"d":[null,-1.5E+3]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := idtoken.ParseObject(data)
		if err != nil {
			if got != nil {
				t.Fatal("an error, and an object")
			}
			if sound(data) {
				t.Fatalf("refused: %v", err)
			}
			return
		}
		var want map[string]any
		d := json.NewDecoder(bytes.NewReader(data))
		d.UseNumber()
		if err := d.Decode(&want); err != nil {
			t.Fatalf("encoding/json refuses it: %v", err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
		if !json.Valid(data) || !utf8.Valid(data) {
			t.Fatal("neither JSON nor UTF-8")
		}
		if n, m := count(data), members(got); n != m {
			t.Fatalf("%d members in the text, %d in the object", n, m)
		}
	})
}

// sound reports whether data has none of the faults that are refused, as the tokens of
// encoding/json tell.
func sound(data []byte) bool {
	var object map[string]any
	if !json.Valid(data) || json.Unmarshal(data, &object) != nil || object == nil {
		return false
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	depth, values := 0, 0
	for {
		token, err := d.Token()
		if err != nil {
			return count(data) == members(object)
		}
		switch token := token.(type) {
		case json.Delim:
			if token == '}' || token == ']' {
				depth--
				continue
			}
			depth++
		case string:
			if strings.ContainsRune(token, utf8.RuneError) {
				return false
			}
		}
		if values++; depth > 16 || values > 10_001 { // the object itself is one of these
			return false
		}
	}
}

// count counts the members in JSON text, by its colons outside strings.
func count(data []byte) (n int) {
	quoted, escaped := false, false
	for _, b := range data {
		switch {
		case escaped:
			escaped = false
		case quoted && b == '\\':
			escaped = true
		case b == '"':
			quoted = !quoted
		case b == ':' && !quoted:
			n++
		}
	}
	return n
}

// members counts the members of a value and of all in it.
func members(v any) (n int) {
	switch v := v.(type) {
	case map[string]any:
		n = len(v)
		for _, e := range v {
			n += members(e)
		}
	case []any:
		for _, e := range v {
			n += members(e)
		}
	}
	return n
}

package idtoken_test

import (
	"bytes"
	"crypto/rsa"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"credential-broker/broker/idtoken"
)

// with is a good key, named "odd", with members changed.
func with(more ...any) map[string]any { return jwkOf("odd", globexRSA(), more...) }

// less is a good key, named "odd", without a member.
func less(name string) map[string]any {
	k := with()
	delete(k, name)
	return k
}

func ec(alg string, more ...any) map[string]any { return jwkOf("odd", globexECDSA[alg](), more...) }

func TestAKeyThatIsNotForUsIsLeftOutAndTheRestStays(t *testing.T) {
	es := ec("ES256")
	for name, c := range map[string]struct {
		odd    any
		reason string
	}{
		"a post-quantum key":            {with("kty", "AKP", "alg", "ML-DSA-65", "pub", "AAAA"), `type \"AKP\"`},
		"an Edwards key":                {map[string]any{"kid": "odd", "kty": "OKP", "crv": "Ed25519", "x": "AAAA"}, `type \"OKP\"`},
		"a type in another case":        {with("kty", "rsa"), `type \"rsa\"`},
		"no type":                       {less("kty"), `type \"\"`},
		"a type that is a number":       {with("kty", 1), `type \"\"`},
		"a curve that is not known":     {ec("ES256", "crv", "secp256k1"), "secp256k1"},
		"no curve":                      {ec("ES256", "crv", nil), "with curve"},
		"for encryption":                {with("use", "enc"), "use is not sig"},
		"use null":                      {with("use", nil), "use is not sig"},
		"use a list":                    {with("use", []string{"sig"}), "use is not sig"},
		"key_ops that sign":             {with("key_ops", []string{"sign"}), "key_ops without verify"},
		"key_ops empty":                 {with("key_ops", []string{}), "key_ops without verify"},
		"key_ops a string":              {with("key_ops", "verify"), "key_ops without verify"},
		"no kid":                        {less("kid"), "kid is not a string"},
		"kid a number":                  {with("kid", 3), "kid is not a string"},
		"kid empty":                     {with("kid", ""), "kid is empty"},
		"kid of 129 bytes":              {with("kid", strings.Repeat("k", 129)), "kid is empty or longer"},
		"alg PS256":                     {with("alg", "PS256"), `alg \"PS256\" is not one`},
		"alg RSA-OAEP":                  {with("alg", "RSA-OAEP"), `alg \"RSA-OAEP\" is not one`},
		"alg HS256":                     {with("alg", "HS256"), `alg \"HS256\" is not one`},
		"alg none":                      {with("alg", "none"), `alg \"none\" is not one`},
		"alg null":                      {with("alg", nil), `alg \"\" is not one`},
		"alg of another type":           {with("alg", "ES256"), `alg \"ES256\" is not one`},
		"alg of another curve":          {ec("ES256", "alg", "ES384"), `alg \"ES384\" is not one`},
		"RSA alg on a curve":            {ec("ES256", "alg", "RS256"), `alg \"RS256\" is not one`},
		"a modulus of 2047 bits":        {with("n", modulus(2047)), "modulus of 2047 bits"},
		"a modulus of 1024 bits":        {with("n", modulus(1024)), "modulus of 1024 bits"},
		"a modulus of 4097 bits":        {with("n", modulus(4097)), "modulus of 4097 bits"},
		"a modulus of 65536 bits":       {with("n", modulus(65536)), "modulus of 65536 bits"},
		"a modulus led by zeros":        {with("n", b64(append(make([]byte, 200), 1))), "modulus of 1 bits"},
		"no modulus":                    {less("n"), "modulus: empty"},
		"a modulus with padding":        {with("n", modulus(2048)+"=="), "modulus: not canonical"},
		"a modulus with a line feed":    {with("n", modulus(2048)[:9]+"\n"+modulus(2048)[9:]), "modulus: line break"},
		"a modulus that is a list":      {with("n", []string{modulus(2048)}), "modulus: empty"},
		"e = 1":                         {with("e", "AQ"), "exponent is not 65537"},
		"e = 3":                         {with("e", "Aw"), "exponent is not 65537"},
		"e = 65537 + 2^64":              {with("e", b64([]byte{1, 0, 0, 0, 0, 0, 1, 0, 1})), "exponent is not 65537"},
		"e = 65537 with a zero before":  {with("e", "AAEAAQ"), "exponent is not 65537"},
		"e a number":                    {with("e", 65537), "exponent is not 65537"},
		"no e":                          {less("e"), "exponent is not 65537"},
		"a point off the curve":         {ec("ES256", "y", es["x"]), "the point is not on the curve"},
		"a point of nothing":            {ec("ES256", "x", b64(make([]byte, 32)), "y", b64(make([]byte, 32))), "the point is not on the curve"},
		"a coordinate beyond the field": {ec("ES256", "x", b64(bytes.Repeat([]byte{255}, 32))), "the point is not on the curve"},
		"a short coordinate":            {ec("ES256", "x", b64(make([]byte, 31))), "coordinate x of 31 bytes, not 32"},
		"a long coordinate":             {ec("ES384", "y", b64(make([]byte, 49))), "coordinate y of 49 bytes, not 48"},
		"no coordinate":                 {ec("ES256", "y", nil), "coordinate y: empty"},
		"a coordinate with padding":     {ec("ES256", "x", es["x"].(string)+"="), "coordinate x: not canonical"},
	} {
		t.Run(name, func(t *testing.T) {
			level, log := leftOut(t, c.odd)
			if level != "INFO" || !strings.Contains(log, c.reason) {
				t.Errorf("logged %s, want INFO …%s…", log, c.reason)
			}
		})
	}
}

// leftOut fails unless the odd key is left out and a good one beside it is not. It
// returns the level and the line of the log.
func leftOut(t *testing.T, odd any) (level, line string) {
	t.Helper()
	var buffer bytes.Buffer
	keys, err := idtoken.ParseKeySet([]byte(jwks(odd, jwkOf("good", acmeRSA()))), slog.New(slog.NewTextHandler(&buffer, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"good"}, slices.Collect(maps.Keys(keys))); diff != "" {
		t.Error(diff)
	}
	line = buffer.String()
	if strings.Count(line, "\n") != 1 || len(line) > 400 {
		t.Fatalf("logged %q", line)
	}
	_, level, _ = strings.Cut(line, "level=")
	level, _, _ = strings.Cut(level, " ")
	return level, line
}

func TestSecretsInAPublicSetAreDroppedWithAnAlarm(t *testing.T) {
	const canary = "Y2FuYXJ5LXNlY3JldC1rZXktbWF0ZXJpYWw"
	secret := map[string]any{
		"a symmetric key":             map[string]any{"kid": "odd", "kty": "oct", "alg": "HS256", "k": canary},
		"a symmetric key, emptied":    map[string]any{"kid": "odd", "kty": "oct"},
		"a private EC key":            ec("ES256", "d", canary),
		"a private key without a kid": map[string]any{"kty": "RSA", "d": canary},
		"a private Edwards key":       map[string]any{"kid": "odd", "kty": "OKP", "crv": "Ed25519", "d": canary},
	}
	for _, name := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"} {
		secret["RSA "+name] = with(name, canary)
		secret["RSA "+name+" null"] = with(name, nil)
	}
	for name, odd := range secret {
		t.Run(name, func(t *testing.T) {
			level, line := leftOut(t, odd)
			if level != "ERROR" || !strings.Contains(line, "secret key material") {
				t.Errorf("logged %s", line)
			}
			if strings.Contains(line, canary) {
				t.Errorf("the log holds the secret: %s", line)
			}
		})
	}
}

func TestASetThatIsNotSoundIsRefusedWhole(t *testing.T) {
	good := jwkOf("good", acmeRSA())
	many := func(n int) (keys []any) {
		for i := range n {
			keys = append(keys, jwkOf("k"+string(rune('a'+i)), acmeRSA()))
		}
		return keys
	}
	if _, err := idtoken.ParseKeySet([]byte(jwks(many(20)...)), slog.New(slog.DiscardHandler)); err != nil {
		t.Errorf("twenty keys: %v", err)
	}
	for name, c := range map[string]struct{ set, reason string }{
		"twenty-one keys":              {jwks(many(21)...), "more than 20 keys"},
		"two keys of one name":         {jwks(good, jwkOf("good", globexRSA())), `kid "good" stands twice`},
		"one of two keys not for us":   {jwks(good, jwkOf("good", globexRSA(), "use", "enc")), `kid "good" stands twice`},
		"the other way round":          {jwks(jwkOf("good", globexRSA(), "use", "enc"), good), `kid "good" stands twice`},
		"the same key twice":           {jwks(good, good), `kid "good" stands twice`},
		"a key that is a string":       {jwks(good, "key"), "a key is not an object"},
		"a key that is null":           {jwks(good, nil), "a key is not an object"},
		"a member twice":               {`{"keys":[{"kid":"a","kid":"b"}]}`, `member "kid" stands twice`},
		"keys twice":                   {`{"keys":[],"keys":[` + marshal(good) + `]}`, `member "keys" stands twice`},
		"Keys":                         {`{"Keys":[` + marshal(good) + `]}`, "keys is not an array"},
		"keys an object":               {`{"keys":{"good":` + marshal(good) + `}}`, "keys is not an array"},
		"a key without a set":          {marshal(good), "keys is not an array"},
		"an array":                     {`[` + marshal(good) + `]`, "not a JSON object"},
		"a BOM":                        {"\ufeff" + jwks(good), "not a JSON object"},
		"nested deeper than can be":    {`{"keys":[` + marshal(good) + `],"x":` + nested(16) + `}`, "nested deeper"},
		"no key":                       {`{"keys":[]}`, "none of 0 keys"},
		"keys of which none is for us": {jwks(with("use", "enc"), map[string]any{"kty": "x"}), "none of 2 keys"},
	} {
		t.Run(name, func(t *testing.T) {
			keys, err := idtoken.ParseKeySet([]byte(c.set), slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), c.reason) || keys != nil {
				t.Errorf("got %v, want …%s…", err, c.reason)
			}
		})
	}
}

func TestKeysWithoutANameAreNotTwoOfOneName(t *testing.T) {
	keys, err := idtoken.ParseKeySet([]byte(jwks(less("kid"), jwkOf("good", acmeRSA()), less("kid"), with("kid", ""))), slog.New(slog.DiscardHandler))
	if err != nil || len(keys) != 1 {
		t.Errorf("%d keys: %v", len(keys), err)
	}
}

func TestGoodKeysKeepTheirAlgorithm(t *testing.T) {
	for name, c := range map[string]struct {
		jwk map[string]any
		alg string
	}{
		"RSA":                         {with(), "RS256"},
		"RSA for RS384":               {with("alg", "RS384"), "RS384"},
		"RSA for RS512":               {with("alg", "RS512"), "RS512"},
		"RSA with a curve":            {with("crv", "P-256"), "RS256"},
		"2048 bits":                   {with("n", modulus(2048)), "RS256"},
		"4096 bits":                   {with("n", modulus(4096)), "RS256"},
		"P-256":                       {ec("ES256"), "ES256"},
		"P-384":                       {ec("ES384"), "ES384"},
		"P-521":                       {ec("ES512"), "ES512"},
		"P-256 for ES256":             {ec("ES256", "alg", "ES256"), "ES256"},
		"no use":                      {less("use"), "RS256"},
		"key_ops with verify":         {with("key_ops", []string{"sign", "verify"}), "RS256"},
		"certificates, not looked at": {with("x5c", []string{"!"}, "x5t", 7, "x5u", "https://evil.example"), "RS256"},
		"a name of 128 bytes":         {with("kid", strings.Repeat("k", 128)), "RS256"},
	} {
		t.Run(name, func(t *testing.T) {
			keys, err := idtoken.ParseKeySet([]byte(jwks(c.jwk)), slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			if got := keys[c.jwk["kid"].(string)].Alg; got != c.alg {
				t.Errorf("got %q, want %q", got, c.alg)
			}
		})
	}
}

// The example of RFC 7638 §3.1.
func TestAThumbprintIsTheStandards(t *testing.T) {
	const n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
	keys, err := idtoken.ParseKeySet([]byte(jwks(map[string]any{"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"})), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if got := keys["2011-04-29"].Thumbprint; got != "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs" {
		t.Errorf("thumbprint %s", got)
	}
}

func TestAKeyIsTheNumbersOfItsJWK(t *testing.T) {
	keys, err := idtoken.ParseKeySet([]byte(jwks(with(), jwkOf("e", globexECDSA["ES512"]()))), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if public, ok := keys["odd"].Public.(*rsa.PublicKey); !ok || !globexRSA().PublicKey.Equal(public) {
		t.Error("the RSA key is another")
	}
	if !globexECDSA["ES512"]().PublicKey.Equal(keys["e"].Public) {
		t.Error("the EC key is another")
	}
}

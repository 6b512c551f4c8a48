package idtoken_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
)

// row is the good token with one thing changed, and the rule that refuses it.
type row struct {
	name   string
	change func(*draft)
	reason string
}

func inHeader(name string, value any) func(*draft) {
	return func(d *draft) { d.header[name] = value }
}

func inClaims(name string, value any) func(*draft) {
	return func(d *draft) { d.claims[name] = value }
}

func without(name string) func(*draft) {
	return func(d *draft) { delete(d.claims, name); delete(d.header, name) }
}

// claimText replaces a part of the claims' JSON, which is signed as it then stands.
func claimText(from, to string) func(*draft) {
	return func(d *draft) { d.claimsJSON = func(s string) string { return mustReplace(s, from, to) } }
}

func headerText(from, to string) func(*draft) {
	return func(d *draft) { d.headerJSON = func(s string) string { return mustReplace(s, from, to) } }
}

// segments changes the finished token.
func segments(change func(s []string) string) func(*draft) {
	return func(d *draft) { d.token = func(s string) string { return change(strings.Split(s, ".")) } }
}

// resigned spells the payload segment differently and signs it so.
func resigned(spell func(string) string) func(*draft) {
	return func(d *draft) {
		d.token = func(s string) string {
			parts := strings.Split(s, ".")
			return seal(d, parts[0]+"."+spell(parts[1]))
		}
	}
}

func globexWith(changes ...func(*draft)) func(*draft) {
	return func(d *draft) {
		d.ofGlobex("RS256")
		for _, c := range changes {
			c(d)
		}
	}
}

func mustReplace(s, from, to string) string {
	if !strings.Contains(s, from) {
		panic("nothing to replace: " + from)
	}
	return strings.Replace(s, from, to, 1)
}

func lastCharPlusOne(segment string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, segment[len(segment)-1])
	return segment[:len(segment)-1] + string(alphabet[last+1])
}

// padded makes the payload's length leave unused bits in its last character.
func padded(change func(*draft)) func(*draft) {
	return func(d *draft) {
		for pad := ""; len(marshal(d.claims))%3 != 1; pad += "x" {
			d.claims["pad"] = pad
		}
		change(d)
	}
}

func nested(depth int) string {
	return strings.Repeat(`{"a":`, depth-1) + "[]" + strings.Repeat("}", depth-1)
}

// rules are one row a rule that this rule alone refuses: all else in the token is
// good, its signature included.
func rules() []row {
	now := noon.Unix()
	rows := []row{
		// size and compact form
		{"longer than 8192 bytes", func(d *draft) {
			d.token = func(s string) string { return s + strings.Repeat("A", 8193-len(s)) }
		}, "longer than 8192 bytes"},
		{"an opaque token", segments(func([]string) string { return "dGhpcyBpcyBvcGFxdWU" }), "not three segments"},
		{"two segments", segments(func(s []string) string { return s[0] + "." + s[1] }), "not three segments"},
		{"four segments", segments(func(s []string) string { return strings.Join(s, ".") + "." }), "not three segments"},
		{"five segments: JWE", segments(func(s []string) string { return strings.Join(append(s, s[1], s[2]), ".") }), "not three segments"},
		{"an empty header", segments(func(s []string) string { return "." + s[1] + "." + s[2] }), "header segment: empty"},
		{"an empty payload: detached", segments(func(s []string) string { return s[0] + ".." + s[2] }), "payload segment: empty"},
		{"an empty signature", segments(func(s []string) string { return s[0] + "." + s[1] + "." }), "signature segment: empty"},
		{"JWS JSON serialisation with unsigned members", segments(func(s []string) string {
			return fmt.Sprintf(`{"protected":%q,"payload":%q,"signature":%q,"sub":"auth0|mallory","iss":%q}`, s[0], s[1], s[2], acme)
		}), "segment"},
		{"JWS JSON serialisation with two dots", segments(func(s []string) string {
			return fmt.Sprintf(`{"protected":%q,"payload":%q,"signature":%q,"sub":".."}`, s[0], s[1], s[2])
		}), "not canonical base64url"},
		// CC30: other spellings of one token, from here to "the other base64 alphabet"
		{"a line feed in the signature", segments(func(s []string) string { return s[0] + "." + s[1] + "." + s[2][:9] + "\n" + s[2][9:] }), "signature segment: line break"},
		{"a carriage return in the signature", segments(func(s []string) string { return s[0] + "." + s[1] + "." + s[2] + "\r" }), "signature segment: line break"},
		{"a line feed in the payload, signed so", resigned(func(s string) string { return s[:9] + "\n" + s[9:] }), "payload segment: line break"},
		{"padding on the signature", segments(func(s []string) string { return strings.Join(s, ".") + "==" }), "not canonical base64url"},
		{"padding on the payload, signed so", padded(resigned(func(s string) string { return s + "==" })), "payload segment: not canonical"},
		{"unused bits in the signature", segments(func(s []string) string { return s[0] + "." + s[1] + "." + lastCharPlusOne(s[2]) }), "signature segment: not canonical"},
		{"unused bits in the payload, signed so", padded(resigned(lastCharPlusOne)), "payload segment: not canonical"},
		{"a space before", segments(func(s []string) string { return " " + strings.Join(s, ".") }), "header segment: not canonical"},
		{"a space after", segments(func(s []string) string { return strings.Join(s, ".") + " " }), "signature segment: not canonical"},
		{"the other base64 alphabet", func(d *draft) {
			d.claims["x"] = "~~~???>>>"
			resigned(func(s string) string {
				return strings.NewReplacer("-", "+", "_", "/").Replace(mustContain(s, "-", "_"))
			})(d)
		}, "payload segment: not canonical"},

		// JSON, in the header as in the claims
		{"a BOM before the header", headerText("{", "\ufeff{"), "header: not a JSON object"},
		{"a BOM before the claims", claimText("{", "\ufeff{"), "claims: not a JSON object"},
		{"UTF-16 claims", func(d *draft) {
			d.claimsJSON = func(s string) string { return strings.Join(strings.Split(s, ""), "\x00") }
		}, "claims: malformed JSON"},
		{"bytes after the claims", func(d *draft) { d.claimsJSON = func(s string) string { return s + "{}" } }, "claims: bytes after"},
		{"a NUL after the claims", func(d *draft) { d.claimsJSON = func(s string) string { return s + "\x00" } }, "claims: bytes after"},
		{"bytes after the header", func(d *draft) { d.headerJSON = func(s string) string { return s + "x" } }, "header: bytes after"},
		{"claims in an array", func(d *draft) { d.claimsJSON = func(s string) string { return "[" + s + "]" } }, "claims: not a JSON object"},
		{"claims that are a string: a nested JWT", func(d *draft) { d.claimsJSON = func(string) string { return `"e30.e30.e30"` } }, "claims: not a JSON object"},
		{"claims that are null", func(d *draft) { d.claimsJSON = func(string) string { return "null" } }, "claims: not a JSON object"},
		{"a header that is an array", func(d *draft) { d.headerJSON = func(s string) string { return "[" + s + "]" } }, "header: not a JSON object"},
		{"no brace at the end", func(d *draft) { d.claimsJSON = func(s string) string { return strings.TrimSuffix(s, "}") } }, "claims: malformed JSON"},
		{"a bracket for a brace", func(d *draft) { d.claimsJSON = func(s string) string { return strings.TrimSuffix(s, "}") + "]" } }, "claims: malformed JSON"},
		{"a comment", claimText("{", "{/**/"), "claims: malformed JSON"},
		{"a trailing comma", claimText("}", ",}"), "claims: malformed JSON"},
		{"a missing comma", claimText(`,"`, ` "`), "claims: malformed JSON"},
		{"a claim twice", claimText("{", `{"sub":"auth0|mallory",`), `claims: member "sub" stands twice`},
		{"a claim twice with the same value", claimText("{", `{"sub":"auth0|alice",`), `claims: member "sub" stands twice`},
		{"a claim twice, once escaped", claimText("{", `{"s\u0075b":"auth0|mallory",`), `claims: member "sub" stands twice`},
		{"a name twice further down", claimText("{", `{"m":[{"tenant":"a","tenant":"b"}],`), `claims: member "tenant" stands twice`},
		{"a header member twice", headerText("{", `{"kid":"a1",`), `header: member "kid" stands twice`},
		{"claims nested too deeply", claimText("{", `{"deep":`+nested(16)+`,`), "claims: JSON nested deeper than 16"},
		{"objects nested too deeply", claimText("{", `{"deep":`+strings.Repeat(`{"a":`, 15)+"{}"+strings.Repeat("}", 15)+`,`), "claims: JSON nested deeper than 16"},
		{"arrays nested too deeply", claimText("{", `{"deep":`+strings.Repeat("[", 500)+strings.Repeat("]", 500)+`,`), "claims: JSON nested deeper than 16"},
		{"a lone high surrogate", claimText("{", `{"x":"\ud800",`), "not valid Unicode"},
		{"a lone low surrogate", claimText("{", `{"x":"\udc00a",`), "not valid Unicode"},
		{"surrogates the wrong way round", claimText("{", `{"x":"\udc00\ud800",`), "not valid Unicode"},
		{"a lone surrogate in a name", claimText("{", `{"\ud800":1,`), "not valid Unicode"},
		{"a lone surrogate in the header", headerText("{", `{"x":"\ud800",`), "header: text that is not valid Unicode"},
		{"U+FFFD, repaired elsewhere", inClaims("name", "al\ufffdce"), "repaired (U+FFFD)"},
		{"invalid UTF-8", claimText("alice", "al\xffce"), "not valid Unicode"},
		{"overlong UTF-8", claimText("alice", "al\xc0\xafce"), "not valid Unicode"},
		{"a surrogate as UTF-8", claimText("alice", "al\xed\xa0\x80ce"), "not valid Unicode"},
		{"invalid UTF-8 in the header", headerText(`"a1"`, "\"a1\xff\""), "header: text that is not valid Unicode"},

		// header
		{"typ of a logout token", inHeader("typ", "logout+jwt"), `typ "logout+jwt" is none of`},
		{"typ of a DPoP proof", inHeader("typ", "dpop+jwt"), `typ "dpop+jwt" is none of`},
		{"typ empty", inHeader("typ", ""), `typ "" is none of`},
		{"typ with another tree", inHeader("typ", "text/jwt"), `typ "text/jwt" is none of`},
		{"typ null", inHeader("typ", nil), "typ is not a string"},
		{"typ an array", inHeader("typ", []string{"JWT"}), "typ is not a string"},
		{"kid absent", without("kid"), "kid is not a string"},
		{"kid a number", inHeader("kid", 1), "kid is not a string"},
		{"kid empty", inHeader("kid", ""), "kid is empty or longer"},
		{"kid of 129 bytes", inHeader("kid", strings.Repeat("k", 129)), "kid is empty or longer"},
		{"kid unknown", inHeader("kid", "a2"), `key "a2" is not known`},
		{"kid in another case", inHeader("kid", "A1"), `key "A1" is not known`},
		{"kid a path", inHeader("kid", "../../dev/null"), "is not known"},
		{"KID instead of kid", headerText(`"kid"`, `"KID"`), "kid is not a string"},
		{"alg absent", without("alg"), "alg is not a string"},
		{"alg an array", inHeader("alg", []string{"RS256"}), "alg is not a string"},
		{"alg in lower case", inHeader("alg", "rs256"), `alg "rs256" is not allowed`},
		{"Alg instead of alg", headerText(`"alg"`, `"Alg"`), "alg is not a string"},
		{"an algorithm of the other issuer, truly signed", func(d *draft) { d.header["alg"], d.alg = "RS384", "RS384" }, `alg "RS384" is not allowed`},
		{"PS256, truly signed", func(d *draft) { d.header["alg"], d.alg = "PS256", "PS256" }, `alg "PS256" is not allowed`},
		{"allowed, but not the key's algorithm, truly signed", globexWith(func(d *draft) { d.header["alg"], d.alg = "RS384", "RS384" }), "alg RS384 is not the key's RS256"},
		{"an RSA algorithm for an EC key", func(d *draft) { d.ofGlobex("ES256"); d.header["alg"] = "RS256" }, "alg RS256 is not the key's ES256"},

		// issuer and key
		{"iss absent", without("iss"), `iss "" is not a configured issuer`},
		{"iss another", inClaims("iss", "https://evil.example/"), `iss "https://evil.example/" is not`},
		{"iss without its slash", inClaims("iss", strings.TrimSuffix(acme, "/")), "is not a configured issuer"},
		{"iss in another case", inClaims("iss", strings.ToUpper(acme)), "is not a configured issuer"},
		{"iss an array", inClaims("iss", []string{acme}), "is not a configured issuer"},
		{"iss of one, key of the other", func(d *draft) { d.ofGlobex("RS256"); d.claims["iss"] = acme }, `key "b-RS256" is not known`},

		// claims
		{"cnf: bound to a key", inClaims("cnf", map[string]string{"jkt": "x"}), "sender-constrained"},
		{"events: a logout token for the API", inClaims("events", map[string]any{logoutEvent: map[string]any{}}), "security event token"},
		{"events null", inClaims("events", nil), "security event token"},
		{"cnf null", inClaims("cnf", nil), "sender-constrained"},
		{"aud absent", without("aud"), "aud: neither"},
		{"aud another", inClaims("aud", "https://other.example"), "aud: no configured audience"},
		{"aud longer by a slash", inClaims("aud", audience+"/"), "aud: no configured audience"},
		{"aud in another case", inClaims("aud", strings.ToUpper(audience)), "aud: no configured audience"},
		{"aud of the other issuer", inClaims("aud", "other"), "aud: no configured audience"},
		{"aud an empty array", inClaims("aud", []string{}), "aud: neither"},
		{"aud an array without ours", inClaims("aud", []string{"a", "b"}), "aud: no configured audience"},
		{"aud an array with a number", inClaims("aud", []any{audience, 1}), "aud: an array with an element"},
		{"aud an array in an array", inClaims("aud", []any{[]string{audience}}), "aud: an array with an element"},
		{"aud an object", inClaims("aud", map[string]any{audience: true}), "aud: neither"},
		{"aud null", inClaims("aud", nil), "aud: neither"},
		{"sub absent", without("sub"), "sub: not a string"},
		{"sub a number", inClaims("sub", 7), "sub: not a string"},
		{"sub an array", inClaims("sub", []string{"auth0|alice"}), "sub: not a string"},
		{"sub empty", inClaims("sub", ""), "sub: empty or longer"},
		{"sub of 256 bytes", inClaims("sub", strings.Repeat("s", 256)), "sub: empty or longer"},
		{"sub of 255 characters and more bytes", inClaims("sub", strings.Repeat("s", 254)+"é"), "sub: empty or longer"},
		// CC06: what is cut or trimmed into another name
		{"sub with a line feed", inClaims("sub", "auth0|\nalice"), "sub: has a control character"},
		{"sub with a NUL", inClaims("sub", "auth0|alice\x00"), "sub: has a control character"},
		{"sub with DEL", inClaims("sub", "auth0|\x7falice"), "sub: has a control character"},
		{"sub with a C1 control", inClaims("sub", "auth0|\u0085alice"), "sub: has a control character"},
		{"sub with a space before", inClaims("sub", " auth0|alice"), "sub: begins or ends with a space"},
		{"sub with a space after", inClaims("sub", "auth0|alice "), "sub: begins or ends with a space"},
		{"sub with a no-break space after", inClaims("sub", "auth0|alice\u00a0"), "sub: begins or ends with a space"},
		{"Sub instead of sub", claimText(`"sub"`, `"Sub"`), "sub: not a string"},
		{"ſub (U+017F) instead of sub", claimText(`"sub"`, `"ſub"`), "sub: not a string"},
		{"iſs (U+017F) instead of iss", claimText(`"iss"`, `"iſs"`), "is not a configured issuer"},
		{"EXP instead of exp", claimText(`"exp"`, `"EXP"`), "exp: not a number"},
		{"azp a number", inClaims("azp", 1), "azp: not a string"},
		{"azp empty", inClaims("azp", ""), "azp: empty or longer"},
		{"client_id null", inClaims("client_id", nil), "client_id: not a string"},
		{"azp and client_id differ", inClaims("client_id", "reports"), "azp and client_id differ"},
		{"client not in the list", globexWith(inClaims("azp", "evil")), `client "evil" is not allowed`},
		{"no client where there is a list", globexWith(without("azp")), `client "" is not allowed`},

		// times
		{"exp absent", without("exp"), "exp: not a number"},
		{"exp null", inClaims("exp", nil), "exp: not a number"},
		{"exp a string", inClaims("exp", fmt.Sprint(now+3600)), "exp: not a number"},
		{"exp a float", inClaims("exp", json.RawMessage(fmt.Sprintf("%d.0", now+3600))), "exp: not a whole number"},
		{"exp with an exponent", inClaims("exp", json.RawMessage(fmt.Sprintf("%de0", now+3600))), "exp: not a whole number"},
		{"exp beyond int64", inClaims("exp", json.RawMessage("9223372036854775808")), "exp: not a whole number"},
		{"exp zero", inClaims("exp", 0), "iat is not between"},
		{"exp negative", inClaims("exp", -1), "iat is not between"},
		{"exp for ever", inClaims("exp", int64(1<<62)), "made to live longer"},
		{"exp - iat one second over the maximum", func(d *draft) {
			d.claims["iat"], d.claims["exp"] = now-60, now-60+86400+1
		}, "made to live longer than 24h0m0s"},
		{"iat absent", without("iat"), "iat: not a number"},
		{"iat a float", inClaims("iat", json.RawMessage("1.5")), "iat: not a whole number"},
		{"iat zero", func(d *draft) { d.claims["iat"] = 0 }, "iat is not between"},
		{"iat equal to exp", inClaims("iat", now+3600), "iat is not between"},
		{"iat beyond the leeway", inClaims("iat", now+6), "iat is in the future"},
		{"nbf beyond the leeway", inClaims("nbf", now+6), "nbf is in the future"},
		{"nbf a string", inClaims("nbf", "0"), "nbf: not a number"},
		{"nbf null", inClaims("nbf", nil), "nbf: not a number"},

		// signature
		{"signed by another key", func(d *draft) { d.private = globexRSA() }, "the signature is not the key's"},
		{"signed with another hash", func(d *draft) { d.alg = "RS512" }, "the signature is not the key's"},
		{"signed as PSS", func(d *draft) { d.alg = "PS256" }, "the signature is not the key's"},
		{"claims changed after signing", segments(func(s []string) string {
			return s[0] + "." + b64(bytes.Replace(unb64(s[1]), []byte("alice"), []byte("bobby"), 1)) + "." + s[2]
		}), "the signature is not the key's"},
		{"header changed after signing", segments(func(s []string) string {
			return b64(bytes.Replace(unb64(s[0]), []byte(`,"typ":"JWT"`), nil, 1)) + "." + s[1] + "." + s[2]
		}), "the signature is not the key's"},
		{"signature cut by a byte", segments(func(s []string) string { return s[0] + "." + s[1] + "." + b64(unb64(s[2])[:255]) }), "the signature is not the key's"},
		{"a zero before the signature", segments(func(s []string) string { return s[0] + "." + s[1] + "." + b64(append([]byte{0}, unb64(s[2])...)) }), "the signature is not the key's"},
	}
	for _, alg := range []string{"none", "None", "NONE", "", "HS256", "HS512", "ES256", "ES256K", "EdDSA", "RSA1_5", "dir", "RS256 "} {
		rows = append(rows, row{"alg " + alg, inHeader("alg", alg), "is not allowed for the issuer"})
	}
	for name, value := range map[string]any{
		"crit": []string{"exp"}, "b64": false, "zip": "DEF", "cty": "JWT",
		"jku": "https://evil.example/keys", "x5u": "https://evil.example/cert", "x5c": []string{"MII="},
		"jwk": jwkOf("a1", acmeRSA()),
	} {
		rows = append(rows,
			row{"header " + name, inHeader(name, value), "header: member " + name + " is refused"},
			row{"header " + name + " null", inHeader(name, nil), "header: member " + name + " is refused"})
	}
	return rows
}

func mustContain(s string, parts ...string) string {
	for _, p := range parts {
		if strings.Contains(s, p) {
			return s
		}
	}
	panic("none of them is there")
}

func unb64(s string) []byte {
	data, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return data
}

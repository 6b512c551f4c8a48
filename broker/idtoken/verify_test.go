package idtoken_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"credential-broker/broker"
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
		{"a BOM before the header", headerText("{", "\ufeff{"), "header: not JSON"},
		{"a BOM before the claims", claimText("{", "\ufeff{"), "claims: not JSON"},
		{"UTF-16 claims", func(d *draft) {
			d.claimsJSON = func(s string) string { return strings.Join(strings.Split(s, ""), "\x00") }
		}, "claims: not JSON"},
		{"bytes after the claims", func(d *draft) { d.claimsJSON = func(s string) string { return s + "{}" } }, "claims: not JSON"},
		{"a NUL after the claims", func(d *draft) { d.claimsJSON = func(s string) string { return s + "\x00" } }, "claims: not JSON"},
		{"bytes after the header", func(d *draft) { d.headerJSON = func(s string) string { return s + "x" } }, "header: not JSON"},
		{"claims in an array", func(d *draft) { d.claimsJSON = func(s string) string { return "[" + s + "]" } }, "claims: not a JSON object"},
		{"claims that are a string: a nested JWT", func(d *draft) { d.claimsJSON = func(string) string { return `"e30.e30.e30"` } }, "claims: not a JSON object"},
		{"claims that are null", func(d *draft) { d.claimsJSON = func(string) string { return "null" } }, "claims: not a JSON object"},
		{"a header that is an array", func(d *draft) { d.headerJSON = func(s string) string { return "[" + s + "]" } }, "header: not a JSON object"},
		{"a comment", claimText("{", "{/**/"), "claims: not JSON"},
		{"a trailing comma", claimText("}", ",}"), "claims: not JSON"},
		{"a missing comma", claimText(`,"`, ` "`), "claims: not JSON"},
		{"a claim twice", claimText("{", `{"sub":"auth0|mallory",`), `claims: member "sub" stands twice`},
		{"a claim twice with the same value", claimText("{", `{"sub":"auth0|alice",`), `claims: member "sub" stands twice`},
		{"a claim twice, once escaped", claimText("{", `{"s\u0075b":"auth0|mallory",`), `claims: member "sub" stands twice`},
		{"a name twice further down", claimText("{", `{"m":[{"tenant":"a","tenant":"b"}],`), `claims: member "tenant" stands twice`},
		{"a header member twice", headerText("{", `{"kid":"a1",`), `header: member "kid" stands twice`},
		{"claims nested too deeply", claimText("{", `{"deep":`+nested(16)+`,`), "claims: JSON nested deeper than 16"},
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
		{"typ of a logout token", inHeader("typ", "logout+jwt"), `typ "logout+jwt" is neither`},
		{"typ of a DPoP proof", inHeader("typ", "dpop+jwt"), `typ "dpop+jwt" is neither`},
		{"typ empty", inHeader("typ", ""), `typ "" is neither`},
		{"typ with another tree", inHeader("typ", "text/jwt"), `typ "text/jwt" is neither`},
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

func TestEachRuleRefusesItsToken(t *testing.T) {
	o := newOrigin()
	v := started(t, config(o))
	before := o.all()
	for _, r := range rules() {
		t.Run(r.name, func(t *testing.T) {
			d := newDraft(noon)
			r.change(d)
			token := d.mint()
			id, err := v.Verify(t.Context(), broker.NewSecret(token))
			refused(t, err, broker.ErrInvalidToken, r.reason)
			if diff := cmp.Diff(broker.Identity{}, id); diff != "" {
				t.Errorf("something of the identity is there: %s", diff)
			}
			keepsQuiet(t, err, token)
		})
	}
	if diff := cmp.Diff(before, o.all()); diff != "" {
		t.Errorf("a token caused requests: %s", diff)
	}
}

// keepsQuiet fails if the error holds a part of the token that could be used, or
// text that could break a log.
func keepsQuiet(t *testing.T, err error, token string) {
	t.Helper()
	text := err.Error()
	for part := range strings.SplitSeq(token, ".") {
		if len(part) >= 16 && strings.Contains(text, part[len(part)-16:]) {
			t.Errorf("the error holds a part of the token: %q", text)
		}
	}
	if len(text) > 300 {
		t.Errorf("an error of %d bytes", len(text))
	}
	for _, r := range text {
		if r < ' ' || r > '~' && r != '…' {
			t.Errorf("the error has the character %U", r)
		}
	}
}

func TestHostileTextIsQuotedAndCutInErrors(t *testing.T) {
	v := started(t, config(newOrigin()))
	hostile := "\n\x1b[2J\u202e" + strings.Repeat("<script>", 12)
	for name, change := range map[string]func(*draft){
		"iss": inClaims("iss", hostile),
		"kid": inHeader("kid", hostile),
		"typ": inHeader("typ", hostile),
		"alg": inHeader("alg", hostile),
		"azp": globexWith(inClaims("azp", strings.Repeat("<script>", 30))),
		"a name that stands twice": func(d *draft) {
			d.claimsJSON = func(string) string {
				return "{" + marshal(hostile) + ":1," + marshal(hostile) + ":1}"
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDraft(noon)
			change(d)
			token := d.mint()
			_, err := v.Verify(t.Context(), broker.NewSecret(token))
			refused(t, err, broker.ErrInvalidToken, "…")
			keepsQuiet(t, err, token)
		})
	}
}

func TestGoodTokensAreAccepted(t *testing.T) {
	now := noon.Unix()
	v := started(t, config(newOrigin()))
	accept := map[string]func(*draft){
		"the good token":                         func(*draft) {},
		"no typ":                                 without("typ"),
		"typ at+jwt":                             inHeader("typ", "at+jwt"),
		"typ in any case, with its tree":         inHeader("typ", "Application/AT+JWT"),
		"typ application/jwt":                    inHeader("typ", "application/jwt"),
		"header members of no account":           inHeader("x5t", "abc"),
		"an unknown header member":               inHeader("org", map[string]any{"a": []int{1}}),
		"aud an array":                           inClaims("aud", []string{"https://acme.eu.auth0.com/userinfo", audience}),
		"sub of 255 bytes":                       inClaims("sub", strings.Repeat("s", 255)),
		"sub of a machine":                       inClaims("sub", "abc@clients"),
		"sub with a space within, not ASCII":     inClaims("sub", "ad|Zoë van Dam"),
		"no client":                              without("azp"),
		"client_id in place of azp":              func(d *draft) { delete(d.claims, "azp"); d.claims["client_id"] = "spa" },
		"azp and client_id alike":                inClaims("client_id", "spa"),
		"nbf at the end of the leeway":           inClaims("nbf", now+5),
		"nbf long ago":                           inClaims("nbf", -5),
		"iat at the end of the leeway":           inClaims("iat", now+5),
		"exp at the end of the leeway":           inClaims("exp", now-4),
		"a life of exactly the maximum":          func(d *draft) { d.claims["iat"], d.claims["exp"] = now, now+86400 },
		"another claim in another case":          inClaims("Sub", "auth0|mallory"),
		"a claim name that is escaped":           claimText(`"sub"`, `"s\u0075b"`),
		"a surrogate pair":                       claimText("{", `{"x":"\ud83d\ude00",`),
		"nested as deeply as can be":             claimText("{", `{"deep":`+nested(15)+`,`),
		"white space between the claims":         claimText("{", "\r\n\t { "),
		"AWS tags":                               inClaims("https://aws.amazon.com/tags", map[string]any{"principal_tags": map[string]any{"tenant": []string{"org_acme"}}}),
		"a client in the list":                   globexWith(inClaims("azp", "reports")),
		"any configured audience":                globexWith(inClaims("aud", "other")),
		"a token of exactly 8192 bytes":          fill(8192),
		"the claims of the good token, reversed": func(d *draft) { d.claimsJSON = func(string) string { return reversed(d.claims) } },
	}
	for _, alg := range []string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512"} {
		accept[alg] = func(d *draft) { d.ofGlobex(alg) }
	}
	for name, change := range accept {
		t.Run(name, func(t *testing.T) {
			d := newDraft(noon)
			change(d)
			id, err := v.Verify(t.Context(), broker.NewSecret(d.mint()))
			if err != nil {
				t.Fatal(err)
			}
			if id.Subject != d.claims["sub"] || id.Issuer != d.claims["iss"] {
				t.Errorf("got %s of %s, want %s of %s", id.Subject, id.Issuer, d.claims["sub"], d.claims["iss"])
			}
		})
	}
}

// fill makes a token of so many bytes. Three bytes of payload are four of token,
// so that not every length can be had by the payload alone.
func fill(size int) func(*draft) {
	return func(d *draft) {
		for _, more := range []string{"", "x", "xx"} {
			d.header["pad"], d.claims["pad"] = more, ""
			d.claims["pad"] = strings.Repeat("x", (size-len(d.mint()))/4*3)
			for range 3 {
				if len(d.mint()) == size {
					return
				}
				d.claims["pad"] = d.claims["pad"].(string) + "x"
			}
		}
		panic(fmt.Sprint("no token of ", size))
	}
}

func reversed(claims map[string]any) string {
	members := strings.Split(strings.Trim(marshal(claims), "{}"), `,"`)
	for i, m := range members {
		members[i] = `"` + strings.TrimPrefix(m, `"`)
	}
	for i, j := 0, len(members)-1; i < j; i, j = i+1, j-1 {
		members[i], members[j] = members[j], members[i]
	}
	return "{" + strings.Join(members, ",") + "}"
}

func TestAnIdentityIsWhatTheTokenSays(t *testing.T) {
	v := started(t, config(newOrigin()))
	d := newDraft(noon)
	d.claims["aud"] = []string{"x", audience}
	d.claims["exp"] = noon.Unix() - 3 // alive by the leeway alone
	d.claims["n"] = json.RawMessage("9007199254740993")
	got, err := v.Verify(t.Context(), broker.NewSecret(d.mint()))
	if err != nil {
		t.Fatal(err)
	}
	want := broker.Identity{
		Issuer: acme, Subject: "auth0|alice", Client: "spa", Audience: []string{"x", audience},
		Expiry: noon.Add(-3 * time.Second), // the leeway lengthens nothing
		Claims: broker.Claims{
			"iss": acme, "sub": "auth0|alice", "azp": "spa", "aud": []any{"x", audience}, "org_id": "org_acme",
			"iat": json.Number(fmt.Sprint(noon.Unix() - 60)), "exp": json.Number(fmt.Sprint(noon.Unix() - 3)),
			"n": json.Number("9007199254740993"),
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestNoTokenIsAMissingToken(t *testing.T) {
	_, err := started(t, config(newOrigin())).Verify(t.Context(), broker.Secret{})
	refused(t, err, broker.ErrMissingToken, "")
}

func TestAnExpiredTokenIsCalledSoOnlyIfAllElseIsRight(t *testing.T) {
	v := started(t, config(newOrigin()))
	expired := func(d *draft) { d.claims["iat"], d.claims["exp"] = noon.Unix()-3600, noon.Unix()-5 }
	for name, c := range map[string]struct {
		change func(*draft)
		class  broker.Class
	}{
		"at exp + leeway":           {func(*draft) {}, broker.ErrExpiredToken},
		"whatever its signature is": {func(d *draft) { d.private = globexRSA() }, broker.ErrExpiredToken},
		"whatever its key is":       {inHeader("kid", "a2"), broker.ErrExpiredToken},
		"another audience":          {inClaims("aud", "x"), broker.ErrInvalidToken},
		"another issuer":            {inClaims("iss", "x"), broker.ErrInvalidToken},
		"another algorithm":         {inHeader("alg", "none"), broker.ErrInvalidToken},
		"no subject":                {without("sub"), broker.ErrInvalidToken},
		"made for too long":         {inClaims("iat", 1), broker.ErrInvalidToken},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDraft(noon)
			expired(d)
			c.change(d)
			_, err := v.Verify(t.Context(), broker.NewSecret(d.mint()))
			refused(t, err, c.class, "")
		})
	}
}

func TestTheClockIsReadToTheLastMoment(t *testing.T) {
	for _, c := range []struct {
		after  time.Duration // after noon
		leeway time.Duration
		exp    int64 // after noon, in seconds
		alive  bool
	}{
		{0, time.Second, 0, true},
		{time.Second - 1, time.Second, 0, true},
		{time.Second, time.Second, 0, false},
		{59 * time.Second, time.Minute, 0, true},
		{time.Minute, time.Minute, 0, false},
		{0, 1, 0, true}, // the least leeway: a nanosecond
		{1, 1, 0, false},
	} {
		now := noon
		cfg := config(newOrigin())
		cfg.Leeway = c.leeway
		v := startedAt(t, cfg, func() time.Time { return now })
		now = noon.Add(c.after)
		d := newDraft(noon)
		d.claims["exp"] = noon.Unix() + c.exp
		_, err := v.Verify(t.Context(), broker.NewSecret(d.mint()))
		if alive := err == nil; alive != c.alive {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	v := started(b, config(newOrigin()))
	for _, alg := range []string{"RS256", "ES256"} {
		b.Run(alg, func(b *testing.B) {
			d := newDraft(noon)
			d.ofGlobex(alg)
			d.claims["permissions"] = []string{"upload:files", "read:files", "list:files"}
			d.claims["scope"] = "openid profile email " + strings.Repeat("upload:files ", 20)
			token := broker.NewSecret(d.mint())
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(b.Context(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

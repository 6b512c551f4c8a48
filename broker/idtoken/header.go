package idtoken

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxKeyID bounds `kid`, in bytes. Auth0's have 21, thumbprints 43.
const maxKeyID = 128

// header is what is used of a JOSE header (RFC 7515 §4.1).
type header struct{ alg, kid string }

// parseHeader reads and checks the header of a token of one of the types. Members
// that are neither used nor dangerous are ignored, as RFC 7515 §4 wants it.
func parseHeader(data []byte, types ...string) (header, error) {
	members, err := parseObject(data)
	if err != nil {
		return header{}, err
	}
	for _, name := range []string{
		"crit", "b64", // would change what is signed or what must be understood
		"zip", "cty", // would make the payload something else than claims
		"jwk", "jku", "x5c", "x5u", // the token's own idea of its key
	} {
		if _, ok := members[name]; ok {
			return header{}, fmt.Errorf("member %s is refused", name)
		}
	}
	if err := checkType(members, types); err != nil {
		return header{}, err
	}
	kid, err := keyID(members)
	if err != nil {
		return header{}, err
	}
	alg, ok := members["alg"].(string)
	if !ok {
		return header{}, errors.New("alg is not a string")
	}
	return header{alg: alg, kid: kid}, nil
}

// The types of tokens, as `typ` has them: any (RFC 7519 §5.1), access tokens (RFC
// 9068 §2.1) and logout tokens (OpenID Connect Back-Channel Logout 1.0 §2.4).
const (
	typeJWT    = "jwt"
	typeAccess = "at+jwt"
	typeLogout = "logout+jwt"
)

// checkType takes a token that is of one of the types, or does not say of which:
// no DPoP proof, no other kind that is signed with the same keys.
func checkType(members map[string]any, types []string) error {
	typ, present := members["typ"]
	if !present {
		return nil
	}
	text, ok := typ.(string)
	if !ok {
		return errors.New("typ is not a string")
	}
	// RFC 7515 §4.1.9: media types, whose case is of no account.
	if !slices.Contains(types, strings.TrimPrefix(strings.ToLower(text), "application/")) {
		return fmt.Errorf("typ %s is none of %s", quote(text), strings.Join(types, ", "))
	}
	return nil
}

// keyID reads `kid`, of a token as of a key.
func keyID(members map[string]any) (string, error) {
	kid, ok := members["kid"].(string)
	if !ok {
		return "", errors.New("kid is not a string")
	}
	if kid == "" || len(kid) > maxKeyID {
		return "", fmt.Errorf("kid is empty or longer than %d bytes", maxKeyID)
	}
	return kid, nil
}

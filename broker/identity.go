package broker

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"credential-broker/policy"
)

// Identity is who a verified token speaks for. Only a Verifier makes one.
type Identity struct {
	Issuer   string    // `iss`, byte for byte as configured
	Subject  string    // `sub`
	Client   string    // `azp`, or `client_id` in the profile of RFC 9068; may be empty
	Audience []string  // `aud`
	Expiry   time.Time // `exp`; the token is worth nothing from here on
	Claims   Claims    // everything the token says

	// KeyID and KeyThumbprint name the key that verified the token: its `kid`, and
	// its digest (RFC 7638), since a key may be replaced under its name. What was
	// given for a token goes with the key that vouched for it.
	KeyID, KeyThumbprint string

	// Plans, if set, keeps what is decided for this identity. Whoever remembers the
	// identity of a token gives it one of its own, and with it to whoever shows the
	// token again.
	Plans *Plans
}

// User returns the opaque name of the identity's issuer and subject.
func (id Identity) User() policy.User { return policy.UserOf(id.Issuer, id.Subject) }

// Claims are a verified token's claims as encoding/json decodes them with
// UseNumber. They are read-only.
type Claims map[string]any

// Lookup finds a claim. A name is taken exactly as it stands in the token
// ("org_id", "https://acme.example/tenant"); one that begins with "/" is a JSON
// Pointer (RFC 6901) into the claims ("/app_metadata/tenant"), through objects
// only.
func (c Claims) Lookup(name string) (any, bool) {
	var at any = map[string]any(c)
	for _, member := range claimPath(name) {
		object, _ := at.(map[string]any) // of anything else: nil, which has no member
		var ok bool
		if at, ok = object[member]; !ok {
			return nil, false
		}
	}
	return at, true
}

// claimPath returns the members on the way to a claim, the outermost first.
func claimPath(name string) []string {
	if !strings.HasPrefix(name, "/") {
		return []string{name}
	}
	path := strings.Split(name[1:], "/")
	for i, token := range path {
		// RFC 6901 §4: first ~1, then ~0, so that ~01 becomes ~1 and not a slash.
		path[i] = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
	}
	return path
}

// hasPermission reports whether the array `permissions` holds the name
// (Auth0: RBAC with "Add Permissions in the Access Token").
func (c Claims) hasPermission(name string) bool {
	list, _ := c["permissions"].([]any)
	return slices.ContainsFunc(list, func(p any) bool {
		text, ok := p.(string)
		return ok && text == name
	})
}

// hasScope reports whether the space-separated string `scope` holds the name
// (RFC 8693 §4.2).
func (c Claims) hasScope(name string) bool {
	scope, _ := c["scope"].(string)
	return slices.Contains(strings.Split(scope, " "), name)
}

// equals reports whether the claim is exactly want, which is a string, a bool
// or an int64: one value of the same JSON type, no element of an array, no
// number written as a string.
func (c Claims) equals(name string, want any) bool {
	got, ok := c.Lookup(name)
	if !ok {
		return false
	}
	if number, isNumber := got.(json.Number); isNumber {
		n, err := number.Int64()
		return err == nil && any(n) == want
	}
	switch got.(type) {
	case string, bool:
		return got == want
	default:
		return false
	}
}

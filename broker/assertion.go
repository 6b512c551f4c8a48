package broker

// Assertion is the token that STS is shown for an order, with what STS must say
// that it read in it. Credentials from an answer that says anything else are not
// the order's.
type Assertion struct {
	Token          Secret
	Issuer         string   // `iss`
	Subject        string   // `sub`
	Audiences      []string // STS names the one that it took
	SourceIdentity string   // empty: the token carries none
	// CallersOwn: the token is the caller's and not one that was minted here, so
	// that it is the caller's fault when it has ended.
	CallersOwn bool
}

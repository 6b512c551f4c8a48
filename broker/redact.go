package broker

import "regexp"

// secretLike is how tokens and private keys look in a text: a compact JWT, or a part
// of one that begins with the header or with the claims, which as base64 of `{"`
// begin with eyJ; a private key in PEM, to its end or to the text's; and what stands
// in PEM alone, which as base64 of a DER sequence begins with MI.
var secretLike = regexp.MustCompile(
	`eyJ[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*)*` +
		`|-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*-----|\z)` +
		`|MI[A-Za-z0-9+/]{14,}=*`)

// Redact takes out of a text what looks like a token or a private key. It is for
// texts that are not wholly ours: what a caller or an operator has put where it does
// not belong, and what others repeat of what they were sent. It is no more than a
// second lock: a secret that has a name is a Secret.
func Redact(text string) string { return secretLike.ReplaceAllString(text, redacted) }

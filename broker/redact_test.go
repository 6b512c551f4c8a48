package broker_test

import (
	"testing"

	"credential-broker/broker"
)

func TestWhatLooksLikeASecretIsTakenOut(t *testing.T) {
	const token, pem = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl-_A", "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIB\nabc=\n-----END EC PRIVATE KEY-----"
	for text, want := range map[string]string{
		"": "",
		"grant " + `"` + token + `"` + " is not there":  `grant "[redacted]" is not there`,
		token + ", " + token:                            "[redacted], [redacted]",
		"cut: eyJhbGciOiJSUzI1":                         "cut: [redacted]",
		"claims: x.eyJzdWIiOiJhIn0.sig":                 "claims: x.[redacted]",
		"open " + pem + ": no such file":                "open [redacted]: no such file",
		"-----BEGIN PRIVATE KEY-----\nMIGHAgEA cut off": "[redacted]",
		`-----BEGIN PRIVATE KEY-----\nMIGHAgEA cut off`: "[redacted]",
		`open "MIGHAgEAMBMGByqGSM49AgEGCCqG+/==": none`: `open "[redacted]": none`,

		// What is of use stays.
		"sts_rejected: operation error STS: https response error StatusCode: 403, api error AccessDenied: Not authorized to perform sts:AssumeRoleWithWebIdentity": "sts_rejected: operation error STS: https response error StatusCode: 403, api error AccessDenied: Not authorized to perform sts:AssumeRoleWithWebIdentity",
		`role ARN "arn:aws:iam::123456789012:role/MINING-uploads": kid "FOLxC-ydACrKwYzQh3p-l8lL6toI67W4INNR9E1bceo"`:                                              `role ARN "arn:aws:iam::123456789012:role/MINING-uploads": kid "FOLxC-ydACrKwYzQh3p-l8lL6toI67W4INNR9E1bceo"`,
		"MINIMUM eyJ -----BEGIN CERTIFICATE-----": "MINIMUM eyJ -----BEGIN CERTIFICATE-----",
	} {
		if got := broker.Redact(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

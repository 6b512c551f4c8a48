package httpapi

import (
	"testing"
	"time"

	"credential-broker/broker"
)

// No request gets as far with a format that is not known, so this case reaches
// inside: an answer of nothing with status 200 would pass for credentials.
func TestAFormatThatIsNotKnownIsNotWritten(t *testing.T) {
	now := time.Now()
	creds := broker.Credentials{
		AccessKeyID: "ASIAEXAMPLE", SecretAccessKey: broker.NewSecret("s"), SessionToken: broker.NewSecret("t"), Expiration: now.Add(time.Hour),
	}
	if body, err := render(nil, creds, formatContainer, now); err != nil || len(body) == 0 {
		t.Fatalf("%q, %v", body, err)
	}
	for _, f := range []format{"", "xml"} {
		if body, err := render(nil, creds, f, now); err == nil || body != nil {
			t.Errorf("%q: %q, %v", f, body, err)
		}
	}
}

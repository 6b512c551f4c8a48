package broker_test

import (
	"testing"

	"credential-broker/broker"
)

func TestNothingThatIsPrintedCommandsATerminal(t *testing.T) {
	for text, want := range map[string]string{
		"auth0|älice ✔": "auth0|älice ✔", "": "",
		"a\x1b[2K\rb": `a\u001b[2K\u000db`, "two\nlines": `two\u000alines`, "\u009b1m": `\u009b1m`, "\u202eab": `\u202eab`,
	} {
		if got := broker.Printable(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

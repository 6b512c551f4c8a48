package idtoken_test

import (
	"log/slog"
	"runtime"
	"strings"
	"testing"

	"credential-broker/broker"
	"credential-broker/broker/idtoken"
)

// within reports whether a call allocates less than so many bytes, in one of a few
// runs: what else goes on in the process can only add.
func within(bytes uint64, f func()) bool {
	for range 5 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		if after.TotalAlloc-before.TotalAlloc < bytes {
			return true
		}
	}
	return false
}

// Threat case DS20: a token that is refused, however it is made and with what it
// can hold in the most that is read, takes less than a megabyte in all.
func TestARefusedTokenTakesLittleMemory(t *testing.T) {
	v := started(t, config(newOrigin()))
	tokens := map[string]string{"dots": strings.Repeat(".", idtoken.MaxTokenBytes), "a megabyte": strings.Repeat("a", 1<<20)}
	for name, claims := range map[string]string{
		"arrays": strings.Repeat("[", 6000), "objects": strings.Repeat(`{"":`, 1500), "members": "{" + strings.Repeat(`"a":1,`, 990) + `"b":1}`,
		"numbers": "[" + strings.Repeat("1,", 2990) + "1]", "escapes": `{"a":"` + strings.Repeat(`\u00e9`, 990) + `"}`, "a number": strings.Repeat("9", 6000),
	} {
		d := newDraft(noon)
		d.claimsJSON = func(string) string { return claims }
		tokens[name] = d.mint()
	}
	for _, r := range rules() {
		d := newDraft(noon)
		r.change(d)
		tokens[r.name] = d.mint()
	}
	for name, token := range tokens {
		secret := broker.NewSecret(token)
		if !within(1<<20, func() { _, _ = v.Verify(t.Context(), secret) }) {
			t.Errorf("%s: a megabyte or more", name)
		}
	}
}

// And a key set, as long as may be, takes at most some megabytes: it is not read
// to its end when there is more in it than a set has.
func TestAHostileKeySetTakesLittleMemory(t *testing.T) {
	const most = 1 << 20
	log := slog.New(slog.DiscardHandler)
	for name, set := range map[string]string{
		"arrays":  strings.Repeat("[", most),
		"objects": strings.Repeat(`{"":`, most/4),
		"members": "{" + strings.Repeat(`"a":1,`, most/6),
		"keys":    `{"keys":[` + strings.Repeat("{},", most/3),
		"numbers": `{"keys":[` + strings.Repeat("1,", most/2),
	} {
		data := []byte(set)
		if !within(3*most, func() { _, _ = idtoken.ParseKeySet(data, log) }) {
			t.Errorf("%s: three megabytes or more", name)
		}
	}
}

// The bound of what a document holds is far above what a set has, and is met.
func TestADocumentHasABoundedNumberOfValues(t *testing.T) {
	document := func(values int) []byte { // the name and the array are two more
		return []byte(`{"a":[` + strings.TrimSuffix(strings.Repeat("1,", values-2), ",") + "]}")
	}
	if _, err := idtoken.ParseObject(document(10_000)); err != nil {
		t.Error(err)
	}
	if _, err := idtoken.ParseObject(document(10_001)); err == nil || !strings.Contains(err.Error(), "more than 10000 names and values") {
		t.Errorf("got %v", err)
	}
}

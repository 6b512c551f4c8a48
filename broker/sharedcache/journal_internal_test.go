package sharedcache

import (
	"encoding/json"
	"strings"
	"testing"

	"credential-broker/broker"
)

// What was made in another age is no answer, wherever in the stream its writer was: a
// Redis that came back with another clock gives places that tell nothing.
// Threat case SC04.
func TestAnEntryOfAnotherAgeIsNoAnswer(t *testing.T) {
	id := broker.Identity{Issuer: "https://i/", Subject: "s"}
	j := newJournal(&Store{})
	if j.after(position{}, id) || j.after(position{MS: 9}, id) {
		t.Error("before anything was read there is an answer")
	}
	j.at, j.floor = position{Age: "b", MS: 5}, stamp{2, 0}
	j.logouts[who{"https://i/", "out"}] = stamp{4, 0}
	out := broker.Identity{Issuer: "https://i/", Subject: "out"}
	for name, tc := range map[string]struct {
		p    position
		id   broker.Identity
		want bool
	}{
		"of this age":               {position{Age: "b", MS: 4}, id, true},
		"at the floor":              {position{Age: "b", MS: 2}, id, true},
		"below the floor":           {position{Age: "b", MS: 1, N: 9}, id, false},
		"of another age":            {position{Age: "a", MS: 4}, id, false},
		"of no age":                 {position{MS: 4}, id, false},
		"before the log-out":        {position{Age: "b", MS: 3, N: 9}, out, false},
		"after the log-out":         {position{Age: "b", MS: 4}, out, true},
		"another issuer's log-out":  {position{Age: "b", MS: 3}, broker.Identity{Issuer: "https://j/", Subject: "out"}, true},
		"another subject's log-out": {position{Age: "b", MS: 3}, id, true},
	} {
		if got := j.after(tc.p, tc.id); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	for name, r := range map[string]record{
		"a log-out to be told": {Kind: kindLogout, Issuer: "https://i/", Subject: "s"}, "a new age to be told": {Kind: kindBegin},
	} {
		j.untold = map[string]record{"1": r}
		if j.after(position{Age: "b", MS: 4}, id) {
			t.Errorf("%s: an answer", name)
		}
	}
	for _, r := range []record{{Kind: kindLogout, Issuer: "https://i/", Subject: "another"}, {Kind: kindLogout, Issuer: "https://j/", Subject: "s"}} {
		j.untold = map[string]record{"1": r}
		if !j.after(position{Age: "b", MS: 4}, id) {
			t.Errorf("another's log-out, to be told: no answer: %+v", r)
		}
	}
}

// An age goes over to another by the record that begins it, once: not by one that was
// written in another, by one without an age, or by one of an age that has ended.
func TestWhatBeginsAnAge(t *testing.T) {
	j := newJournal(&Store{})
	n := uint64(0)
	says := func(r record, age string, anew bool) {
		t.Helper()
		n++
		if got := j.note(stamp{1, n}, "sealed", r, true); got != anew || j.at.Age != age || j.at.stamp() != (stamp{1, n}) {
			t.Errorf("%+v: %v, in age %q at %s", r, got, j.at.Age, j.at.stamp())
		}
	}
	says(record{Kind: kindLogout, Age: "a"}, "a", false) // the beginning was cut off
	says(record{Kind: kindLogout, Age: "b"}, "a", false)
	says(record{Kind: kindBegin, Age: ""}, "a", false)
	says(record{Kind: kindBegin, Age: "a"}, "a", false)
	says(record{Kind: kindBegin, Age: "b"}, "b", true)
	says(record{Kind: kindBegin, Age: "b"}, "b", false)
	says(record{Kind: kindBegin, Age: "a"}, "b", false)
	if j.floor != (stamp{1, 5}) {
		t.Errorf("what is older than %s is no answer", j.floor)
	}
}

func TestPlacesHaveAnOrder(t *testing.T) {
	places := []stamp{{0, 0}, {0, 1}, {1, 0}, {1, 1}, {1, 2}, {2, 0}}
	for i, a := range places {
		for k, b := range places {
			if a.before(b) != (i < k) {
				t.Errorf("%s before %s: %v", a, b, a.before(b))
			}
		}
	}
}

// What opens and is not what is written is no entry: of another program, or another
// version of this one.
func TestAnEntryIsReadAsAWhole(t *testing.T) {
	ring, err := newKeyring([]broker.Secret{broker.NewSecret("0123456789abcdef0123456789abcdef")})
	if err != nil {
		t.Fatal(err)
	}
	o := broker.Order{SessionName: "s"}
	k := keyOf(ring, o)
	scope, err := json.Marshal(scopeDigest(o.Scope))
	if err != nil {
		t.Fatal(err)
	}
	good := `{"a":"A","c":"s","p":` + string(scope)
	for text, want := range map[string]bool{
		good + `}`: true, good + `,"x":1}`: false, good + `}{}`: false, good + `}]`: false, good: false, good + `,"a":1}`: false,
		good + `,"t":"` + strings.Repeat("t", maxSealed) + `"}`: false,
	} {
		sealed, err := ring.seal("entry", k.context, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := openEntry(ring, k, o, sealed); (err == nil) != want {
			t.Errorf("%.80s: %v", text, err)
		}
	}
}

// A second log-out is the same as the first until that one is written: what was asked
// for after it is from before the second.
func TestALogOutThatIsWrittenIsToldAgain(t *testing.T) {
	j := newJournal(&Store{})
	r := record{Kind: kindLogout, Issuer: "https://i/", Subject: "s"}
	for sent, want := range []int{1, 1, 2, 2} {
		j.tell(r)
		if len(j.untold) != want {
			t.Errorf("%d are to be told, want %d", len(j.untold), want)
		}
		if sent == 1 {
			for id := range j.untold {
				j.sent[id] = true
			}
		}
	}
}

package sharedcache

import (
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
	j.untold = map[string]record{"1": {Kind: kindLogout, Issuer: "https://i/", Subject: "another"}}
	if !j.after(position{Age: "b", MS: 4}, id) {
		t.Error("another subject's log-out, to be told: no answer")
	}
}

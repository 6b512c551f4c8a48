package policy

import (
	"fmt"
	"math"
	"strings"
)

// Names are the names of a scope that are one caller's own, and texts that go with
// them, in one text: what is remembered of a million callers has them once. A name
// that is a part of another, as a tenant is of its prefix, takes no room of its own.
// They come out as they went in. The zero value has none.
type Names struct {
	text                            string
	key, prefix, path, tenant, user span
	more                            [MoreNames]span
}

// MoreNames is how many texts Names have beside those of the scope.
const MoreNames = 3

// span is a part of a text.
type span struct{ at, length uint16 }

// NewNames puts names together. It fails where they are longer than any can be.
func NewNames(tenant Tenant, s Scope, user User, more [MoreNames]string) (Names, error) {
	all := []string{s.Key(), s.Prefix.text, s.Path.text, tenant.name, user.name, more[0], more[1], more[2]}
	var room [1024]byte // of which 300 are usual
	text := string(joined(room[:0], all))
	if len(text) > math.MaxUint16 {
		return Names{}, fmt.Errorf("%w names: %d bytes together", ErrInvalid, len(text))
	}
	n := Names{text: text}
	for i, to := range []*span{&n.key, &n.prefix, &n.path, &n.tenant, &n.user, &n.more[0], &n.more[1], &n.more[2]} {
		*to = span{uint16(strings.Index(text, all[i])), uint16(len(all[i]))} //nolint:gosec // within the text, whose length was looked at
	}
	return n, nil
}

// joined is one text that has all the others in it.
func joined(to []byte, all []string) []byte {
	for _, s := range all {
		if !strings.Contains(string(to), s) {
			to = append(to, s...)
		}
	}
	return to
}

// Of returns the scope of which base is all else, and the tenant and the user that it
// is for.
func (n Names) Of(base Scope) (Scope, Tenant, User) {
	base.Prefix, base.Path = Prefix{n.at(n.prefix)}, Path{n.at(n.path)}
	return base, Tenant{n.at(n.tenant)}, User{n.at(n.user)}
}

// Key is that of the scope.
func (n Names) Key() string { return n.at(n.key) }

// More returns one of the texts that go with the names.
func (n Names) More(i int) string { return n.at(n.more[i]) }

// Bytes is how long they are together.
func (n Names) Bytes() int { return len(n.text) }

func (n Names) at(s span) string { return n.text[s.at : s.at+s.length] }

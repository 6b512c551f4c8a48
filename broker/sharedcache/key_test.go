package sharedcache

import (
	"bytes"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"
	"unsafe"

	"credential-broker/broker"
	"credential-broker/policy"
)

// Everything in a scope, and everything else that shapes an answer or says whose it
// is, is in an entry's name and seal. A field that is added later is found here.
// Threat case SC02.
func TestEverythingIsInTheKey(t *testing.T) {
	var ring keyring
	ring = append(ring, &key{name: []byte("k")})
	base := broker.Order{Identity: broker.Identity{Audience: []string{"a"}}}
	seen := map[string]string{}
	note := func(what string, o broker.Order) {
		k := keyOf(ring, o)
		for _, text := range []string{k.names[0], k.lock, string(k.context)} {
			if other, ok := seen[text]; ok {
				t.Errorf("%s and %s have one key", what, other)
			}
			seen[text] = what
		}
	}
	note("nothing", base)
	for what, change := range map[string]func(*broker.Order){
		"revision": func(o *broker.Order) { o.Revision = "x" }, "issuer": func(o *broker.Order) { o.Identity.Issuer = "x" },
		"subject": func(o *broker.Order) { o.Identity.Subject = "x" }, "client": func(o *broker.Order) { o.Identity.Client = "x" },
		"audience": func(o *broker.Order) { o.Identity.Audience = []string{"b"} }, "audiences": func(o *broker.Order) { o.Identity.Audience = []string{"a", "b"} },
		"none": func(o *broker.Order) { o.Identity.Audience = nil }, "kid": func(o *broker.Order) { o.Identity.KeyID = "x" },
		"key": func(o *broker.Order) { o.Identity.KeyThumbprint = "x" }, "session": func(o *broker.Order) { o.SessionName = "x" },
		"policy": func(o *broker.Order) { set(reflect.ValueOf(&o.Document).Elem().FieldByName("digest"), "x") },
	} {
		o := base
		change(&o)
		note(what, o)
	}
	digests := map[string]bool{string(scopeDigest(base.Scope)): true}
	leaves(reflect.TypeFor[broker.Scope](), nil, func(path []int, name string) {
		o := base
		v := reflect.ValueOf(&o.Scope).Elem().FieldByIndex(path)
		switch {
		case v.Type() == reflect.TypeFor[policy.KMSKey]():
			key, err := policy.ParseKMSKey("arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab")
			if err != nil {
				t.Fatal(err)
			}
			v.Set(reflect.ValueOf(key))
		case v.Type() == reflect.TypeFor[netip.Addr]():
			set(v, netip.MustParseAddr("192.0.2.1"))
		case v.Kind() == reflect.String:
			set(v, "x")
		default: // access, duration
			set(v, 7)
		}
		note("scope"+name, o)
		d := string(scopeDigest(o.Scope))
		if digests[d] {
			t.Errorf("scope%s is not in the digest", name)
		}
		digests[d] = true
	})
	if len(digests) < 13 {
		t.Errorf("%d parts of a scope", len(digests)-1)
	}
}

// leaves finds the texts and numbers in a struct of ours.
func leaves(typ reflect.Type, at []int, found func([]int, string)) {
	for i := range typ.NumField() {
		f := typ.Field(i)
		path := append(slices.Clone(at), i)
		if f.Type.Kind() == reflect.Struct && f.Type != reflect.TypeFor[netip.Addr]() && f.Type != reflect.TypeFor[policy.KMSKey]() {
			leaves(f.Type, path, found)
			continue
		}
		found(path, fmt.Sprint(path, f.Name))
	}
}

// set writes a field, an unexported one too.
func set(v reflect.Value, to any) {
	w := reflect.NewAt(v.Type(), unsafe.Pointer(v.UnsafeAddr())).Elem()
	w.Set(reflect.ValueOf(to).Convert(v.Type()))
}

// Threat case SC02.
func TestFieldsHaveTheirEnds(t *testing.T) {
	a, b := fields{}, fields{}
	a.add("ab", "c")
	b.add("a", "bc")
	if bytes.Equal(a, b) {
		t.Error("two lists are one")
	}
}

// What stands in an entry is compared although the seal has it too: were the seal to
// bind nothing, another scope's entry would still be none. Threat case SC02.
func TestTheScopeIsComparedAfterTheSeal(t *testing.T) {
	ring, err := newKeyring([]broker.Secret{broker.NewSecret("0123456789abcdef0123456789abcdef")})
	if err != nil {
		t.Fatal(err)
	}
	o := broker.Order{SessionName: "s", Scope: broker.Scope{Grant: "g"}, NotAfter: time.Now()}
	k := keyOf(ring, o)
	sealed, err := sealEntry(ring, k, o, broker.Credentials{Scope: o.Scope, SessionName: "s"}, position{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := openEntry(ring, k, o, sealed); err != nil {
		t.Fatal(err)
	}
	scope, session := o, o
	scope.Scope.Grant, session.SessionName = "h", "t"
	for _, other := range []broker.Order{scope, session} {
		if _, _, err := openEntry(ring, k, other, sealed); err == nil {
			t.Errorf("%+v is answered", other)
		}
	}
	for _, use := range []string{"entry", "journal"} {
		sealed, err := ring.seal(use, k.context, []byte("{}"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ring.open("else", k.context, sealed); err == nil {
			t.Errorf("what is sealed as %s opens as something else", use)
		}
	}
}

package broker

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"

	"credential-broker/policy"
)

// apart are the parts of an order that its fingerprint does not have, and why.
var apart = map[string]string{
	"Token":           "it proved the identity, which is",
	"Identity.Expiry": "asked of what is held each time, as NotAfter",
	"Identity.Claims": "what of them shapes the answer is in the scope",
	"Identity.Plans":  "a memory",
	"Lifetime":        "asked of what is held each time, as NotAfter",
	"NotAfter":        "asked of what is held each time",
	"After":           "of what is asked ahead of need",
	"decided":         "made of what is",
	// By what they were made of.
	"Document.text": "by its digest", "Document.of": "by its digest",
	"Scope.S3.KMSKey.partition": "by its ARN", "Scope.S3.KMSKey.region": "by its ARN",
}

// whole is an order with something in everything.
func whole(t testing.TB) Order {
	t.Helper()
	var o Order
	each(reflect.ValueOf(&o).Elem(), "", func(name string, v reflect.Value) {
		if apart[name] == "" {
			another(t, name, v)
		}
	})
	return o
}

// each goes through all that is in an order, unexported fields included.
func each(v reflect.Value, name string, do func(string, reflect.Value)) {
	if !v.CanSet() {
		v = reflect.NewAt(v.Type(), unsafe.Pointer(v.UnsafeAddr())).Elem()
	}
	leaf := v.Kind() != reflect.Struct || slices.Contains([]reflect.Type{reflect.TypeFor[netip.Addr](), reflect.TypeFor[time.Time](), reflect.TypeFor[Secret]()}, v.Type())
	if leaf {
		do(name, v)
		return
	}
	for i := range v.NumField() {
		each(v.Field(i), strings.TrimPrefix(name+"."+v.Type().Field(i).Name, "."), do)
	}
}

// another makes a value another one. What it does not know is a new kind of field, and
// has to be put here or apart.
func another(t testing.TB, name string, v reflect.Value) {
	t.Helper()
	switch {
	case v.Kind() == reflect.String:
		v.SetString(v.String() + "x")
	case v.Kind() == reflect.Int64:
		v.SetInt(v.Int() + 1)
	case v.Kind() == reflect.Uint8:
		v.SetUint(v.Uint() + 1)
	case v.Type() == reflect.TypeFor[[]string]():
		v.Set(reflect.ValueOf(append(slices.Clone(v.Interface().([]string)), "x")))
	case v.Type() == reflect.TypeFor[netip.Addr]():
		next := netip.MustParseAddr("192.0.2.1")
		if old := v.Interface().(netip.Addr); old.IsValid() {
			next = old.Next()
		}
		v.Set(reflect.ValueOf(next))
	default:
		t.Fatalf("%s, a %s: is it a part of the fingerprint?", name, v.Type())
	}
}

// CC05: every part of an order is a part of its fingerprint, but for those that
// are named as apart. A new field is one or the other.
func TestEveryPartOfAnOrderIsInItsFingerprint(t *testing.T) {
	o, empty := whole(t), Order{}
	seen := map[string]bool{} // :: name → there is such a part
	parts := 0
	each(reflect.ValueOf(&o).Elem(), "", func(name string, v reflect.Value) {
		seen[name] = true
		if apart[name] != "" {
			return
		}
		parts++
		before, old := o.Fingerprint(), reflect.New(v.Type()).Elem()
		old.Set(v)
		another(t, name, v)
		if o.Fingerprint() == before {
			t.Errorf("%s is not in the fingerprint", name)
		}
		v.Set(old)
		if o.Fingerprint() != before {
			t.Errorf("%s: the same order has another", name)
		}
	})
	each(reflect.ValueOf(&empty).Elem(), "", func(name string, v reflect.Value) {
		if apart[name] != "" {
			return
		}
		another(t, name, v)
		if empty.Fingerprint() == (Order{}).Fingerprint() {
			t.Errorf("%s is not in the fingerprint of an order that has nothing else", name)
		}
		v.SetZero()
	})
	prints := map[Fingerprint]string{(Order{}).Fingerprint(): "none"}
	for _, address := range []string{"0.0.0.0", "::", "::ffff:0.0.0.0", "::%a", "0.0.0.1"} {
		f := Order{Scope: Scope{S3: policy.Scope{SourceIP: netip.MustParseAddr(address)}}}.Fingerprint()
		if other, ok := prints[f]; ok {
			t.Errorf("%s and %s are one", address, other)
		}
		prints[f] = address
	}
	if parts < 22 {
		t.Errorf("%d parts", parts)
	}
	for name := range apart {
		if !seen[name] {
			t.Errorf("an order has no %s any more", name)
		}
	}
}

// CC05: where one part ends and the next begins is a part of it.
func TestNoTwoOrdersMakeTheSameFingerprint(t *testing.T) {
	text := rapid.SampledFrom([]string{"", "a", "b", "ab", "\x01", "\x01a", "\x00", "a\x01"})
	rapid.Check(t, func(rt *rapid.T) {
		draw := func(label string) (Order, string) {
			var o Order
			var all []string
			each(reflect.ValueOf(&o).Elem(), "", func(name string, v reflect.Value) {
				switch {
				case apart[name] != "":
					return
				case v.Kind() == reflect.String:
					v.SetString(text.Draw(rt, label))
				case v.Type() == reflect.TypeFor[[]string]():
					v.Set(reflect.ValueOf(rapid.SliceOfN(text, 0, 3).Draw(rt, label)))
				}
				all = append(all, fmt.Sprintf("%q", v.Interface()))
			})
			return o, strings.Join(all, ",")
		}
		a, asText := draw("a")
		b, bsText := draw("b")
		if (a.Fingerprint() == b.Fingerprint()) != (asText == bsText) {
			rt.Fatalf("%s and %s", asText, bsText)
		}
	})
	one, other := Order{Identity: Identity{Audience: []string{"a", "b"}}}, Order{Identity: Identity{Audience: []string{"a", "c"}}}
	if one.Fingerprint() == other.Fingerprint() {
		t.Error("of an audience the length alone")
	}
	// The audience is as long as it is: without its length these are the same bytes.
	a := Order{Identity: Identity{Audience: []string{"g"}}, Scope: Scope{S3: policy.Scope{Access: 0x81}, Duration: -1}}
	b := Order{Scope: Scope{Grant: "g", Duration: -65}}
	if a.Fingerprint() == b.Fingerprint() {
		t.Error("the audience has no end")
	}
}

// A decision without a fingerprint, which nobody makes, does not give all orders one.
func TestNoOrderHasTheZeroFingerprint(t *testing.T) {
	a, b := Order{Revision: "a", decided: &decided{}}, Order{Revision: "b", decided: &decided{}}
	if a.Fingerprint() == b.Fingerprint() || a.Fingerprint() == (Fingerprint{}) || (Order{}).Fingerprint() == (Fingerprint{}) {
		t.Error("the zero one")
	}
}

// What is kept of a decision is that decision, its fingerprint included.
func TestADecisionComesOutAsItWentIn(t *testing.T) {
	o := whole(t)
	for _, path := range []string{"", "in/", "x"} {
		parsed, err := policy.ParsePath(path)
		if err != nil {
			t.Fatal(err)
		}
		o.Scope.S3.Path = parsed
		d, err := newDecided(o, "token")
		if err != nil {
			t.Fatal(err)
		}
		if d.scope() != o.Scope || d.S3Scope() != o.Scope.S3 || d.sessionName() != o.SessionName || d.document().Digest() != o.Document.Digest() ||
			d.names.Key() != o.Scope.S3.Key() || d.names.More(digestOfToken) != "token" || d.fingerprint != o.Fingerprint() {
			t.Errorf("%+v, want %+v", d.scope(), o.Scope)
		}
	}
	o.SessionName = strings.Repeat("s", 70_000)
	if _, err := newDecided(o, ""); ClassOf(err) != ErrInternal {
		t.Errorf("of a name without end: %v", err)
	}
}

func TestWhatAnOrderIsAskedForIsKeptAsItIs(t *testing.T) {
	o := whole(t)
	now := time.Date(2026, 11, 25, 12, 0, 0, 123, time.UTC)
	o.NotAfter = now.Add(time.Hour)
	c := Credentials{
		AccessKeyID: "ASIA", SecretAccessKey: NewSecret("secret"), SessionToken: NewSecret("\"session"),
		IssuedAt: now, Expiration: now.Add(30 * time.Minute), SessionName: o.SessionName, Scope: o.Scope, Source: FromSTS,
	}
	k, err := c.Keep(o)
	if err != nil {
		t.Fatal(err)
	}
	got := k.Credentials(FromCache)
	if got.SecretAccessKey.Reveal() != "secret" || got.SessionToken.Reveal() != "\"session" || !got.SecretAccessKey.Simple() || got.SessionToken.Simple() ||
		!got.IssuedAt.Equal(c.IssuedAt) || got.Expiration != c.Expiration || got.Source != FromCache || got.AccessKeyID != "ASIA" || got.Scope != c.Scope || got.SessionName != c.SessionName {
		t.Errorf("%+v, want %+v", got, c)
	}
	if k.Tenant() != o.Scope.Tenant || !k.NotAfter().Equal(o.NotAfter) || k.Fingerprint() != o.Fingerprint() || k.TextBytes() < len("ASIAsecret\"session")+len(o.SessionName) {
		t.Errorf("%+v", k)
	}
	for _, at := range []time.Time{now, now.Add(20 * time.Minute), now.Add(20*time.Minute + 1)} {
		if k.Fresh(at) != c.Fresh(at) {
			t.Errorf("fresh at %s: %t", at, k.Fresh(at))
		}
	}
	if none := (&Kept{}); none.Fresh(now) || none.Fresh(time.Time{}) || none.Credentials(FromCache) != (Credentials{}) {
		t.Error("of nothing there is something")
	}
}

// The decision that comes with an order is held only where it is the order's.
func TestAnOrderThatWasChangedIsKeptAsItIs(t *testing.T) {
	o := whole(t)
	d, err := newDecided(o, "")
	if err != nil {
		t.Fatal(err)
	}
	o.decided, o.NotAfter = &d, time.Unix(0, 0)
	for name, change := range map[string]func(*Order){
		"not at all": func(*Order) {}, "scope": func(o *Order) { o.Scope.Grant = "other" }, "session": func(o *Order) { o.SessionName = "other" },
	} {
		changed := o
		change(&changed)
		k, err := Credentials{Scope: changed.Scope, SessionName: changed.SessionName, IssuedAt: time.Unix(0, 0), Expiration: time.Unix(9, 0)}.Keep(changed)
		if err != nil {
			t.Fatal(err)
		}
		if got := k.Credentials(FromSTS); got.Scope != changed.Scope || got.SessionName != changed.SessionName || (k.decided == &d) != (name == "not at all") {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestWhatIsNoAnswerIsNotKept(t *testing.T) {
	o := whole(t)
	o.NotAfter = time.Unix(1_800_000_000, 0)
	good := Credentials{Scope: o.Scope, SessionName: o.SessionName, IssuedAt: o.NotAfter, Expiration: o.NotAfter}
	for name, change := range map[string]func(*Order, *Credentials){
		"":                           func(*Order, *Credentials) {},
		"another scope's":            func(_ *Order, c *Credentials) { c.Scope.Grant = "other" },
		"another session's":          func(_ *Order, c *Credentials) { c.SessionName = "other" },
		"an end in a thousand years": func(_ *Order, c *Credentials) { c.Expiration = c.Expiration.AddDate(1000, 0, 0) },
		"no beginning":               func(_ *Order, c *Credentials) { c.IssuedAt = time.Time{} },
		"an order without end":       func(o *Order, _ *Credentials) { o.NotAfter = o.NotAfter.AddDate(1000, 0, 0) },
	} {
		o, c := o, good
		change(&o, &c)
		if k, err := c.Keep(o); (err == nil) != (name == "") || err != nil && k != (Kept{}) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is kept of a request holds on to nothing else of it.
func TestWhatWasAskedForIsCopied(t *testing.T) {
	long := "grant path tenant read"
	req := Request{Grant: long[:5], Path: long[6:10], Tenant: long[11:17], Access: []string{long[18:]}}
	a := newAsked(req)
	if !a.same(req) {
		t.Fatalf("%+v", a)
	}
	for i, text := range []string{a.grant, a.path, a.tenant, a.access[0]} {
		if unsafe.StringData(text) == unsafe.StringData([]string{req.Grant, req.Path, req.Tenant, req.Access[0]}[i]) {
			t.Errorf("%q lies in the request", text)
		}
	}
	if newAsked(Request{Token: NewSecret("t"), ID: "i", Address: "a", UserAgent: "u"}) != nil {
		t.Error("nothing in particular takes room")
	}
}

func BenchmarkFingerprint(b *testing.B) {
	o := whole(b)
	b.ReportAllocs()
	for b.Loop() {
		_ = o.Fingerprint()
	}
}

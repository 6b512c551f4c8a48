package sharedcache_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"credential-broker/broker"
	"credential-broker/broker/sharedcache"
)

// What deploy/scaling.md lets the broker's user do is enough, and is no more than its
// own keys. Threat case SC21.
func TestTheDocumentedRightsAreEnough(t *testing.T) {
	text, err := os.ReadFile("../../deploy/scaling.md")
	if err != nil {
		t.Fatal(err)
	}
	rights := regexp.MustCompile(`(?m)^user broker on #\$\(.*\) (~.+)$`).FindSubmatch(text)
	if rights == nil {
		t.Fatal("no rights are named")
	}
	w := newWorld(t)
	raw := w.raw()
	user := append([]string{"ACL", "SETUSER", "broker", "on", ">password"}, strings.Fields(string(rights[1]))...)
	if err := raw.Do(t.Context(), raw.B().Arbitrary(user...).Build()).Error(); err != nil {
		t.Fatal(err)
	}
	url := fmt.Sprintf("redis://broker:password@127.0.0.1:%d", w.redis.Port)
	all := w.joined(2, func(c *sharedcache.Config) { c.URL = broker.NewSecret(url) })
	o := w.order("s")
	w.from(all[0].shared, o, broker.FromSTS)
	w.from(all[1].shared, o, broker.FromShared)
	// One waits for the other.
	p := w.order("p")
	asked, answer := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.sts.before = fail(func() error {
		once.Do(func() { close(asked) })
		<-answer
		return nil
	})
	done := make(chan broker.Credentials, 2)
	for i, r := range all {
		go func() { done <- w.issue(r.shared, p) }()
		if i == 0 {
			<-asked
		}
	}
	for commands := ""; !strings.Contains(commands, "cmd=exec"); { // the waiter's read, within a transaction
		if commands, err = raw.Do(t.Context(), raw.B().Arbitrary("CLIENT", "LIST").Build()).ToString(); err != nil {
			t.Fatal(err)
		}
	}
	close(answer)
	if a, b := <-done, <-done; a.AccessKeyID != b.AccessKeyID || all[1].of(sharedcache.Waited) != 1 {
		t.Errorf("%v", all[1].counts)
	}
	all[0].forget.Forget(o.Identity.Issuer, o.Identity.Subject)
	all[1].await(t, sharedcache.Heard, 1)
	if _, _, err := all[0].store.Spend(t.Context(), sharedcache.Allowance{PerMinute: 4, Kind: "subject"}); err != nil {
		t.Error(err)
	}
	denied, err := raw.Do(t.Context(), raw.B().Arbitrary("ACL", "LOG").Build()).ToArray()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range denied {
		m, _ := d.AsStrMap()
		t.Errorf("refused: %s %s", m["reason"], m["object"])
	}
}

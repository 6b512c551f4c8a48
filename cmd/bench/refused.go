package main

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// refusedCmd is in the help of commands.
type refusedCmd struct{}

// bad are kinds of tokens that are refused, each different from every other.
func (w *world) bad() []struct {
	name string
	make func(i int) (string, error)
} {
	changed := func(change func(map[string]any)) func(int) (string, error) {
		return func(i int) (string, error) {
			c := w.claims(i%subjects, i)
			change(c)
			text, err := unsigned("RS256", kid, c)
			return text + "." + noise(256), err
		}
	}
	return []struct {
		name string
		make func(i int) (string, error)
	}{
		{"expired", changed(func(c map[string]any) { c["iat"], c["exp"] = time.Now().Unix()-7200, time.Now().Unix()-3600 })},
		{"wrong issuer", changed(func(c map[string]any) { c["iss"] = "https://evil.example/" })},
		{"wrong audience", changed(func(c map[string]any) { c["aud"] = "https://other.example" })},
		{"garbage", func(int) (string, error) { return noise(400) + "." + noise(300) + "." + noise(256), nil }},
		{"bad signature", changed(func(map[string]any) {})},
	}
}

// noise is base64url of so many random bytes.
func noise(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails; see crypto/rand
	return base64.RawURLEncoding.EncodeToString(b)
}

// Run measures. Every request comes from another address, as a flood does, since one
// address would soon be refused for its failures alone.
func (refusedCmd) Run(b *bench) error {
	w, err := newWorld(b.ctx)
	if err != nil {
		return err
	}
	defer w.close()
	from := func(i int) string { return fmt.Sprintf("X-Forwarded-For: 10.%d.%d.%d", i>>16&255, i>>8&255, i&255) }
	server := spec{Kind: kindBroker, Entries: 2 * subjects, STSPerSecond: 1_000_000}
	tokens, err := w.tokens(subjects)
	if err != nil {
		return err
	}
	good := make([][]byte, len(tokens))
	for i, t := range tokens {
		good[i] = request(t, from(i))
	}
	contests := []contest{{name: "hit", spec: server, load: good}}
	for _, kind := range w.bad() {
		c := contest{name: kind.name, spec: server, expect: http.StatusUnauthorized, warm: good[:1]}
		var one string
		for i := range firstSights {
			token, err := kind.make(i)
			if err != nil {
				return err
			}
			if i == 0 {
				one = token
			}
			c.load = append(c.load, request(token, from(i)))
		}
		contests = append(contests, c)
		if kind.name == "bad signature" {
			again := c
			again.name, again.load = "one bad signature again and again", nil
			for i := range firstSights {
				again.load = append(again.load, request(one, from(i)))
			}
			contests = append(contests, again)
		}
	}
	b.NoWrk = true // it counts an answer of 401 as an error
	rows, err := b.compete(w, contests)
	if err != nil {
		return err
	}
	notes := []string{"", "CPU a request against a hit's:"}
	for _, r := range rows[1:] {
		notes = append(notes, fmt.Sprintf("  %-40s %.2f ×", strings.TrimSpace(r.Name), 1/r.CPURatio))
	}
	return b.print(report{Title: "Refused tokens, each shown once but where told", Where: where(b.Rounds, b.Time, b.tool()), Rows: rows, Notes: notes})
}

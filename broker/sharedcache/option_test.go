package sharedcache_test

import (
	"strings"
	"testing"

	"credential-broker/broker"
	"credential-broker/broker/sharedcache"
)

// Threat case SC14.
func TestWhereRedisMayBe(t *testing.T) {
	for text, want := range map[string]string{
		"rediss://redis.example":                                              "",
		"rediss://user:canary@redis.example:6380/3":                           "",
		"valkeys://redis.example":                                             "",
		"rediss://a.example?addr=b.example:26379&addr=c.example&master_set=m": "",
		"redis://127.0.0.1:6379/":                                             "",
		"redis://localhost":                                                   "",
		"redis://[::1]:6379":                                                  "",
		"valkey://127.0.0.1":                                                  "",
		"redis://10.0.0.1":                                                    "rediss:// is needed",
		"redis://canary@redis.example":                                        "rediss:// is needed",
		"redis://127.0.0.1.example":                                           "rediss:// is needed",
		"http://canary@127.0.0.1":                                             "rediss:// is needed",
		"unix:///run/redis.sock":                                              "not a URL",
		"rediss://":                                                           "not a URL",
		"canary":                                                              "not a URL",
		"rediss://u:canary%@a.example":                                        "not a URL",
		"rediss://a.example#canary":                                           "not a URL",
		"rediss://a.example/canary":                                           "not a URL",
		"rediss://a.example?skip_verify=true":                                 "addr and master_set are known",
		"rediss://a.example?protocol=2":                                       "addr and master_set are known",
	} {
		err := sharedcache.ParseURL(broker.NewSecret(text))
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary")) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// Threat case SC20.
func TestKeysAreRead(t *testing.T) {
	const one, two = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU="
	for text, want := range map[string]int{
		one: 1, one + "\n": 1, one + "\n" + two + "\n": 2, one + "\r\n" + two: 2,
		"": 0, "\n": 0, one + "\n\n" + two: 0, one[:20]: 0, "canary": 0, one + two: 0,
	} {
		keys, err := sharedcache.ParseKeys([]byte(text))
		if len(keys) != want || (err == nil) != (want > 0) || err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: %d keys, %v", text, len(keys), err)
		}
	}
	full := sharedcache.Config{URL: broker.NewSecret("redis://127.0.0.1:1"), Keys: []broker.Secret{newKey()}, Timeout: 1,
		Forget: func(string, string) {}, Clear: func() {}, Session: func(string, string) (string, bool) { return "", false }}
	for name, change := range map[string]func(*sharedcache.Config){
		"no key": func(c *sharedcache.Config) { c.Keys = nil }, "a short key": func(c *sharedcache.Config) { c.Keys = []broker.Secret{broker.NewSecret("short")} },
		"nine keys": func(c *sharedcache.Config) {
			for range 8 {
				c.Keys = append(c.Keys, newKey())
			}
		},
		"a key twice": func(c *sharedcache.Config) { c.Keys = append(c.Keys, c.Keys...) }, "no URL": func(c *sharedcache.Config) { c.URL = broker.Secret{} },
		"no timeout":     func(c *sharedcache.Config) { c.Timeout = 0 },
		"nobody to tell": func(c *sharedcache.Config) { c.Forget = nil }, "nothing to clear": func(c *sharedcache.Config) { c.Clear = nil },
		"no sessions": func(c *sharedcache.Config) { c.Session = nil },
	} {
		c := full
		change(&c)
		if s, err := sharedcache.Open(c); err == nil {
			s.Close()
			t.Errorf("%s: it opens", name)
		}
	}
	s, err := sharedcache.Open(full)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

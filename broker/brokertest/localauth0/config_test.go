package localauth0_test

import (
	"crypto/rand"
	"crypto/rsa"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"credential-broker/broker/brokertest/localauth0"
)

func TestBadConfigurationIsRefused(t *testing.T) {
	type cfg = localauth0.Config
	keys := keyPair(t)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for rule, c := range map[string]struct {
		edit func(*cfg)
		want string
	}{
		"an issuer without slash":            {func(c *cfg) { c.Issuer = "http://127.0.0.1:9400" }, "issuer"},
		"an issuer with a path":              {func(c *cfg) { c.Issuer = "http://127.0.0.1:9400/a/" }, "issuer"},
		"an issuer of another scheme":        {func(c *cfg) { c.Issuer = "ftp://127.0.0.1/" }, "issuer"},
		"an issuer without host":             {func(c *cfg) { c.Issuer = "http:///" }, "issuer"},
		"an issuer with a query":             {func(c *cfg) { c.Issuer = "http://127.0.0.1/?a" }, "issuer"},
		"no issuer":                          {func(c *cfg) { c.Issuer = "" }, "issuer"},
		"no audience":                        {func(c *cfg) { c.Audience = "" }, "audience"},
		"/userinfo as the API":               {func(c *cfg) { c.Audience = c.Issuer + "userinfo" }, "audience"},
		"a negative token life":              {func(c *cfg) { c.TokenLife = -time.Second }, "token life"},
		"a token life beyond thirty days":    {func(c *cfg) { c.TokenLife = 31 * 24 * time.Hour }, "token life"},
		"no clients":                         {func(c *cfg) { c.Clients, c.DefaultClient = nil, "" }, "at least one"},
		"three keys":                         {func(c *cfg) { c.Keys = append(keys, foreignKey(t)) }, "no more"},
		"a missing key":                      {func(c *cfg) { c.Keys = []*rsa.PrivateKey{nil} }, "2048"},
		"a weak key":                         {func(c *cfg) { c.Keys = []*rsa.PrivateKey{weak} }, "2048"},
		"one key twice":                      {func(c *cfg) { c.Keys = []*rsa.PrivateKey{keys[0], keys[0]} }, "both the current and the next"},
		"an origin with a path":              {func(c *cfg) { c.AllowedOrigins = []string{page + "/"} }, "allowed origin"},
		"an origin of another scheme":        {func(c *cfg) { c.AllowedOrigins = []string{"ftp://127.0.0.1"} }, "allowed origin"},
		"any origin":                         {func(c *cfg) { c.AllowedOrigins = []string{"*"} }, "allowed origin"},
		"a user without e-mail":              {func(c *cfg) { c.Users[0].Email = "" }, "want e-mail"},
		"a user without password":            {func(c *cfg) { c.Users[0].Password = "" }, "want e-mail"},
		"a user without subject":             {func(c *cfg) { c.Users[0].Subject = "" }, "want e-mail"},
		"a user with a machine's subject":    {func(c *cfg) { c.Users[0].Subject = "x@clients" }, "machine client's"},
		"an e-mail twice":                    {func(c *cfg) { c.Users[0].Email = c.Users[1].Email }, "stands twice"},
		"a subject twice":                    {func(c *cfg) { c.Users[0].Subject = c.Users[1].Subject }, "stands twice"},
		"a client without id":                {func(c *cfg) { c.Clients[0].ID = "" }, "id of its own"},
		"a client twice":                     {func(c *cfg) { c.Clients[0].ID = c.Clients[1].ID }, "id of its own"},
		"a client without grants":            {func(c *cfg) { c.Clients[0].Grants = nil }, "at least one grant"},
		"a client with an unknown grant":     {func(c *cfg) { c.Clients[0].Grants = []string{"implicit"} }, "unknown grant"},
		"a machine client without secret":    {func(c *cfg) { c.Clients[1].Secret = "" }, "wants a secret"},
		"a page client without callback":     {func(c *cfg) { c.Clients[0].Callbacks = nil }, "wants a callback"},
		"a callback with a fragment":         {func(c *cfg) { c.Clients[0].Callbacks = []string{page + "/#a"} }, "without fragment"},
		"a callback that is a script":        {func(c *cfg) { c.Clients[0].Callbacks = []string{"javascript:alert(1)"} }, "web address"},
		"a callback that cannot be parsed":   {func(c *cfg) { c.Clients[0].Callbacks = []string{"http://[::1"} }, "web address"},
		"a log-out target without host":      {func(c *cfg) { c.Clients[0].LogoutURLs = []string{"/bye"} }, "web address"},
		"a default client that is unknown":   {func(c *cfg) { c.DefaultClient = "nobody" }, "default client"},
		"a default client with a secret":     {func(c *cfg) { c.Clients[2].Secret = "x" }, "default client"},
		"a default client without its grant": {func(c *cfg) { c.DefaultClient = localauth0.DemoSPA }, "default client"},
	} {
		t.Run(rule, func(t *testing.T) {
			demo := localauth0.Demo("http://127.0.0.1:9400/", audience, page)
			demo.Keys = keys
			c.edit(&demo)
			if _, err := localauth0.New(demo); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one about %q", err, c.want)
			}
		})
	}
}

func TestZeroConfigurationReportsEveryProblem(t *testing.T) {
	_, err := localauth0.New(localauth0.Config{})
	for _, want := range []string{"issuer", "audience", "clients"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one about %q too", err, want)
		}
	}
}

func TestMissingKeysAreMade(t *testing.T) {
	tn := start(t, func(c *localauth0.Config) { c.Keys = c.Keys[:1] })
	if n := len(tn.jwks()); n != 2 {
		t.Errorf("%d keys, want 2", n)
	}
	other := start(t)
	if tn.server.KeyID() != other.server.KeyID() {
		t.Error("the same key has another kid")
	}
}

func TestOnlyLoopbackAddressesMayListen(t *testing.T) {
	allow, deny := true, false
	for addr, want := range map[string]bool{
		"127.0.0.1:9400": allow, "127.0.0.1:0": allow, "[::1]:9400": allow, "localhost:9400": allow,
		":9400": deny, "0.0.0.0:9400": deny, "[::]:9400": deny, "192.168.0.4:9400": deny, "example.com:9400": deny,
		"localhost.example.com:1": deny, "127.0.0.1": deny, "": deny,
	} {
		if err := localauth0.CheckLoopback(addr); (err == nil) != want {
			t.Errorf("%q: %v", addr, err)
		}
	}
}

func TestDemoWorldIsTheDocumentedOne(t *testing.T) {
	got := map[string]string{}
	for _, u := range localauth0.DemoUsers() {
		if u.Password != "demo" || !cmp.Equal(u.Permissions, []string{"upload:files"}) || !strings.HasPrefix(u.Subject, "auth0|") {
			t.Errorf("user %+v", u)
		}
		got[u.Email] = u.Organization
	}
	want := map[string]string{
		"alice@acme.test": "org_acme", "amy@acme.test": "org_acme", "bob@globex.test": "org_globex", "mallory@nowhere.test": "",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("users: -want +got\n%s", diff)
	}
	for _, at := range []string{page, page + "/"} {
		if diff := cmp.Diff([]string{page, page + "/", page + "/callback"}, localauth0.DemoClients(at)[0].Callbacks); diff != "" {
			t.Errorf("callbacks of %s: -want +got\n%s", at, diff)
		}
	}
	headless := localauth0.Demo("http://127.0.0.1:9400/", audience, "")
	headless.Keys = keyPair(t)
	if _, err := localauth0.New(headless); err != nil || headless.AllowedOrigins != nil {
		t.Errorf("without a page: %v, origins %v", err, headless.AllowedOrigins)
	}
}

func TestServerIsSafeForConcurrentUse(t *testing.T) {
	tn := start(t)
	first := granted(t, tn.post("oauth/token", redemption(tn.code("alice@acme.test")))).Refresh
	code := tn.code("alice@acme.test")
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := map[string]int{}
	count := func(what string, a answer) {
		mu.Lock()
		defer mu.Unlock()
		if a.status == http.StatusOK {
			won[what]++
		}
	}
	for range 8 {
		wg.Go(func() { count("code", tn.post("oauth/token", redemption(code))) })
		wg.Go(func() { count("refresh", tn.post("oauth/token", refreshForm(first))) })
		wg.Go(func() { count("password", tn.post("oauth/token", passwordForm())) })
	}
	wg.Go(func() {
		if err := tn.server.Rotate(); err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
	if diff := cmp.Diff(map[string]int{"code": 1, "refresh": 1, "password": 8}, won); diff != "" {
		t.Errorf("wins: -want +got\n%s", diff)
	}
}

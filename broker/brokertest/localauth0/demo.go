package localauth0

import "strings"

// The demo world: two organizations, and somebody who belongs to neither.
const (
	DemoPassword = "demo"       // of every demo user; it opens nothing but this local server
	DemoOrgAcme  = "org_acme"   // alice's and amy's
	DemoOrgOther = "org_globex" // bob's

	DemoSPA           = "demo-spa"        // public client of the page
	DemoCLI           = "demo-cli"        // public client of the password grant; the default client
	DemoMachine       = "reports-service" // client-credentials client
	DemoMachineSecret = "demo-secret"

	permissionUpload = "upload:files"
	permissionAct    = "broker:act-for-tenant"
)

// Demo is the configuration of the demo world: its users, its clients, and page (an origin such as
// http://127.0.0.1:3000; empty for none) allowed to call the tenant.
func Demo(issuer, audience, page string) Config {
	page = strings.TrimSuffix(page, "/")
	cfg := Config{
		Issuer: issuer, Audience: audience, Users: DemoUsers(), Clients: DemoClients(page), DefaultClient: DemoCLI,
	}
	if page != "" {
		cfg.AllowedOrigins = []string{page}
	}
	return cfg
}

// DemoUsers are alice and amy of org_acme, bob of org_globex, and mallory of no organization, who may upload and has
// nowhere to.
func DemoUsers() []User {
	user := func(email, name, id, org string) User {
		return User{
			Email: email, Password: DemoPassword, Name: name, Subject: "auth0|" + id, Organization: org,
			Permissions: []string{permissionUpload},
		}
	}
	return []User{
		user("alice@acme.test", "Alice Ardent", "65f0a11ce0000000000a11ce", DemoOrgAcme),
		user("amy@acme.test", "Amy Ashdown", "65f0a3900000000000000a3e", DemoOrgAcme),
		user("bob@globex.test", "Bob Bright", "65f0b0b00000000000000b0b", DemoOrgOther),
		user("mallory@nowhere.test", "Mallory Moss", "65f0bad000000000000bad00", ""),
	}
}

// DemoClients are the page's public client, the machine client, and the public client of the password grant. The page
// is an origin; its root and its /callback are the callbacks. Without a page the callback is that of a command-line
// tool on port 8765, and nothing may be returned to after log-out.
func DemoClients(page string) []Client {
	page = strings.TrimSuffix(page, "/")
	callbacks, logout := []string{"http://127.0.0.1:8765/callback"}, []string(nil)
	if page != "" {
		callbacks = []string{page, page + "/", page + "/callback"}
		logout = []string{page, page + "/"}
	}
	return []Client{
		{ID: DemoSPA, Name: "Upload demo", Callbacks: callbacks, LogoutURLs: logout, Grants: []string{GrantCode, GrantRefresh}},
		{
			ID: DemoMachine, Secret: DemoMachineSecret, Name: "Reports service",
			Permissions: []string{permissionAct}, Grants: []string{GrantClientCredentials},
		},
		{ID: DemoCLI, Name: "Demo command line", Grants: []string{GrantPassword, GrantRefresh}},
	}
}

// TenantTags is the Action that mode forwarded needs: it writes the organization into the claim that STS turns into
// the principal tag tenant. The value is an array of exactly one string, the only form STS takes
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html); the tag is transitive so that assuming a
// further role keeps it. Without an organization there is no claim: nobody is given a tenant by default.
func TenantTags(c Claims) map[string]any {
	if c.Organization == "" {
		return nil
	}
	return map[string]any{"https://aws.amazon.com/tags": map[string]any{
		"principal_tags":      map[string]any{"tenant": []string{c.Organization}},
		"transitive_tag_keys": []string{"tenant"},
	}}
}

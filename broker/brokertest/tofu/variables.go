package tofu

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Variables are those of module aws for a broker's configuration: it has the
// module's own words, but for the roles, which the module names, and the regions,
// which are the provider's.
func Variables(configuration string) (map[string]any, error) {
	var c struct {
		Issuers     []map[string]any `yaml:"issuers"`
		WebIdentity map[string]any   `yaml:"web_identity"`
		Grants      []map[string]any `yaml:"grants"`
	}
	if err := yaml.Unmarshal([]byte(configuration), &c); err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	delete(c.WebIdentity, "signing_keys")
	for _, g := range c.Grants {
		arn, _ := g["role_arn"].(string)
		_, name, ok := strings.Cut(arn, ":role/")
		if !ok {
			return nil, fmt.Errorf("grant %v: role_arn %q", g["name"], arn)
		}
		g["role"] = name
		delete(g, "role_arn")
		delete(g, "region")
	}
	return map[string]any{"web_identity": c.WebIdentity, "issuers": c.Issuers, "grants": c.Grants}, nil
}

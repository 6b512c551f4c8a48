package config_test

import (
	"maps"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"credential-broker/cmd/credential-broker/config"
)

// A list is a list, or one text with commas: an environment variable holds no more.
func TestAListMayBeOneText(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		env  map[string]string
		want []string
	}{
		"one":                      {`"https://a.example"`, nil, []string{"https://a.example"}},
		"several":                  {`"https://a.example, https://b.example"`, nil, []string{"https://a.example", "https://b.example"}},
		"out of a variable":        {`"${ORIGINS}"`, map[string]string{"ORIGINS": "https://a.example,https://b.example"}, []string{"https://a.example", "https://b.example"}},
		"a variable beside a text": {`"https://a.example,${ORIGINS}"`, map[string]string{"ORIGINS": "https://b.example"}, []string{"https://a.example", "https://b.example"}},
		"none":                     {`""`, nil, nil},
		"none out of a variable":   {`"${ORIGINS:-}"`, nil, nil},
		"in brackets, as it is":    {`["${ORIGINS}"]`, map[string]string{"ORIGINS": "https://a.example"}, []string{"https://a.example"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := parse(good+"cors: {allowed_origins: "+tc.text+"}\n", tc.env)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, cfg.AllowedOrigins); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What comes out of a variable is not looked through for variables, nor for commas
// where the file has brackets.
func TestAVariableIsFilledInOnce(t *testing.T) {
	env := map[string]string{"A": "${B}", "B": "https://b.example", "TWO": "https://a.example,https://b.example"}
	for _, text := range []string{`"${A}"`, `["${TWO}"]`} {
		if cfg, err := parse(good+"cors: {allowed_origins: "+text+"}\n", env); err == nil {
			t.Errorf("%s was read as %q", text, cfg.AllowedOrigins)
		}
	}
	cfg, err := parse(strings.Replace(good, "[https://uploads.acme.example]", `"${A},x"`, 1), env)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"${B}", "x"}, cfg.Issuers[0].Audiences); diff != "" {
		t.Error(diff)
	}
}

// A variable that is not set must not turn "whoever has the permission" into
// "whoever".
func TestAMatchIsNotEmptiedByAVariable(t *testing.T) {
	for name, text := range map[string]string{"permissions": `"${P:-}"`, "scopes": `"${P:-}"`} {
		_, err := parse(strings.Replace(good, "match: {permissions: [upload:files],", "match: {"+name+": "+text+",", 1), nil)
		if err == nil || !strings.Contains(err.Error(), "grants[0].match."+name+": must not be empty") {
			t.Errorf("%s: %v", name, err)
		}
		if cfg, err := parse(strings.Replace(good, "match: {permissions: [upload:files],", "match: {"+name+": [],", 1), nil); err != nil {
			t.Errorf("%s: [] says what it means: %v %v", name, cfg, err)
		}
	}
}

// inside is the configuration that the image has inside.
func inside(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("../../../deploy/image/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// six are what the image needs to be told.
func six() map[string]string {
	return map[string]string{
		"AUTH0_DOMAIN": "acme.eu.auth0.com", "AUTH0_AUDIENCE": "https://uploads.acme.example", "ROLE_ARN": "arn:aws:iam::123456789012:role/tenant-uploads",
		"BUCKET": "acme-uploads", "AWS_REGION": "ap-northeast-1", "ALLOWED_ORIGINS": "https://app.example.com,https://staging.example.com",
	}
}

func TestTheImageNeedsSixVariables(t *testing.T) {
	cfg, err := parse(inside(t), six())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"https://app.example.com", "https://staging.example.com"}, cfg.AllowedOrigins); diff != "" {
		t.Error(diff)
	}
	g := cfg.Grants[0]
	if cfg.WebIdentity.Mode != config.Forwarded || cfg.Issuers[0].URL != "https://acme.eu.auth0.com/" || len(cfg.Grants) != 1 || len(cfg.Notes) == 0 ||
		g.Tenant.Claim != "org_id" || g.Region != "ap-northeast-1" || g.Access.String() != "list,read,write,delete" {
		t.Errorf("%+v", cfg)
	}
	if diff := cmp.Diff([]string{"upload:files"}, g.Match.Permissions); diff != "" {
		t.Error(diff)
	}
}

func TestTheImageSaysWhatItIsNotTold(t *testing.T) {
	for name := range six() {
		for _, given := range []string{"", " "} {
			env := six()
			env[name] = given
			_, err := parse(inside(t), env)
			switch {
			case name == "ALLOWED_ORIGINS" && given == "":
				if err != nil { // no page may call, backends may
					t.Errorf("%s=%q: %v", name, given, err)
				}
			case err == nil:
				t.Errorf("it starts with %s=%q", name, given)
			case given == "" && !strings.Contains(err.Error(), "the environment variable "+name+" is not set"):
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// A match that is empty takes every token of the API: no variable can make it so.
func TestTheImagesGrantAlwaysAsksForAPermission(t *testing.T) {
	for _, given := range []string{"", " ", ","} {
		env := six()
		env["PERMISSIONS"] = given
		if cfg, err := parse(inside(t), env); err == nil && len(cfg.Grants[0].Match.Permissions) == 0 {
			t.Errorf("PERMISSIONS=%q: any token would do", given)
		}
	}
}

func TestTheImagesModeIsToldAsAWhole(t *testing.T) {
	minted := map[string]string{
		"WEB_IDENTITY_MODE": "minted", "WEB_IDENTITY_ISSUER": "https://broker.acme.example", "SIGNING_KEYS": "/run/secrets/now.pem,/run/secrets/next.pem",
	}
	env := six()
	maps.Copy(env, minted)
	cfg, err := parse(inside(t), env)
	if err != nil {
		t.Fatal(err)
	}
	want := config.WebIdentity{
		Mode: config.Minted, Issuer: "https://broker.acme.example", Audience: "sts.amazonaws.com", SigningKeys: []string{"/run/secrets/now.pem", "/run/secrets/next.pem"},
	}
	if diff := cmp.Diff(want, cfg.WebIdentity); diff != "" {
		t.Error(diff)
	}
	for name := range minted { // half of a mode is none
		env := six()
		maps.Copy(env, minted)
		delete(env, name)
		if _, err := parse(inside(t), env); err == nil {
			t.Errorf("it starts without %s", name)
		}
	}
}

// The table of variables in deploy/README.md is that of the file.
func TestEveryVariableOfTheImageIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../../deploy/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "<!-- variables:begin -->")
	table, _, found := strings.Cut(table, "<!-- variables:end -->")
	if !found {
		t.Fatal("deploy/README.md has no table of variables")
	}
	file := map[string]string{}
	for _, m := range regexp.MustCompile(`\$\{([A-Z0-9_]+)(:-([^}]*))?\}`).FindAllStringSubmatch(inside(t), -1) {
		switch {
		case m[2] == "":
			file[m[1]] = "**required**"
		case m[3] == "":
			file[m[1]] = "–"
		default:
			file[m[1]] = "`" + m[3] + "`"
		}
	}
	documented := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([A-Z0-9_]+)` \\| ([^|]*) \\|").FindAllStringSubmatch(table, -1) {
		documented[m[1]] = m[2]
	}
	if diff := cmp.Diff(file, documented); diff != "" {
		t.Errorf("in the file (-) and in deploy/README.md (+): %s", diff)
	}
}

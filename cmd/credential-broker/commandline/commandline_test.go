package commandline_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"credential-broker/cmd/credential-broker/commandline"
)

type shared struct {
	Where string `help:"Where." env:"WHERE" required:"" placeholder:"URL"`
}

type firstCmd struct {
	shared
	Mode  string        `help:"A mode." enum:"a,b" default:"a" env:"MODE"`
	Every time.Duration `help:"How often." default:"15m"`
	At    time.Time     `help:"When."`
	Count int           `help:"How many." default:"3"`
	JSON  bool          `name:"json" help:"Print JSON." env:"AS_JSON"`
}

type secondCmd struct {
	Query string   `arg:"" optional:"" help:"What."`
	Files []string `arg:"" optional:"" help:"Where."`
	Dir   string   `help:"A folder." type:"existingdir"`
}

type thirdCmd struct {
	Dir string `arg:"" help:"A folder."`
}

type model struct {
	Config string    `help:"A file." env:"CONFIG" default:"/etc/x.yaml" type:"path"`
	First  firstCmd  `cmd:"" help:"The first."`
	Second secondCmd `cmd:"" help:"The second."`
	Third  thirdCmd  `cmd:"" name:"last" help:"The third."`
}

func parse(environment map[string]string, args ...string) (*model, any, error) {
	m := &model{}
	p := commandline.Program{Name: "x", Description: "An example.", Lookup: func(name string) (string, bool) {
		v, ok := environment[name]
		return v, ok
	}}
	command, err := p.Parse(m, args)
	return m, command, err
}

func TestALineIsRead(t *testing.T) {
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	first := firstCmd{shared: shared{"w"}, Mode: "a", Every: 15 * time.Minute, Count: 3}
	set := func(change func(*firstCmd)) firstCmd { f := first; change(&f); return f }
	for name, tc := range map[string]struct {
		environment map[string]string
		line        string
		config      string
		want        any
	}{
		"defaults":                  {nil, "first --where=w", "/etc/x.yaml", &first},
		"a value as its own word":   {nil, "first --where w", "/etc/x.yaml", &first},
		"a flag before the command": {nil, "--config /y first --where w", "/y", &first},
		"and after it":              {nil, "first --where w --config=y", here + "/y", &first},
		"the last one counts":       {nil, "--config /y first --config /z --where v --where w", "/z", &first},
		"a path at home":            {nil, "--config ~/y first --where w", home + "/y", &first},
		"the environment":           {map[string]string{"WHERE": "w", "CONFIG": "/e", "AS_JSON": "1"}, "first", "/e", ptr(set(func(f *firstCmd) { f.JSON = true }))},
		"the line before it":        {map[string]string{"WHERE": "e", "MODE": "a"}, "first --where w --mode b", "/etc/x.yaml", ptr(set(func(f *firstCmd) { f.Mode = "b" }))},
		"an empty variable is none": {map[string]string{"MODE": ""}, "first --where w", "/etc/x.yaml", &first},
		"an empty value is one":     {map[string]string{"WHERE": "e"}, "first --where=", "/etc/x.yaml", ptr(set(func(f *firstCmd) { f.Where = "" }))},
		"each type": {nil, "first --where w --every 90s --count 7 --json --at 2026-11-24T12:00:00Z", "/etc/x.yaml", ptr(set(func(f *firstCmd) {
			f.Every, f.Count, f.JSON, f.At = 90*time.Second, 7, true, time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
		}))},
		"not":                      {map[string]string{"AS_JSON": "yes"}, "first --where w --json=no", "/etc/x.yaml", &first},
		"no arguments":             {nil, "second", "/etc/x.yaml", &secondCmd{}},
		"arguments among flags":    {nil, "second q --dir . f -", "/etc/x.yaml", &secondCmd{"q", []string{"f", "-"}, here}},
		"what looks like a flag":   {nil, "second -- --dir", "/etc/x.yaml", &secondCmd{Query: "--dir"}},
		"a name of its own":        {nil, "last d", "/etc/x.yaml", &thirdCmd{"d"}},
		"standard input as a path": {nil, "--config - last d", "-", &thirdCmd{"d"}},
	} {
		m, command, err := parse(tc.environment, strings.Fields(tc.line)...)
		if err != nil || m.Config != tc.config || !reflect.DeepEqual(command, tc.want) {
			t.Errorf("%s: %+v (config %s), %v, not %+v", name, command, m.Config, err, tc.want)
		}
	}
}

func ptr[T any](v T) *T { return &v }

func TestMistakesAreNamed(t *testing.T) {
	for line, want := range map[string]string{
		"":                               "a command is needed: first, second, last",
		"third":                          "unexpected argument third: the commands are first, second, last",
		"--none first":                   "unknown flag: --none",
		"first --none --where w":         "unknown flag: --none",
		"first":                          "missing: --where=URL",
		"first --where":                  "flag needs an argument: --where",
		"first --where w x":              "unexpected argument x",
		"first --where w --mode c":       `"c": one of a, b`,
		"first --where w --every 5":      "missing unit",
		"first --where w --count 5x":     "invalid syntax",
		"first --where w --at 2026":      "cannot parse",
		"first --where w --json=perhaps": "true or false",
		"second --dir /nowhere":          "no such file or directory",
		"second --dir /dev/null":         "no folder",
		"last":                           "missing: <dir>",
		"last d e":                       "unexpected argument e",
	} {
		if _, command, err := parse(nil, strings.Fields(line)...); err == nil || !strings.Contains(err.Error(), want) || command != nil {
			t.Errorf("%q: %v, %v, not %q", line, command, err, want)
		}
	}
	if _, _, err := parse(map[string]string{"MODE": "c"}, "first", "--where", "w"); err == nil || !strings.Contains(err.Error(), `MODE: "c": one of a, b`) {
		t.Errorf("a variable: %v", err)
	}
	var strange struct {
		Do struct{ What float64 } `cmd:""`
	}
	if _, err := (commandline.Program{}).Parse(&strange, []string{"do"}); err == nil {
		t.Error("a type that cannot be read is taken")
	}
}

func TestTheHelpTellsEverything(t *testing.T) {
	var help commandline.Help
	if _, _, err := parse(nil, "-h"); !errors.As(err, &help) {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Usage: x <command> [flags]\n\nAn example.\n", "--config=\"/etc/x.yaml\"", "A file ($CONFIG).", "\n  first --where=URL [flags]\n    The first.\n",
		"\n  second [<query>] [<files> ...] [flags]\n", "\n  last <dir> [flags]\n",
	} {
		if !strings.Contains(help.Text, want) {
			t.Errorf("%q is not in\n%s", want, help.Text)
		}
	}
	if _, _, err := parse(nil, "first", "--json", "--help"); !errors.As(err, &help) {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Usage: x first --where=URL [flags]\n\nThe first.\n", "Where ($WHERE).", "--mode=\"a\"", "--every=\"15m\"", "--at=TIME", "--count=\"3\"", "    --json ", "--config=",
	} {
		if !strings.Contains(help.Text, want) {
			t.Errorf("%q is not in\n%s", want, help.Text)
		}
	}
	for line := range strings.SplitSeq(help.Text, "\n") {
		if len(line) > 80 {
			t.Errorf("wider than a terminal: %q", line)
		}
	}
}

func TestAFlagIsNamedAfterItsField(t *testing.T) {
	var m struct {
		Do struct {
			URL, BaseURL, TokenFile, JWKSFile string
		} `cmd:""`
	}
	line := []string{"do", "--url=a", "--base-url=b", "--token-file=c", "--jwks-file=d"}
	if _, err := (commandline.Program{Lookup: os.LookupEnv}).Parse(&m, line); err != nil || m.Do.URL+m.Do.BaseURL+m.Do.TokenFile+m.Do.JWKSFile != "abcd" {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestTheVariablesOfACommandAreKnown(t *testing.T) {
	if names, err := commandline.Variables(&model{}, "first"); err != nil || strings.Join(names, " ") != "CONFIG WHERE MODE AS_JSON" {
		t.Errorf("%q, %v", names, err)
	}
}

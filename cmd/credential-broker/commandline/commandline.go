// Package commandline reads a command line into a struct whose tags describe it.
//
// Each field of the struct that is tagged cmd is a command, a struct of its own;
// what else it has are flags that every command takes. The tags:
//
//	help:"…"         what it is
//	name:"…"         instead of the field's name in kebab case
//	env:"NAME"       the variable that fills it where the command line does not; an empty one is none
//	default:"…"      what it is without either
//	required:""      it is a mistake to leave it out
//	placeholder:"…"  stands for the value in the help
//	enum:"a,b"       one of these alone
//	type:"path"      a file's name, made absolute; existingdir: of a folder that is there
//	arg:""           a positional argument; optional:"" lets it be left out, a list takes all that are left
//
// A field is a string, a bool, an int, a time.Duration, a time.Time (RFC 3339) or a
// list of strings. An embedded struct gives its fields. github.com/spf13/pflag
// parses; nothing here looks up a method by its name, since a program that does is
// linked with every exported method of all that it uses: 4.4 MB of the service.
package commandline

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/pflag"
)

// Program says what is read and where from.
type Program struct {
	Name, Description string
	Lookup            func(string) (string, bool) // the environment
}

// Help is what Parse returns, as an error, when the help is asked for.
type Help struct{ Text string }

// Error implements error.
func (h Help) Error() string { return h.Text }

// Parse reads args into model, a pointer to the struct, and returns a pointer to
// the field of the command that was given.
func (p Program) Parse(model any, args []string) (command any, err error) {
	root, err := read(reflect.ValueOf(model).Elem())
	if err != nil {
		return nil, err
	}
	rest, err := p.parse(root.flags, false, args)
	if err != nil {
		return nil, asHelp(err, func() string { return p.rootHelp(root) })
	}
	if len(rest) == 0 {
		return nil, fmt.Errorf("a command is needed: %s", strings.Join(root.names(), ", "))
	}
	at := slices.IndexFunc(root.commands, func(c *node) bool { return c.name == rest[0] })
	if at < 0 {
		return nil, fmt.Errorf("unexpected argument %s: the commands are %s", rest[0], strings.Join(root.names(), ", "))
	}
	c := root.commands[at]
	all := slices.Concat(root.flags, c.flags)
	rest, err = p.parse(all, true, rest[1:])
	if err != nil {
		return nil, asHelp(err, func() string { return p.commandHelp(root, c) })
	}
	if err := errors.Join(p.complete(all), c.take(rest)); err != nil {
		return nil, err
	}
	return c.value.Addr().Interface(), nil
}

func asHelp(err error, text func() string) error {
	if errors.Is(err, pflag.ErrHelp) {
		return Help{text()}
	}
	return err
}

// Variables returns the environment variables that a command of the model reads.
func Variables(model any, name string) ([]string, error) {
	root, err := read(reflect.ValueOf(model).Elem())
	if err != nil {
		return nil, err
	}
	var all []string
	for _, c := range root.commands {
		for _, o := range slices.Concat(root.flags, c.flags) {
			if c.name == name && o.env != "" {
				all = append(all, o.env)
			}
		}
	}
	return all, nil
}

// parse reads the flags in args, up to the first argument that is none, or past it.
func (p Program) parse(options []*option, interspersed bool, args []string) ([]string, error) {
	set := pflag.NewFlagSet(p.Name, pflag.ContinueOnError)
	set.SetInterspersed(interspersed)
	set.Usage = func() {}
	for _, o := range options {
		flag := set.VarPF(o, o.name, "", o.help)
		if o.value.Kind() == reflect.Bool {
			flag.NoOptDefVal = "true"
		}
	}
	err := set.Parse(args)
	return set.Args(), err
}

// complete fills in what the command line left out.
func (p Program) complete(options []*option) error {
	var missing []string
	var errs []error
	for _, o := range options {
		if o.given {
			continue
		}
		text, _ := p.Lookup(o.env)
		if o.env == "" || text == "" {
			text = o.initial
		} else if err := o.Set(text); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", o.env, err))
			continue
		}
		switch {
		case o.given:
		case text != "":
			errs = append(errs, o.Set(text))
		case o.required:
			missing = append(missing, o.usage())
		}
	}
	if len(missing) > 0 {
		errs = append(errs, fmt.Errorf("missing: %s", strings.Join(missing, ", ")))
	}
	return errors.Join(errs...)
}

// node is a command, or the program itself.
type node struct {
	name, help string
	value      reflect.Value
	flags      []*option
	args       []*option
	commands   []*node
}

func (c *node) names() []string {
	var all []string
	for _, sub := range c.commands {
		all = append(all, sub.name)
	}
	return all
}

// take fills the positional arguments.
func (c *node) take(given []string) error {
	for _, o := range c.args {
		n := min(1, len(given))
		if o.value.Kind() == reflect.Slice {
			n = len(given)
		}
		for _, text := range given[:n] {
			if err := o.Set(text); err != nil {
				return fmt.Errorf("<%s>: %w", o.name, err)
			}
		}
		if n == 0 && o.required {
			return fmt.Errorf("missing: <%s>", o.name)
		}
		given = given[n:]
	}
	if len(given) > 0 {
		return fmt.Errorf("unexpected argument %s", given[0])
	}
	return nil
}

// option is a flag or a positional argument. It implements pflag.Value.
type option struct {
	name, help, env, initial, placeholder, kind string
	enum                                        []string
	required, given                             bool
	value                                       reflect.Value
}

// read makes a command of a struct.
func read(v reflect.Value) (*node, error) {
	c := &node{value: v}
	for i := range v.NumField() {
		field, value := v.Type().Field(i), v.Field(i)
		if field.Anonymous {
			inner, err := read(value)
			if err != nil {
				return nil, err
			}
			c.flags = append(c.flags, inner.flags...)
			continue
		}
		name := field.Tag.Get("name")
		if name == "" {
			name = kebab(field.Name)
		}
		if _, ok := field.Tag.Lookup("cmd"); ok {
			sub, err := read(value)
			if err != nil {
				return nil, err
			}
			sub.name, sub.help = name, field.Tag.Get("help")
			c.commands = append(c.commands, sub)
			continue
		}
		if err := c.add(name, field, value); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *node) add(name string, field reflect.StructField, value reflect.Value) error {
	tag := field.Tag
	o := &option{
		name: name, help: tag.Get("help"), env: tag.Get("env"), initial: tag.Get("default"), placeholder: tag.Get("placeholder"), kind: tag.Get("type"),
		value: value,
	}
	if names := tag.Get("enum"); names != "" {
		o.enum = strings.Split(names, ",")
	}
	switch value.Interface().(type) {
	case string, bool, int, time.Duration, time.Time, []string:
	default:
		return fmt.Errorf("shouldn't happen: a flag --%s of type %s", name, field.Type)
	}
	if _, ok := tag.Lookup("arg"); ok {
		_, optional := tag.Lookup("optional")
		o.required = !optional
		c.args = append(c.args, o)
		return nil
	}
	_, o.required = tag.Lookup("required")
	c.flags = append(c.flags, o)
	return nil
}

// kebab makes token-file of TokenFile, and base-url of BaseURL.
func kebab(name string) string {
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		begins := i > 0 && unicode.IsUpper(r) && (!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1]))
		if begins {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// Type implements pflag.Value.
func (o *option) Type() string { return o.value.Type().String() }

// String implements pflag.Value: it is what pflag takes for the default.
func (o *option) String() string { return "" }

// Set implements pflag.Value.
func (o *option) Set(text string) error {
	o.given = true
	if len(o.enum) > 0 && !slices.Contains(o.enum, text) {
		return fmt.Errorf("%q: one of %s", text, strings.Join(o.enum, ", "))
	}
	parsed, err := o.parse(text)
	if err != nil {
		return err
	}
	o.value.Set(reflect.ValueOf(parsed))
	return nil
}

func (o *option) parse(text string) (any, error) {
	switch old := o.value.Interface().(type) {
	case bool:
		return parseBool(text)
	case int:
		return strconv.Atoi(text)
	case time.Duration:
		return time.ParseDuration(text)
	case time.Time:
		return time.Parse(time.RFC3339, text)
	case []string:
		return append(old, text), nil
	default:
		return o.file(text)
	}
}

func parseBool(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "true", "1", "yes":
		return true, nil
	case "false", "0", "no":
		return false, nil
	default:
		return false, fmt.Errorf("%q: true or false", text)
	}
}

// file makes of a file's name what its tag asks for. "-" is standard input.
func (o *option) file(text string) (string, error) {
	if o.kind == "" || text == "-" {
		return text, nil
	}
	if rest, ok := strings.CutPrefix(text, "~/"); ok {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		text = filepath.Join(home, rest)
	}
	name, err := filepath.Abs(text)
	if err != nil || o.kind == "path" {
		return name, err
	}
	info, err := os.Stat(name)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is no folder", text)
	}
	return name, err
}

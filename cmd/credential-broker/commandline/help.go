package commandline

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"
)

// width is what every terminal has.
const width = 80

// indent is where the help of a flag begins; a longer flag has a line of its own.
const indent = 34

// usage is the flag as it is written.
func (o *option) usage() string {
	if o.value.Kind() == reflect.Bool {
		return "--" + o.name
	}
	value := o.placeholder
	if value == "" {
		value = "STRING"
		if o.initial != "" {
			value = fmt.Sprintf("%q", o.initial)
		} else if kind := o.value.Kind(); kind != reflect.String && kind != reflect.Slice {
			value = strings.ToUpper(o.value.Type().Name())
		}
	}
	return "--" + o.name + "=" + value
}

// synopsis is the command with what it needs.
func (c *node) synopsis() string {
	parts := []string{c.name}
	for _, o := range c.flags {
		if o.required {
			parts = append(parts, o.usage())
		}
	}
	for _, o := range c.args {
		parts = append(parts, o.argument())
	}
	return strings.Join(append(parts, "[flags]"), " ")
}

func (o *option) argument() string {
	text := "<" + o.name + ">"
	if o.value.Kind() == reflect.Slice {
		text += " ..."
	}
	if !o.required {
		text = "[" + text + "]"
	}
	return text
}

// rootHelp is the help of the program.
func (p Program) rootHelp(root *node) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: %s <command> [flags]\n\n%s\nFlags:\n%s\nCommands:\n", p.Name, wrap(p.Description, 0), table(flagRows(root.flags)))
	for _, c := range root.commands {
		fmt.Fprintf(&b, "  %s\n%s\n", c.synopsis(), wrap(c.help, 4))
	}
	fmt.Fprintf(&b, "Run \"%s <command> --help\" for more information on a command.\n", p.Name)
	return b.String()
}

// commandHelp is the help of a command.
func (p Program) commandHelp(root, c *node) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: %s %s\n\n%s\n", p.Name, c.synopsis(), wrap(c.help, 0))
	if len(c.args) > 0 {
		var rows [][2]string
		for _, o := range c.args {
			rows = append(rows, [2]string{o.argument(), o.help})
		}
		fmt.Fprintf(&b, "Arguments:\n%s\n", table(rows))
	}
	fmt.Fprintf(&b, "Flags:\n%s", table(flagRows(slices.Concat(root.flags, c.flags))))
	return b.String()
}

func flagRows(options []*option) [][2]string {
	rows := [][2]string{{"-h, --help", "Show this."}}
	for _, o := range options {
		help := o.help
		if o.env != "" {
			help = strings.TrimSuffix(help, ".") + " ($" + o.env + ")."
		}
		rows = append(rows, [2]string{"    " + o.usage(), help})
	}
	return rows
}

// table sets what stands on the left, and its help beside or below it.
func table(rows [][2]string) string {
	column := 0
	for _, r := range rows {
		if n := utf8.RuneCountInString(r[0]) + len("    "); n <= indent {
			column = max(column, n)
		}
	}
	column = max(column, len("    "))
	var b strings.Builder
	for _, r := range rows {
		help := wrap(r[1], column)
		if n := utf8.RuneCountInString(r[0]); n+len("    ") <= column {
			help = "  " + r[0] + strings.Repeat(" ", column-n-2) + strings.TrimLeft(help, " ")
		} else {
			help = "  " + r[0] + "\n" + help
		}
		b.WriteString(help)
	}
	return b.String()
}

// wrap breaks a text at its blanks, each line indented, the last one ended.
func wrap(text string, by int) string {
	var b strings.Builder
	at := 0
	for word := range strings.FieldsSeq(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case at == 0:
			b.WriteString(strings.Repeat(" ", by))
			at = by
		case at+1+n > width:
			b.WriteString("\n" + strings.Repeat(" ", by))
			at = by
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += n
	}
	b.WriteByte('\n')
	return b.String()
}

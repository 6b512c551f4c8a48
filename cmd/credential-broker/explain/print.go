package explain

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"credential-broker/broker"
)

// printer writes a verdict for people, in colour where it is told to.
type printer struct {
	to     io.Writer
	colour bool
}

// Print writes a verdict as text.
func Print(w io.Writer, v Verdict, colour bool) {
	var text bytes.Buffer
	p := printer{&text, colour}
	p.token(v.Token)
	p.grants(v.Grants)
	if v.Tenant != "" {
		p.title("Tenant")
		p.line("  %s", v.Tenant)
	}
	p.scope(v)
	p.policy(v.Policy)
	p.title("Answer")
	if v.Allowed {
		p.line("  %s STS is asked for credentials; within the limits, and if STS agrees, the answer is 200", p.good())
	} else {
		p.line("  %s %d %s: %s", p.bad(), v.Status, string(v.Code), strings.TrimPrefix(v.Reason, string(v.Code)+": "))
		if v.Advice != "" {
			p.line("    → %s", v.Advice)
		}
	}
	_, _ = io.WriteString(w, text.String()) // whoever reads no more need not be told
}

func (p printer) token(t Token) {
	p.title("Token")
	if t.Verified {
		p.line("  %s verified; good until %s", p.good(), t.Expires)
	} else {
		p.line("  %s not verified; what it says is not proved:", p.bad())
	}
	var claims bytes.Buffer
	if json.Indent(&claims, t.Claims, "  ", "  ") == nil && claims.Len() > 0 {
		p.line("  %s", claims.String())
	}
}

func (p printer) grants(all []Grant) {
	if len(all) == 0 {
		return
	}
	p.title("Grants")
	for _, g := range all {
		switch {
		case g.Matches:
			p.line("  %s %s: matches", p.good(), g.Name)
		case g.Looked:
			p.line("  %s %s: %s", p.bad(), g.Name, g.Reason)
		default:
			p.line("  – %s: not looked at: %s", g.Name, g.Reason)
		}
	}
}

func (p printer) scope(v Verdict) {
	s, narrowed := v.Scope, true
	if s == nil {
		s, narrowed = v.Given, false
	}
	if s == nil {
		return
	}
	if narrowed {
		p.title("Scope")
	} else {
		p.title("Scope that the grant gives")
	}
	given := func(same bool, format string, args ...any) string {
		if !narrowed || same {
			return ""
		}
		return " (the grant gives " + fmt.Sprintf(format, args...) + ")"
	}
	seconds := func(n int) time.Duration { return time.Duration(n) * time.Second }
	p.line("  bucket    %s in %s", s.Bucket, s.Region)
	p.line("  prefix    %s%s", s.Prefix, given(s.Prefix == v.Given.Prefix, "%s", v.Given.Prefix))
	p.line("  access    %s%s", strings.Join(s.Access, ", "), given(slices.Equal(s.Access, v.Given.Access), "%s", strings.Join(v.Given.Access, ", ")))
	p.line("  duration  %s%s", seconds(s.Duration), given(s.Duration == v.Given.Duration, "%s at most", seconds(v.Given.Duration)))
	if s.SourceIP != "" {
		p.line("  from      %s alone", s.SourceIP)
	}
	p.line("  role      %s", s.RoleARN)
	if v.Session != "" {
		p.line("  session   %s", v.Session)
	}
}

func (p printer) policy(d *Policy) {
	if d == nil {
		return
	}
	p.title("Session policy")
	if d.Confined {
		p.line("  %s proved to stay inside the scope; %d of %d bytes", p.good(), d.Bytes, d.MaxBytes)
	} else {
		p.line("  %s not proved: %s", p.bad(), d.Problem)
	}
	var text bytes.Buffer
	if json.Indent(&text, d.Document, "", "  ") == nil {
		for l := range strings.Lines(text.String()) {
			p.line("  %s", strings.TrimRight(l, "\n"))
		}
	}
}

// painted is text of ours, with a terminal's commands in it.
type painted string

func (p printer) good() painted { return p.in("32", "✔") }
func (p printer) bad() painted  { return p.in("31", "✘") }

func (p printer) title(text string) { _, _ = fmt.Fprintln(p.to, p.in("1", text)) }

// in writes text in a colour of ECMA-48.
func (p printer) in(colour, text string) painted {
	if !p.colour {
		return painted(text)
	}
	return painted("\x1b[" + colour + "m" + text + "\x1b[0m")
}

// line writes a line. What a caller could have put into a token does not reach the
// terminal's own commands.
func (p printer) line(format string, args ...any) {
	for i, a := range args {
		if text, ok := a.(string); ok {
			args[i] = broker.Printable(text)
		}
	}
	_, _ = fmt.Fprintf(p.to, format+"\n", args...)
}

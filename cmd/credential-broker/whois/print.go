package whois

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"credential-broker/broker"
)

// shown bounds the records that are printed of a person: the first, and the last
// ones. --json has all.
const shown = 10

// Print writes what was found for people.
func Print(w io.Writer, r Result) {
	var text strings.Builder
	for i, p := range r.People {
		if i > 0 {
			text.WriteByte('\n')
		}
		p.print(&text)
	}
	_, _ = io.WriteString(w, text.String()) // whoever reads no more need not be told
}

func (p Person) print(w *strings.Builder) {
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%-8s %s\n", name, broker.Printable(value))
		}
	}
	subject := cmp.Or(p.Subject, "nobody who was proved")
	if p.Name != "" {
		subject = p.Name + " (" + p.Subject + ")"
	}
	line("who", subject)
	line("issuer", p.Issuer)
	line("client", p.Client)
	line("tenant", p.Tenant)
	line("grant", strings.Join(p.Grants, ", "))
	first := p.Records[0]
	line("session", first.SessionName)
	for i, r := range p.Records {
		if left := len(p.Records) - shown; left > 0 && i > 0 && i <= left {
			if i == left {
				fmt.Fprintf(w, "  … and %d more (--json has all)\n", left)
			}
			continue
		}
		fmt.Fprintf(w, "  %s\n", broker.Printable(describe(r)))
	}
}

// describe is a record in one line.
func describe(r broker.Record) string {
	what := fmt.Sprintf("%s %s", r.Action, r.Decision)
	switch {
	case r.Decision == broker.Deny:
		what += " " + string(r.Code) + " (" + strings.TrimPrefix(r.Reason, string(r.Code)+": ") + ")"
	case r.AccessKeyID != "":
		what = fmt.Sprintf("%s for s3://%s/%s (%s), from the %s, until %s", r.AccessKeyID, r.Bucket, r.Prefix, strings.Join(r.Access, ","), r.Source, instant(r.Expiration))
	}
	return fmt.Sprintf("%s  %s; from %s, %s; request %s", r.Time.UTC().Format("2006-01-02T15:04:05.000Z"), what, cmp.Or(r.Address, "–"), cmp.Or(r.UserAgent, "–"), cmp.Or(r.RequestID, "–"))
}

func instant(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.UTC().Format(time.RFC3339)
}

// Notes are what an operator should know of the lines that were read.
func (c Counts) Notes() []string {
	var notes []string
	note := func(n int, text string) {
		if n > 0 {
			notes = append(notes, fmt.Sprintf("%d %s", n, text))
		}
	}
	note(c.Unreadable, "line(s) could not be read: a record may have been in one of them")
	note(c.Later, "record(s) are of a later version, which this program does not know")
	note(c.Gaps, "record(s) tell of decisions that were refused while none could be written")
	return notes
}

package doctor

import (
	"fmt"
	"io"

	"credential-broker/broker"
)

// Print writes one finding as a line, and its remedy below it. Much of both is of
// others: of a token's claims, of what S3 and STS answered.
func Print(w io.Writer, f Finding) {
	sign := map[Status]string{Proved: "✔", Failed: "✘"}[f.Status]
	if sign == "" {
		sign = "–"
		f.Name += ": not proved"
	}
	_, _ = fmt.Fprintf(w, "%s %s", sign, broker.Printable(f.Name)) // whoever reads no more need not be told
	if f.Detail != "" {
		_, _ = fmt.Fprintf(w, ": %s", broker.Printable(f.Detail))
	}
	_, _ = fmt.Fprintln(w)
	if f.Remedy != "" {
		_, _ = fmt.Fprintf(w, "    → %s\n", broker.Printable(f.Remedy))
	}
}

// Sum writes the last line.
func Sum(w io.Writer, r Report) {
	count := map[Status]int{}
	for _, f := range r.Findings {
		count[f.Status]++
	}
	_, _ = fmt.Fprintf(w, "%d proved, %d failed, %d not proved; %d requests were made to get out\n", count[Proved], count[Failed], count[NotProved], r.Attempts)
}

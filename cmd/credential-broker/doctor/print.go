package doctor

import (
	"fmt"
	"io"
)

// Print writes one finding as a line, and its remedy below it.
func Print(w io.Writer, f Finding) {
	sign := map[Status]string{Proved: "✔", Failed: "✘"}[f.Status]
	if sign == "" {
		sign = "–"
		f.Name += ": not proved"
	}
	_, _ = fmt.Fprintf(w, "%s %s", sign, f.Name) // whoever reads no more need not be told
	if f.Detail != "" {
		_, _ = fmt.Fprintf(w, ": %s", f.Detail)
	}
	_, _ = fmt.Fprintln(w)
	if f.Remedy != "" {
		_, _ = fmt.Fprintf(w, "    → %s\n", f.Remedy)
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

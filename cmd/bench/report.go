package main

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report is what is printed.
type report struct {
	Title string `json:"title"`
	Where string `json:"where"`
	Rows  []row  `json:"rows"`
	Notes []string
}

// row is one server under one load: medians over the rounds.
type row struct {
	Name      string  `json:"name"`
	PerSecond float64 `json:"requests_per_second"`
	CPU       float64 `json:"cpu_microseconds"` // of the server, a request
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	P999      float64 `json:"p999_ms"`
	RSS       float64 `json:"rss_mb"`
	Allocs    float64 `json:"allocations"` // a request, net/http's included
	Ratio     float64 `json:"ratio"`       // of requests per second to the first row's
	CPURatio  float64 `json:"cpu_ratio"`   // of CPU a request, the first row's over this one's
	Bad       int     `json:"unexpected_answers"`

	server *child
	load   [][]byte
	expect int
	sent   int
	rounds []sample
}

// sample is one round.
type sample struct{ perSecond, cpu, p50, p99, p999, rss, allocs float64 }

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	values = slices.Sorted(slices.Values(values))
	if n := len(values); n%2 == 0 {
		return (values[n/2-1] + values[n/2]) / 2
	}
	return values[len(values)/2]
}

// settle makes the medians. Ratios are medians of the ratios within a round.
func settle(rows []*row) []row {
	made := make([]row, len(rows))
	for i, r := range rows {
		of := func(pick func(sample) float64) float64 {
			var all []float64
			for _, s := range r.rounds {
				all = append(all, pick(s))
			}
			return median(all)
		}
		r.PerSecond, r.CPU = of(func(s sample) float64 { return s.perSecond }), of(func(s sample) float64 { return s.cpu })
		r.P50, r.P99, r.P999 = of(func(s sample) float64 { return s.p50 }), of(func(s sample) float64 { return s.p99 }), of(func(s sample) float64 { return s.p999 })
		r.RSS, r.Allocs = of(func(s sample) float64 { return s.rss }), of(func(s sample) float64 { return s.allocs })
		var ratios, cpu []float64
		for k, s := range r.rounds {
			ratios, cpu = append(ratios, s.perSecond/rows[0].rounds[k].perSecond), append(cpu, rows[0].rounds[k].cpu/s.cpu)
		}
		r.Ratio, r.CPURatio = median(ratios), median(cpu)
		made[i] = *r
	}
	return made
}

func where(rounds int, each time.Duration, tool string) string {
	return fmt.Sprintf("%s %s/%s, %d processors; %d rounds of %s each, load by %s, server on one processor", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), rounds, each, tool)
}

func (r report) text() string {
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, "%s\n%s\n\n", r.Title, r.Where)
	if len(r.Rows) > 0 {
		_, _ = fmt.Fprintf(&b, "%-52s %9s %7s %7s %8s %8s %8s %6s %6s %8s\n", "", "req/s", "ratio", "cpu µs", "cpu rat.", "p50 ms", "p99 ms", "p99.9", "RSS MB", "allocs")
	}
	for _, row := range r.Rows {
		_, _ = fmt.Fprintf(&b, "%-52s %9.0f %7.2f %7.1f %8.2f %8.2f %8.2f %6.1f %6.1f %8.1f\n",
			row.Name, row.PerSecond, row.Ratio, row.CPU, row.CPURatio, row.P50, row.P99, row.P999, row.RSS, row.Allocs)
		if row.Bad > 0 {
			_, _ = fmt.Fprintf(&b, "    %d answers were not as expected\n", row.Bad)
		}
	}
	for _, n := range r.Notes {
		_, _ = fmt.Fprintln(&b, n)
	}
	return b.String()
}

// svg draws the ratios as bars.
func (r report) svg() string {
	const bar, left, width = 22, 330, 420
	most := 1.0
	for _, row := range r.Rows {
		most = max(most, row.Ratio)
	}
	escape := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
	var b strings.Builder
	height := 60 + bar*len(r.Rows)
	_, _ = fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", left+width+80, height)
	_, _ = fmt.Fprintf(&b, `<text x="8" y="18" font-size="14">%s</text><text x="8" y="36" fill="#555">%s</text>`+"\n", escape.Replace(r.Title), escape.Replace(r.Where))
	for i, row := range r.Rows {
		y := 48 + bar*i
		_, _ = fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text><rect x="%d" y="%d" width="%.0f" height="%d" fill="#4a7"/><text x="%.0f" y="%d">%.2f</text>`+"\n",
			left-8, y+14, escape.Replace(row.Name), left, y+3, row.Ratio/most*width, bar-6, left+row.Ratio/most*width+6, y+14, row.Ratio)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// Command mutants proves that each guard has a test that fails without it: it
// takes the guards out one at a time and runs the tests of the package. A guard
// whose absence no test notices survives, and is reported.
//
//	go run ./.ci/mutants [flags] [package ...]
//
// is run from the repository's root; a package is named by its folder. The tree
// is not touched: a changed file reaches the compiler by `go test -overlay`.
// Survivors without which the code behaves as with them are excused, each with
// its reason, in .ci/mutants/equivalent.txt.
//
// The exit code is 0 if every guard is held or excused, 1 if one survives or an
// excuse is stale, and 2 if nothing could be said.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// target is a package and the packages whose tests hold its guards.
type target struct {
	dir   string
	tests []string
}

// targets are the packages whose guards keep tenants apart or secrets inside.
func targets() []target {
	return []target{
		{dir: "policy", tests: []string{"policy"}},
		{dir: "broker", tests: []string{"broker"}},
		{dir: "broker/idtoken", tests: []string{"broker/idtoken"}},
		{dir: "broker/webidentity", tests: []string{"broker/webidentity"}},
		{dir: "broker/awssts", tests: []string{"broker/awssts"}},
		{dir: "broker/credcache", tests: []string{"broker/credcache"}},
		{dir: "broker/limits", tests: []string{"broker/limits"}},
		{dir: "broker/sessions", tests: []string{"broker/sessions"}},
		{dir: "broker/httpapi", tests: []string{"broker/httpapi"}},
	}
}

// excusesFile is where survivors are excused, below the root.
const excusesFile = ".ci/mutants/equivalent.txt"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	code := run(ctx, ".", os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options are the command line.
type options struct {
	targets []target
	only    *regexp.Regexp
	part    sample
	jobs    int
	timeout time.Duration
	list    bool
	verbose bool
}

func parse(args []string, stderr io.Writer) (options, error) {
	o := options{part: sample{1, 1}}
	flags := flag.NewFlagSet("mutants", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&o.jobs, "j", max(1, runtime.NumCPU()/2), "how many mutants are tested at a time")
	flags.DurationVar(&o.timeout, "timeout", time.Minute, "of one package's tests; a mutant that takes longer is killed")
	flags.BoolVar(&o.list, "list", false, "list the mutants and test none")
	flags.BoolVar(&o.verbose, "v", false, "say what became of each mutant, as it happens")
	flags.Func("run", "`regexp`: only mutants whose \"file:line function\" matches", func(s string) (err error) {
		o.only, err = regexp.Compile(s)
		return err
	})
	flags.Func("sample", "`[k/]N`: only the k-th (first) of N parts, always the same", func(s string) (err error) {
		o.part, err = parseSample(s)
		return err
	})
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	if o.jobs < 1 {
		return options{}, errors.New("-j: at least 1")
	}
	o.targets = choose(flags.Args())
	return o, nil
}

// choose gives the packages that were named, or all of the table.
func choose(names []string) []target {
	if len(names) == 0 {
		return targets()
	}
	var chosen []target
	for _, name := range names {
		name = path.Clean(name)
		t := target{dir: name, tests: []string{name}}
		for _, known := range targets() {
			if known.dir == name {
				t = known
			}
		}
		chosen = append(chosen, t)
	}
	return chosen
}

// sample is the k-th of n parts of all mutants.
type sample struct{ k, n uint32 }

func parseSample(s string) (sample, error) {
	first, second, ok := strings.Cut(s, "/")
	if !ok {
		first, second = "1", s
	}
	k, err := strconv.ParseUint(first, 10, 16)
	if err != nil {
		return sample{}, err
	}
	n, err := strconv.ParseUint(second, 10, 16)
	if err != nil {
		return sample{}, err
	}
	if k < 1 || k > n {
		return sample{}, fmt.Errorf("%q is no part of a whole", s)
	}
	return sample{uint32(k), uint32(n)}, nil
}

// row is a line of the table.
type row struct {
	name                                            string
	guards, killed, unbuildable, excused, survivors int
	took                                            time.Duration
}

func run(ctx context.Context, root string, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err == nil {
		var held bool
		if held, err = prove(ctx, root, o, stdout, stderr); err == nil {
			if held {
				return 0
			}
			return 1
		}
	}
	_, _ = fmt.Fprintln(stderr, "mutants:", err)
	return 2
}

// prove reports whether every guard of the targets is held or excused.
func prove(ctx context.Context, root string, o options, stdout, stderr io.Writer) (bool, error) {
	excuses, err := readExcuses(root)
	if err != nil {
		return false, err
	}
	tester, err := newTester(root, o.timeout)
	if err != nil {
		return false, err
	}
	defer tester.close()
	var rows []row
	held := true
	for _, t := range o.targets {
		began := time.Now()
		all, err := find(root, t.dir)
		if err != nil {
			return false, err
		}
		chosen := o.chosen(all)
		if o.list {
			for _, m := range chosen {
				_, _ = fmt.Fprintln(stdout, m)
			}
			continue
		}
		progress := io.Discard
		if o.verbose {
			progress = stderr
		}
		if err := tester.testAll(ctx, t, chosen, o.jobs, progress); err != nil {
			return false, err
		}
		r := count(t, chosen, excuses, stdout)
		r.took = time.Since(began)
		held = held && r.survivors == 0
		rows = append(rows, r)
		for _, problem := range excuses.stale(root, t.dir, all) {
			held = false
			_, _ = fmt.Fprintln(stdout, problem)
		}
	}
	if o.list {
		return true, nil
	}
	return held, write(stdout, rows)
}

// chosen are the mutants that the flags leave, marked as such.
func (o options) chosen(all []*mutant) []*mutant {
	var chosen []*mutant
	for _, m := range all {
		where := fmt.Sprintf("%s:%d %s", m.file, m.line, m.function)
		if (o.only == nil || o.only.MatchString(where)) && m.hash()%o.part.n == o.part.k-1 {
			chosen = append(chosen, m)
		}
	}
	return chosen
}

// count prints the survivors and gives the package's line of the table.
func count(t target, chosen []*mutant, excuses excuses, stdout io.Writer) row {
	r := row{name: t.dir, guards: len(chosen)}
	for _, m := range chosen {
		switch m.fate {
		case killed:
			r.killed++
		case unbuildable:
			r.unbuildable++
		case survived:
			if excuses.covers(m) {
				r.excused++
				continue
			}
			r.survivors++
			_, _ = fmt.Fprintln(stdout, m)
		case untested:
		}
	}
	return r
}

func write(stdout io.Writer, rows []row) error {
	var sum row
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(w, "package\tguards\tkilled\tnot buildable\texcused\tsurvivors\tseconds\t")
	line := func(r row) {
		_, _ = fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%.0f\t\n", r.name, r.guards, r.killed, r.unbuildable, r.excused, r.survivors, r.took.Seconds())
	}
	for _, r := range rows {
		line(r)
		sum.guards, sum.killed, sum.unbuildable = sum.guards+r.guards, sum.killed+r.killed, sum.unbuildable+r.unbuildable
		sum.excused, sum.survivors, sum.took = sum.excused+r.excused, sum.survivors+r.survivors, sum.took+r.took
	}
	if sum.name = "all"; len(rows) > 1 {
		line(sum)
	}
	return w.Flush()
}

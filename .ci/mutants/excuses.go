package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// excuse names a guard without which the code behaves as with it:
//
//	file: function: expression # reason
//
// The expression is as it is reported, with what was done to it ("if false: ")
// or, to mean all that can be done to it, without. Lines do not count, so that
// an excuse lives as long as its guard.
type excuse struct {
	line                       int
	file, function, expression string
}

type excuses []excuse

func readExcuses(root string) (excuses, error) {
	data, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(excusesFile))) //nolint:gosec // below the root, where the developer stands
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read excuses: %w", err)
	}
	var all excuses
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		what, reason, _ := strings.Cut(line, " # ")
		if strings.TrimSpace(reason) == "" {
			return nil, fmt.Errorf("read excuses: %s:%d: no reason", excusesFile, i+1)
		}
		parts := strings.SplitN(what, ": ", 3)
		if len(parts) != 3 {
			return nil, fmt.Errorf("read excuses: %s:%d: not of the form `file: function: expression # reason`", excusesFile, i+1)
		}
		all = append(all, excuse{line: i + 1, file: parts[0], function: parts[1], expression: strings.TrimSpace(parts[2])})
	}
	return all, nil
}

func (e excuse) covers(m *mutant) bool {
	return e.file == m.file && e.function == m.function && (e.expression == m.expr || e.expression == m.kind+": "+m.expr)
}

func (all excuses) covers(m *mutant) bool {
	for _, e := range all {
		if e.covers(m) {
			return true
		}
	}
	return false
}

// stale returns what is wrong with the excuses that are meant for the package:
// those of which nothing survived although all of it was tested. Those of a file
// that is gone are in the way whatever the package.
func (all excuses) stale(root, dir string, mutants []*mutant) []string {
	var problems []string
	for _, e := range all {
		if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(e.file))); err != nil {
			problems = append(problems, fmt.Sprintf("%s:%d: there is no file %s", excusesFile, e.line, e.file))
			continue
		}
		if path.Dir(e.file) != dir {
			continue
		}
		guards, needed := 0, false
		for _, m := range mutants {
			if e.covers(m) {
				guards++
				needed = needed || m.fate == survived || m.fate == untested
			}
		}
		switch {
		case guards == 0:
			problems = append(problems, fmt.Sprintf("%s:%d: %s has no such guard: %s", excusesFile, e.line, e.function, e.expression))
		case !needed:
			problems = append(problems, fmt.Sprintf("%s:%d: a test holds it, no excuse is needed: %s: %s", excusesFile, e.line, e.function, e.expression))
		}
	}
	return problems
}

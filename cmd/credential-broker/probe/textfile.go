package probe

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Print writes a report for people.
func Print(w io.Writer, r Report) {
	for _, c := range r.Checks {
		sign := "✘"
		switch {
		case c.OK:
			sign = "✔"
		case c.Open:
			c.Detail = "NOT REFUSED: " + c.Detail
		}
		_, _ = fmt.Fprintf(w, "%s %s: %s\n", sign, c.Check, plain(c.Detail)) // whoever reads no more need not be told
	}
}

// plain keeps of what servers said what can stand on a terminal.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// WriteTextfile writes the report for the textfile collector of Prometheus's node
// exporter: as a whole or not at all, by renaming. A file that is half there, or of
// one run and the next, is never read.
// https://github.com/prometheus/node_exporter#textfile-collector
func WriteTextfile(path string, r Report) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // not *.prom: nobody reads it
	if err != nil {
		return fmt.Errorf("write textfile: %w", err)
	}
	_, err = io.WriteString(f, metrics(r))
	err = errors.Join(err, f.Chmod(0o644), f.Close()) // the node exporter, another user, reads it
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write textfile: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// metrics is a report in Prometheus's text format.
func metrics(r Report) string {
	var b strings.Builder
	broker := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(r.Broker)
	family := func(name, help string, value func(Check) bool) {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name)
		for _, c := range r.Checks {
			v := 0
			if value(c) {
				v = 1
			}
			fmt.Fprintf(&b, "%s{broker=\"%s\",check=\"%s\"} %d\n", name, broker, c.Check, v)
		}
	}
	family("credential_broker_probe_success", "1 if the check held, 0 if it did not or nothing is proved.", func(c Check) bool { return c.OK })
	family("credential_broker_probe_open", "1 if what must be refused was not.", func(c Check) bool { return c.Open })
	const at = "credential_broker_probe_timestamp_seconds"
	fmt.Fprintf(&b, "# HELP %s When the probe last ended.\n# TYPE %s gauge\n%s{broker=\"%s\"} %d\n", at, at, at, broker, r.Time.Unix())
	return b.String()
}

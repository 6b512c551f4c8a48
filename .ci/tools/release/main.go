// Command release reads GoReleaser's configuration as GoReleaser does: what it does
// not know, or not in that form, is an error. The rest of `goreleaser check` needs the
// whole of it, minutes to build: the release workflow runs that, before it releases.
package main

import (
	"fmt"
	"os"

	"github.com/goreleaser/goreleaser/v2/pkg/config"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: release FILE")
		os.Exit(2)
	}
	if _, err := config.Load(os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

//go:build !unix

package agent

import "io/fs"

// foreign is not known here: see othersMay.
func foreign(fs.FileInfo) bool { return false }

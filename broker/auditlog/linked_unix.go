//go:build unix

package auditlog

import (
	"os"
	"syscall"
)

// linked reports whether a file has a name.
func linked(info os.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Nlink > 0
}

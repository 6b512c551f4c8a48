//go:build unix

package auditlog

import (
	"os"
	"syscall"
)

// same reports whether the file is the one under the path. It is os.SameFile for a
// file that is open, whose place nobody else has.
func same(path string, file os.FileInfo) bool {
	ours, ok := file.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	var there syscall.Stat_t
	return syscall.Stat(path, &there) == nil && there.Dev == ours.Dev && there.Ino == ours.Ino
}

// linked reports whether a file has a name.
func linked(info os.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Nlink > 0
}

//go:build !unix

package auditlog

import "os"

// same reports whether the file is the one under the path.
func same(path string, file os.FileInfo) bool {
	there, err := os.Stat(path)
	return err == nil && os.SameFile(there, file)
}

// linked reports whether a file has a name. An open one always has, here.
func linked(os.FileInfo) bool { return true }

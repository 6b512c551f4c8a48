//go:build !linux

package versitygw

import (
	"syscall"
	"testing"
)

// Isolate runs the tests where they are: only Linux has network namespaces, and
// elsewhere Need skips.
func Isolate(m *testing.M) (code int) { return m.Run() }

// dieTogether is nothing here: Close has to be called.
func dieTogether() *syscall.SysProcAttr { return nil }

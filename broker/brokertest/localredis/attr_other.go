//go:build !linux

package localredis

import "syscall"

// DieTogether is Linux's alone.
func DieTogether() *syscall.SysProcAttr { return nil }

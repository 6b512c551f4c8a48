package localredis

import "syscall"

// DieTogether has a process end with the test that began it.
func DieTogether() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

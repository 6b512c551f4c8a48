package main

import (
	"io/fs"
	"strconv"
	"strings"
)

// memoryLimit is what the Go runtime may use of a container's memory: nine tenths, so
// that it collects earlier where the rest (stacks of the kernel's, what was freed and
// not yet given back) is short, instead of being killed. It is 0 where there is no
// limit, or none that can be read. sys is /sys as the process sees it: in a container,
// the group at the root is its own.
//
// https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files
func memoryLimit(sys fs.FS) int64 {
	for _, name := range []string{"fs/cgroup/memory.max", "fs/cgroup/memory/memory.limit_in_bytes"} { // version 2, and 1
		data, err := fs.ReadFile(sys, name)
		if err != nil {
			continue
		}
		limit, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
		if err != nil || limit <= 0 || limit >= unlimited { // "max", or what version 1 says for it
			return 0
		}
		return limit / 10 * 9
	}
	return 0
}

// unlimited is more memory than a machine has: version 1 tells no limit by the largest
// number of whole pages.
const unlimited = 1 << 60

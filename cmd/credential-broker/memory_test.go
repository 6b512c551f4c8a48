package main

import (
	"testing"
	"testing/fstest"
)

func TestTheContainersMemoryIsTheRuntimes(t *testing.T) {
	const v2, v1 = "fs/cgroup/memory.max", "fs/cgroup/memory/memory.limit_in_bytes"
	for name, tc := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"version 2":           {map[string]string{v2: "134217728\n"}, 134217728 / 10 * 9},
		"version 1":           {map[string]string{v1: "134217728\n"}, 134217728 / 10 * 9},
		"both":                {map[string]string{v2: "1000\n", v1: "2000\n"}, 900},
		"no limit":            {map[string]string{v2: "max\n"}, 0},
		"no limit, version 1": {map[string]string{v1: "9223372036854771712\n"}, 0},
		"none":                {nil, 0},
		"nonsense":            {map[string]string{v2: "-5\n"}, 0},
		"empty":               {map[string]string{v2: ""}, 0},
	} {
		sys := fstest.MapFS{}
		for path, text := range tc.files {
			sys[path] = &fstest.MapFile{Data: []byte(text)}
		}
		if got := memoryLimit(sys); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}

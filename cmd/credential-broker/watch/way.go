package watch

import (
	"os"
	"path/filepath"
	"strings"
)

// maxLinks is how many symlinks a way may have: what Linux follows
// (path_resolution(7)).
const maxLinks = 40

// way returns what stands on the way to a file: each symlink, and the file itself,
// by their real folders. If any of them becomes another, so may the file. Where
// the way ends before the file, the last is what is missing.
func way(file string) []string {
	file, err := filepath.Abs(file)
	if err != nil {
		return nil // there is no working directory: nothing can be read either
	}
	const root = string(filepath.Separator)
	var names []string
	at, ahead := root, strings.Split(file, root)
	for links := 0; len(ahead) > 0; {
		next := filepath.Join(at, ahead[0])
		ahead = ahead[1:]
		info, err := os.Lstat(next)
		if err != nil {
			return append(names, next)
		}
		if info.Mode()&os.ModeSymlink == 0 {
			at = next
			continue
		}
		names = append(names, next)
		target, err := os.Readlink(next)
		if links++; err != nil || links > maxLinks {
			return names
		}
		if filepath.IsAbs(target) {
			at = root
		}
		ahead = append(strings.Split(target, root), ahead...)
	}
	return append(names, at)
}

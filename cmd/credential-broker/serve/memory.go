package serve

import "math"

// tokenBytes is what a remembered token costs at most: 0.3 kB where others have its
// claims too, else 1.4 kB with five permissions and 4.6 kB with sixty.
const tokenBytes = 4600

// room shares out a limit of the process's memory: a third for cached credentials, a
// quarter for remembered tokens, as many as there are entries at most. What is left is
// for counters, requests and the collector of garbage. Without a limit there is no
// bound in bytes.
func room(limit int64, entries int) (cacheBytes int64, tokens int) {
	if limit == math.MaxInt64 {
		return 0, entries
	}
	return max(1, limit/3), int(min(int64(entries), max(1, limit/4/tokenBytes)))
}

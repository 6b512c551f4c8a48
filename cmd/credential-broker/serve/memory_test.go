package serve

import (
	"math"
	"testing"
)

func TestTheRoomFitsTheMemory(t *testing.T) {
	for _, tc := range []struct {
		limit   int64
		entries int
		bytes   int64
		tokens  int
	}{
		{math.MaxInt64, 100_000, 0, 100_000},
		{480 << 20, 100_000, 160 << 20, 27354},
		{8 << 30, 100_000, 8 << 30 / 3, 100_000},
		{480 << 20, 10, 160 << 20, 10},
		{1, 10, 1, 1},
	} {
		bytes, tokens := room(tc.limit, tc.entries)
		if bytes != tc.bytes || tokens != tc.tokens {
			t.Errorf("of %d: %d bytes and %d tokens, want %d and %d", tc.limit, bytes, tokens, tc.bytes, tc.tokens)
		}
		if tc.limit > 1 && tc.limit < math.MaxInt64 && bytes+int64(tokens)*tokenBytes > tc.limit*6/10 {
			t.Errorf("of %d more than six tenths are given away", tc.limit)
		}
	}
}

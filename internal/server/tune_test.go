package server

import "testing"

// A server that needs more memory than the limit is not made to collect garbage all the time, and one in a container stays in it.
func TestMemoryLimit(t *testing.T) {
	const mib = 1 << 20
	for _, tc := range []struct{ live, most, want int64 }{
		{0, 0, 128}, {64, 0, 128}, {100, 0, 150}, {1024, 0, 1536},
		{0, 4096, 128}, {1024, 4096, 1536},
		{0, 128, 64}, {40, 128, 64}, {60, 128, 90}, {100, 128, 115}, // half of a small container, or what is needed
	} {
		if got := limitFor(tc.live*mib, tc.most*mib); got/mib != tc.want {
			t.Errorf("%d MiB in use, of %d: a limit of %d MiB, want %d", tc.live, tc.most, got/mib, tc.want)
		}
	}
}

// Only a busy server lets garbage pile up.
func TestGarbagePercent(t *testing.T) {
	for allocated, want := range map[uint64]int{0: 150, 1 << 20: 150, 8<<20 - 1: 150, 8 << 20: 800, 1 << 40: 800} {
		if got := percentFor(allocated); got != want {
			t.Errorf("after %d bytes: %d, want %d", allocated, got, want)
		}
	}
}

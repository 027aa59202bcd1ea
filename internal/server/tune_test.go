package server

import "testing"

// A server that needs more memory than the limit is not made to collect garbage all the time.
func TestMemoryLimit(t *testing.T) {
	for live, want := range map[int64]int64{0: 192 << 20, 100 << 20: 192 << 20, 128 << 20: 192 << 20, 1 << 30: 3 << 29} {
		if got := limitFor(live); got != want {
			t.Errorf("%d MiB in use: a limit of %d MiB, want %d", live>>20, got>>20, want>>20)
		}
	}
}

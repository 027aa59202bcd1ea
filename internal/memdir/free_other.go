//go:build !linux

package memdir

// free says that there is no file system in memory at a known place.
func free(string) int64 { return 0 }

// Package memdir keeps the temporary files of tests in memory, so that their commits wait for no disk.
//
// It is for packages whose tests are not about the disk. A test binary that is killed leaves its files there.
package memdir

import "os"

// parent is a file system in memory. Linux distributions and containers have it.
const parent = "/dev/shm"

// minFree is how many bytes it must have free. Several packages are tested at once, and containers often get 64 MiB. All together need less than that,
// unless a test fails to stop.
const minFree = 2 << 30

// Use sets TMPDIR, and with it the place of [testing.T.TempDir], to a new directory in memory. TestMain calls it first, and remove at the end. Where TMPDIR
// is set already, or there is little memory, the files stay where they are: TMPDIR=/tmp tests on the disk.
func Use() (remove func()) {
	if os.Getenv("TMPDIR") != "" || free(parent) < minFree {
		return func() {}
	}
	dir, err := os.MkdirTemp(parent, "hookbolt-test-")
	if err != nil {
		return func() {}
	}
	if err := os.Chmod(dir, 0o711); err != nil { // a test's PostgreSQL may run as another user
		os.RemoveAll(dir)
		return func() {}
	}
	os.Setenv("TMPDIR", dir)
	return func() {
		os.Unsetenv("TMPDIR")
		os.RemoveAll(dir)
	}
}

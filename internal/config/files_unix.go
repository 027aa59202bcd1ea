//go:build unix

package config

import (
	"io/fs"
	"os"
	"syscall"
)

// ownedByThis reports whether a file belongs to the user of this process. known is false where files have no such owners.
func ownedByThis(info fs.FileInfo) (own, known bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int64(stat.Uid) == int64(os.Geteuid()), ok
}

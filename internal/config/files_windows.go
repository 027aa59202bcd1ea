package config

import "io/fs"

// ownedByThis knows nothing: the mode of a file says nothing about who may read it there.
func ownedByThis(fs.FileInfo) (own, known bool) { return false, false }

// Package buildinfo tells which build of hookbolt runs. It knows nothing of the rest.
package buildinfo

import "runtime/debug"

// Info is which build runs.
type Info struct {
	// Version is the module's: a tag, a pseudo-version, or "dev" if the build had none.
	Version string
	// Revision is the commit, with "+dirty" if files were changed since; "unknown" if it was built outside of a repository.
	Revision string
}

// Read returns the version and the revision that the go command has put into this program.
func Read() Info {
	v := Info{"dev", "unknown"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" && info.Main.Version != "(devel)" {
		v.Version = info.Main.Version
	}
	dirty := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			v.Revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+dirty"
		}
	}
	if v.Revision != "unknown" {
		v.Revision += dirty
	}
	return v
}

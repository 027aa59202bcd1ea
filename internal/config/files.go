package config

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
)

// openRegular opens a file for reading. Symbolic links are followed: the files of a Kubernetes secret are such. What is no regular file is
// refused: to open a FIFO waits for somebody who writes, for ever.
func openRegular(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file (%s)", path, info.Mode().Type())
	}
	return os.Open(path)
}

// readRegular reads a file that openRegular opens.
func readRegular(path string) ([]byte, error) {
	file, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(file)
}

// Exposure is a file with secrets that others than its owner may read or change.
type Exposure struct {
	Path string
	Mode fs.FileMode
	// Fix is a command that ends the exposure.
	Fix string
}

// String is a line for people.
func (e *Exposure) String() string {
	return fmt.Sprintf("others than its owner may read or change %s (mode %04o): run %s", e.Path, e.Mode.Perm(), e.Fix)
}

// Exposures returns those of the files with secrets that the settings come from or name, in the order of their paths: the file of settings
// if it holds a secret, files of tokens, the key of the certificate, and the database. A file that is not there is none.
func (c *Config) Exposures(from Origins) []Exposure {
	files := map[string]bool{c.HTTP.TLSKeyFile: true}
	if c.Storage.Driver == DriverBolt {
		files[c.Storage.Path] = true
	}
	values := maps.Collect(c.settings())
	for name := range secretSettings() {
		origin := from[name] // the file of settings, a variable, or the setting that names a file
		if file, ok := values[origin]; ok {
			origin = file.String()
		}
		value := values[name]
		isSet := !value.IsZero() && (value.Kind() != reflect.Slice || value.Len() > 0)
		if isSet && !strings.HasPrefix(origin, environmentPrefix) {
			files[origin] = true
		}
	}
	var list []Exposure
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if e := ExposureOf(path); e != nil {
			list = append(list, *e)
		}
	}
	return list
}

// ExposureOf returns the exposure of a file with secrets, nil if it has none or is not there. A group may read a file that belongs to
// somebody else: then that is how this process reads it, as a Kubernetes secret with fsGroup.
func ExposureOf(path string) *Exposure {
	info, err := os.Stat(path)
	if path == "" || err != nil || !info.Mode().IsRegular() {
		return nil
	}
	allowed, fix := fs.FileMode(0o640), "chmod g-w,o= "
	switch own, known := ownedByThis(info); {
	case !known:
		return nil
	case own:
		allowed, fix = 0o600, "chmod go= "
	}
	if info.Mode().Perm()&^(allowed|0o700) == 0 {
		return nil
	}
	return &Exposure{Path: path, Mode: info.Mode(), Fix: fix + path}
}

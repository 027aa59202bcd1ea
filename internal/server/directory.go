package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// lacksDirectory reports whether the directory of a database must be created. It returns an error if the parent directory does not exist
// either: a path with a typing error must not become a tree of directories.
func lacksDirectory(database string) (bool, error) {
	directory := filepath.Dir(database)
	info, err := os.Stat(directory)
	switch {
	case err == nil && info.IsDir():
		return false, nil
	case err == nil:
		return false, fmt.Errorf("storage.path: %s is not a directory", directory)
	case !errors.Is(err, fs.ErrNotExist):
		return false, fmt.Errorf("storage.path: %w", err)
	}
	above := filepath.Dir(directory)
	if info, err := os.Stat(above); err != nil || !info.IsDir() {
		return false, fmt.Errorf("storage.path: the directory %s does not exist, and cannot be created: %s is not a directory", directory, above)
	}
	return true, nil
}

// makeDirectory creates the directory of a database if it does not exist, for this user alone.
func makeDirectory(database string) error {
	lacks, err := lacksDirectory(database)
	if err != nil || !lacks {
		return err
	}
	directory := filepath.Dir(database)
	if err := os.Mkdir(directory, 0o700); err != nil {
		return fmt.Errorf("storage.path: create the directory: %w", err)
	}
	// Otherwise a power cut may remove the directory, with everything that was acknowledged.
	if err := syncDirectory(filepath.Dir(directory)); err != nil {
		return errors.Join(fmt.Errorf("storage.path: create the directory %s: %w", directory, err), os.Remove(directory))
	}
	return nil
}

// syncDirectory makes the entries of a directory durable.
func syncDirectory(path string) error {
	if runtime.GOOS == "windows" {
		return nil // directories cannot be synced there
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

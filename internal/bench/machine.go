package bench

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// Machine describes the machine of a run. What the system does not provide is "not known", or 0.
type Machine struct {
	CPU         string `json:"cpu"`
	Cores       int    `json:"cores"` // available to the run
	MemoryBytes int64  `json:"memory_bytes"`
	System      string `json:"system"`
	Kernel      string `json:"kernel"`
	Go          string `json:"go"`
	Hookbolt    string `json:"hookbolt"`
	// Database is where it is if not in a file: its server's CPU and disk are not in the figures.
	Database   string `json:"database,omitempty"`
	FileSystem string `json:"file_system"` // of the database's directory
	// Fsync is "on": events are synced to the disk before they are acknowledged.
	Fsync string `json:"fsync"`
}

const notKnown = "not known"

// thisMachine describes this machine. folder is the directory of the database; "" if a running server is measured, whose directory is not
// known.
func thisMachine(folder, version string) Machine {
	m := Machine{CPU: notKnown, Cores: runtime.GOMAXPROCS(0), System: runtime.GOOS + "/" + runtime.GOARCH, Kernel: notKnown, Go: runtime.Version(),
		Hookbolt: version, FileSystem: notKnown, Fsync: "on"}
	if model := procField("/proc/cpuinfo", "model name"); model != "" {
		m.CPU = model
	}
	if kib, err := strconv.ParseInt(strings.TrimSuffix(procField("/proc/meminfo", "MemTotal"), " kB"), 10, 64); err == nil {
		m.MemoryBytes = kib << 10
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(release))
	}
	if mounts, err := os.ReadFile("/proc/self/mounts"); err == nil && folder != "" {
		if kind := fileSystemOf(folder, string(mounts)); kind != "" {
			m.FileSystem = kind
		}
	}
	return m
}

// procField returns the first value of a name in a file of lines "name : value"; "" if there is none.
func procField(path, name string) string {
	text, _ := os.ReadFile(path)
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// fileSystemOf returns the type of the file system that contains a directory: that of its longest mount point, the last one of several.
func fileSystemOf(folder, mounts string) (kind string) {
	longest := 0
	for line := range strings.Lines(mounts) {
		fields := strings.Fields(line) // device, mount point, type, …
		if len(fields) < 3 {
			continue
		}
		point := fields[1]
		if rel, err := filepath.Rel(point, folder); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") && len(point) >= longest {
			longest, kind = len(point), fields[2]
		}
	}
	return kind
}

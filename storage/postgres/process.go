package postgres

import (
	"encoding/json"
	"os"
)

// about is what the row of a member tells of its process.
type about struct {
	// Host is the name of the machine or container.
	Host string `json:"host,omitempty"`
	// Release is the version of hookbolt.
	Release string `json:"release,omitempty"`
	// Process is how others on the same machine find it.
	Process process `json:"process,omitzero"`
}

// process names a process on a machine so that no later one has the same name. A part that is not known is empty.
type process struct {
	// System is the same for the processes that see one another's numbers: those of one boot of a machine, in one namespace of process numbers.
	System string `json:"system,omitempty"`
	// PID is the number, and Start when it was started, as the system tells that. Numbers are used again.
	PID   int    `json:"pid,omitempty"`
	Start string `json:"start,omitempty"`
}

// aboutThis describes the process that runs.
func aboutThis(release string) about {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	return about{Host: host, Release: release, Process: thisProcess()}
}

func (a about) encode() []byte {
	text, err := json.Marshal(a)
	if err != nil {
		panic(err) // it has strings and a number
	}
	return text
}

// decodeAbout reads what encode wrote. What cannot be read is unknown.
func decodeAbout(text []byte) (a about) {
	if json.Unmarshal(text, &a) != nil {
		return about{}
	}
	return a
}

// hasEnded reports whether a process has ended for certain: it ran on this machine, and is not there any more. False says nothing.
func (p process) hasEnded(this process) bool {
	return p.System != "" && p.System == this.System && p.PID > 0 && p != this && gone(p)
}

package postgres

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// thisProcess names the process that runs.
func thisProcess() process {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return process{}
	}
	numbers, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return process{}
	}
	times, err := os.Readlink("/proc/self/ns/time") // starts are told by its clock
	if err != nil {
		return process{}
	}
	stat, err := statOf(os.Getpid())
	if err != nil {
		return process{}
	}
	return process{System: strings.Join([]string{strings.TrimSpace(string(boot)), numbers, times}, " "), PID: os.Getpid(), Start: stat.start}
}

// gone reports whether there is no such process. A process that may not be looked at, as with hidepid, is there. One that has ended may still be listed, until
// its parent has asked how.
func gone(p process) bool {
	if errors.Is(unix.Kill(p.PID, 0), unix.ESRCH) {
		return true
	}
	stat, err := statOf(p.PID)
	return err == nil && (stat.start != p.Start || stat.ended)
}

// processStat is what the system tells of a process.
type processStat struct {
	start string // when it was started, in ticks since the boot
	ended bool   // all its threads have
}

// statOf reads what the system tells of a process.
func statOf(pid int) (processStat, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return processStat{}, err
	}
	// The second field is the name in parentheses, which may have spaces and parentheses itself.
	_, rest, _ := strings.Cut(string(stat[max(0, strings.LastIndexByte(string(stat), ')')):]), " ")
	fields := strings.Fields(rest)
	const state, threads, startTime = 0, 17, 19 // the third, the 20th and the 22nd of proc(5)
	if len(fields) <= startTime {
		return processStat{}, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	return processStat{start: fields[startTime], ended: fields[state] == "Z" && fields[threads] == "1"}, nil
}

// Package lossyfs is a file system that loses what was not synced. It is for tests: a power cut is a call, and so are a failing
// fsync, a slow one and a full disk.
//
// It promises as little as POSIX does. Data survive a cut once their file was synced, a name once its directory was. What was
// not synced survives not at all, wholly, or in part: single writes of many, and of a write single sectors of 512 bytes. A
// failed fsync loses what it should have written and takes it for clean, as Linux does: reads show it, the disk never gets it.
// Changes of a directory come to the disk in their order, as a journal brings them.
//
// [Disk] is the model, without any system call. An [FS] is a Disk that is mounted by FUSE, on Linux and for root. It is served by
// another process than the one that uses it: a process that waits in a page fault for a file system of its own may wait for
// ever. That process is the test binary once more: a package that uses [Start] calls [Main] before all else. There is one
// directory. All is in memory, twice: files should stay below 50 MB.
package lossyfs

// Package hookbolttest has what tests of several packages share: hookbolt run in the test's own process and in child processes, calls of its
// API, files of settings and certificates, a service manager, a shell for the commands of the documentation.
//
// It imports internal/cli, and so everything: tests of the packages below use it from their external test packages (package x_test).
package hookbolttest

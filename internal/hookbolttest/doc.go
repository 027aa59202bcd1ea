// Package hookbolttest has the helpers that tests of several packages share. They run hookbolt in the test's process or in a child process,
// call its API, write configuration files and certificates, act as a service manager, and run the shell commands of the documentation.
//
// It imports internal/cli, and with it all packages below: their tests can use it only from external test packages (package x_test).
package hookbolttest

// Package client calls the HTTP API of a running hookbolt, for commands and for tests. Errors are one line that steers no terminal.
//
// It knows the API by its paths and its JSON alone: nothing of the domain, of settings, or of the flags that a command has.
package client

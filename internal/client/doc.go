// Package client calls the HTTP API of a running hookbolt, for commands and for tests. Its errors are one line, without control
// characters.
//
// It knows only the API's paths and JSON: nothing of the domain, of settings, or of a command's flags.
package client

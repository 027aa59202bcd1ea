// Package server is the whole server: it introduces the parts to each other (the store keeps what the engine decides, the API lets callers
// in), runs them, stops them, reads settings and certificates again, and serves Go's profiles.
//
// It knows the settings and the parts by their constructors, and nothing of the rules, of routes, or of commands and their flags.
package server

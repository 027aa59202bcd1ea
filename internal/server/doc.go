// Package server builds the server from its parts (store, engine, HTTP API), runs and stops them, reloads settings and certificates, and
// serves the profiles of net/http/pprof.
//
// It knows the settings and the constructors of the parts. It does not know the rules of delivery, routes, commands or flags.
package server

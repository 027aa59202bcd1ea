// Package text writes words and numbers for people: counts, sizes, text of strangers that must not steer a terminal, and errors of TOML in
// one line. It knows nothing of hookbolt.
package text

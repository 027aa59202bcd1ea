// Package cli is the commands of hookbolt: the table of them, a file for each, their flags, their usage and their exit codes.
//
// A command reads its flags and hands over to the package that does the work. Nothing imports this package but main and tests: what the
// others return are errors of their own, which become exit codes, and advice on flags, here.
package cli

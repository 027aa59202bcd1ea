// Package config is the settings of hookbolt's server: their defaults, the file, the environment and the secrets from files that they are
// read from, and their validation. Errors are one line that names the setting and where it comes from, and shows no secret.
//
// It knows what values the domain allows, and nothing of what the server does with them: no HTTP, no database, no flags.
package config

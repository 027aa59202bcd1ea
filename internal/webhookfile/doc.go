// Package webhookfile keeps the webhooks of a running server in a file: it reads the file, compares it with the server, applies the
// difference, and writes such a file of a server.
//
// It knows the settings of a webhook by the domain, the server by its API, and nothing of the server's own settings or of commands.
package webhookfile

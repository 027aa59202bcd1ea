package config

import (
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"strings"

	"hookbolt/engine"
)

// readSecrets reads the settings whose value is in a file of its own: "x_file" names the file with the value of x.
func (c *Config) readSecrets(from Origins) error {
	fields := maps.Collect(c.settings())
	for name, field := range c.settings() {
		of, isFile := strings.CutSuffix(name, "_file")
		secret, ok := fields[of]
		if !isFile || !ok || field.String() == "" {
			continue
		}
		// An empty list, as config.example.toml has it, sets nothing.
		if !secret.IsZero() && (secret.Kind() != reflect.Slice || secret.Len() > 0) {
			return fmt.Errorf("%s: %s is set, too: set one of them", name, of)
		}
		text, err := ReadSecret(field.String())
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		lines := secretLines(text)
		switch secret.Kind() {
		case reflect.Slice: // a line for each
			secret.Set(reflect.ValueOf(lines))
		default:
			if len(lines) > 1 {
				return fmt.Errorf("%s: %s must have one line (got %d)", name, field.String(), len(lines))
			}
			secret.SetString(lines[0])
		}
		from[of] = name
	}
	return nil
}

// secretLines are the lines of a file of secrets, in any form of line ends. Empty ones do not count.
func secretLines(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' })
}

// ReadToken reads the first token of a file that has a line for each, as http.admin_tokens_file has, without its name. The file may be a pipe,
// as a shell makes for the output of another program.
func ReadToken(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := readSecret(file, path)
	if err != nil {
		return "", err
	}
	_, token := SplitToken(secretLines(text)[0])
	return token, nil
}

// Variable returns the value of an environment variable, "" if it is not set. Every variable that is read is read as LookupVariable does.
func Variable(name string) string {
	value, _ := LookupVariable(name)
	return value
}

// LookupVariable returns the value of an environment variable, and whether it is set. It removes line ends at its end, as ReadSecret does:
// the manifests and scripts that set variables get them from files.
func LookupVariable(name string) (string, bool) {
	value, ok := os.LookupEnv(name)
	return trimLineEnds(value), ok
}

// trimLineEnds removes the line ends at the end of a value.
func trimLineEnds(value string) string { return strings.TrimRight(value, "\r\n") }

// maxSecretFile is the largest file that is read as a secret, in bytes. What a webhook accepts is smaller.
const maxSecretFile = 64 << 10

// ReadSecret reads a secret from a file of its own. It removes line ends at the end of the file, which editors and echo write.
func ReadSecret(path string) (string, error) {
	file, err := openRegular(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	return readSecret(file, path)
}

// ReadProgram reads a file with a program in jq.
func ReadProgram(path string) (string, error) {
	file, err := openRegular(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	longest := engine.SettingNamed("transform").Limits.MaxLength
	text, err := io.ReadAll(io.LimitReader(file, int64(longest)+1))
	if err == nil && len(text) > longest {
		err = fmt.Errorf("%s has more than %d bytes, the most that a program may have", path, longest)
	}
	return string(text), err
}

func readSecret(file io.Reader, path string) (string, error) {
	text, err := io.ReadAll(io.LimitReader(file, maxSecretFile+1))
	secret := trimLineEnds(string(text))
	switch {
	case err != nil:
		return "", err
	case len(text) > maxSecretFile:
		return "", fmt.Errorf("%s has more than %d bytes: that is no secret", path, maxSecretFile)
	case secret == "":
		return "", fmt.Errorf("%s is empty", path)
	}
	return secret, nil
}

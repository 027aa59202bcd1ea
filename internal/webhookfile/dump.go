package webhookfile

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"hookbolt/engine"
	"hookbolt/internal/client"
	"hookbolt/internal/text"
)

// DumpOptions are how a file is made of a server's webhooks.
type DumpOptions struct {
	// Secrets includes the signing secrets.
	Secrets bool
}

// Dump returns a file of a server's webhooks, in the order of their ids, and the labels of those without a unique name, which apply
// requires.
func Dump(ctx context.Context, c *client.Client, o DumpOptions) (file string, nameless []string, err error) {
	all, err := servedWebhooks(ctx, c)
	if err != nil {
		return "", nil, err
	}
	of := make(map[string]int)
	for _, s := range all {
		of[s.Name]++
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# The webhooks of %s. \"hookbolt apply -f FILE\" makes a server's webhooks those of the file.\n", text.OneLine(c.Base()))
	for _, s := range all {
		b.WriteString("\n[[webhook]]\n")
		if s.Name == "" || of[s.Name] > 1 {
			nameless = append(nameless, s.label())
			b.WriteString("# apply wants a name that no other webhook has.\n")
		}
		s.dump(&b)
		var now currentSecrets
		if o.Secrets {
			if now, err = secretsOf(ctx, c, s.ID); err != nil {
				return "", nil, err
			}
		}
		if err := s.dumpSignature(&b, now.SignatureSecret); err != nil {
			return "", nil, err
		}
		if o.Secrets {
			fmt.Fprintf(&b, "secret = %s\n", quoteTOML(string(now.Secret)))
		}
	}
	return b.String(), nameless, nil
}

// dump writes a webhook's settings, except for its secret and its signature.
func (s *servedWebhook) dump(b *strings.Builder) {
	fmt.Fprintf(b, "name = %s\n", quoteTOML(s.Name))
	byDefault := engine.DefaultWebhook()
	for _, setting := range plainSettings {
		v := setting.JSON(&s.Webhook)
		switch {
		case setting.Name == "paused":
			if s.Paused {
				fmt.Fprintf(b, "# It is paused: %s.\n", text.OneLine(s.PauseReason))
			}
		case string(v) == string(setting.JSON(&byDefault)):
		case setting.Program:
			fmt.Fprintf(b, "%s = %s\n", setting.Name, programTOML(programOf(setting.Name, &s.Webhook)))
		default:
			fmt.Fprintf(b, "%s = %s\n", setting.Name, valueTOML(v))
		}
	}
	for _, setting := range credentialSettings {
		switch members, all := shownMembers(setting, s.credentials[setting.Name]); {
		case !s.has(setting.Name):
		case all:
			fmt.Fprintf(b, "%s = %s\n", setting.Name, valueTOML(members))
		default:
			fmt.Fprintf(b, "%s = {keep = true} # the server does not show it; elsewhere, such as {%s}\n", setting.Name, s.credentialsElsewhere(setting))
		}
	}
}

// dumpSignature writes the setting signature. secret is that of its header; "" if it is not to be written.
func (s *servedWebhook) dumpSignature(b *strings.Builder, secret string) error {
	const name = "signature"
	if !s.has(name) {
		return nil
	}
	var shown struct {
		Header, Prefix, Encoding *string
		Secret                   *bool
		V1a                      bool
	}
	if err := json.Unmarshal(s.credentials[name], &shown); err != nil {
		return err
	}
	var parts []string
	if shown.Header != nil {
		parts = append(parts, "header = "+quoteTOML(*shown.Header), "prefix = "+quoteTOML(*shown.Prefix), "encoding = "+quoteTOML(*shown.Encoding))
	}
	if shown.V1a {
		parts = append(parts, "v1a = true")
	}
	switch {
	case shown.Secret != nil && secret == "":
		parts = append(parts, fmt.Sprintf("secret = {env = %q}", variablePrefix(s)+"SIGNATURE_SECRET"))
		fmt.Fprintf(b, "signature = {keep = true} # its secret is not shown; elsewhere, such as {%s}\n", strings.Join(parts, ", "))
		return nil
	case shown.Secret != nil:
		parts = append(parts, "secret = "+quoteTOML(secret))
	}
	comment := ""
	if shown.V1a {
		comment = " # the key pair stays on the server: another one makes its own"
	}
	fmt.Fprintf(b, "signature = {%s}%s\n", strings.Join(parts, ", "), comment)
	return nil
}

// valueTOML converts a value of JSON, without any null, to TOML.
func valueTOML(v json.RawMessage) string {
	var unquoted string
	if json.Unmarshal(v, &unquoted) == nil {
		return quoteTOML(unquoted)
	}
	var parts []string
	var list []json.RawMessage
	if json.Unmarshal(v, &list) == nil {
		for _, element := range list {
			parts = append(parts, valueTOML(element))
		}
		return "[" + strings.Join(parts, ",") + "]"
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(v, &object) == nil {
		for _, key := range slices.Sorted(maps.Keys(object)) {
			parts = append(parts, keyTOML(key)+" = "+valueTOML(object[key]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return string(v) // numbers, true and false are the same in JSON and TOML
}

// credentialsElsewhere proposes references for credentials whose values are not known.
func (s *servedWebhook) credentialsElsewhere(setting *engine.Setting) string {
	prefix := variablePrefix(s)
	var parts []string
	var object map[string]json.RawMessage
	if members, _ := shownMembers(setting, s.credentials[setting.Name]); members != nil && json.Unmarshal(members, &object) == nil {
		for _, name := range slices.Sorted(maps.Keys(object)) {
			value := valueTOML(object[name])
			if slices.Contains(setting.Parts, name) {
				value = fmt.Sprintf("{env = %q}", prefix+upperName(name))
			}
			parts = append(parts, keyTOML(name)+" = "+value)
		}
		return strings.Join(parts, ", ")
	}
	for _, name := range slices.Concat(setting.Parts, s.names(setting.Name)) {
		parts = append(parts, fmt.Sprintf("%s = {env = %q}", keyTOML(name), prefix+upperName(name)))
	}
	return strings.Join(parts, ", ")
}

// variablePrefix begins the names of variables that are proposed for a webhook's credentials.
func variablePrefix(s *servedWebhook) string {
	if name := strings.Trim(upperName(s.Name), "_"); name != "" && name[0] > '9' {
		return name + "_"
	}
	return fmt.Sprintf("WEBHOOK_%d_", s.ID)
}

// upperName turns a name into the name of a variable: letters and digits of ASCII, and _ for all else.
func upperName(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, name)
}

// keyTOML writes a key: bare where TOML allows it.
func keyTOML(key string) string {
	if key != "" && !strings.ContainsFunc(key, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r != '-' && r != '_'
	}) {
		return key
	}
	return quoteTOML(key)
}

// quoteTOML quotes a string. Characters that are invisible or could steer a terminal are escaped.
func quoteTOML(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteString(escapeTOML(r))
		}
	}
	b.WriteByte('"')
	return b.String()
}

// escapeTOML writes a character by its number.
func escapeTOML(r rune) string {
	if r > 0xffff {
		return fmt.Sprintf(`\U%08X`, r)
	}
	return fmt.Sprintf(`\u%04X`, r)
}

// programTOML writes a program as people would: on lines of its own if it has several, and without escapes where TOML allows it. hookbolt drops
// white space at the end of a program, so the closing quotes can stand on a line of their own.
func programTOML(program string) string {
	plain := !strings.ContainsFunc(program, func(r rune) bool { return !unicode.IsPrint(r) && r != '\t' && r != '\n' })
	switch {
	case !strings.Contains(program, "\n"):
		if plain && strings.ContainsAny(program, "\"\\") && !strings.Contains(program, "'") {
			return "'" + program + "'"
		}
		return quoteTOML(program)
	case plain && !strings.Contains(program, "'''"):
		return "'''\n" + program + "\n'''"
	}
	var b strings.Builder
	for _, r := range program {
		switch {
		case r == '\\':
			b.WriteString(`\\`)
		case r == '\n' || r == '\t' || unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteString(escapeTOML(r))
		}
	}
	return `"""` + "\n" + strings.ReplaceAll(b.String(), `"""`, `""\"`) + "\n" + `"""`
}

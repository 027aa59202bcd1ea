package webhookfile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"hookbolt/engine"
	"hookbolt/internal/client"
	"hookbolt/internal/text"
)

// program reads a setting that is a program in a file of its own. Other than a secret in a file it is shown.
func (r *webhookReader) program(setting string, table map[string]any) (program string, ok bool) {
	name, isFile := table["file"].(string)
	if s := engine.SettingNamed(setting); s == nil || !s.Program || len(table) != 1 || !isFile {
		return "", false
	}
	r.want.ProgramFiles[setting] = name
	shown := text.OneLine(name)
	program, err := r.from.Program(name)
	program = strings.TrimPrefix(program, "\ufeff") // some editors begin a file with a byte order mark
	switch {
	case err != nil:
		r.fail(setting, "%s", text.OneLine(err.Error()))
	case !utf8.ValidString(program):
		r.fail(setting, "%s is not valid UTF-8 in line %d", shown, invalidLine(program))
	case strings.TrimSpace(program) == "":
		r.fail(setting, "%s is empty: it must hold a program in jq", shown)
	}
	return program, true
}

// invalidLine returns the line of the first invalid UTF-8 in a text.
func invalidLine(s string) int {
	line := 1
	for s != "" {
		r, size := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && size == 1 {
			break
		}
		if r == '\n' {
			line++
		}
		s = s[size:]
	}
	return line
}

// programOf returns the program of a setting, "" for none and for what is no program.
func programOf(setting string, w *engine.Webhook) string {
	s := engine.SettingNamed(setting)
	if s == nil || !s.Program {
		return ""
	}
	var program *string
	if json.Unmarshal(s.JSON(w), &program) != nil || program == nil {
		return ""
	}
	return *program
}

// calledProgram names a program for people: the setting, and its file if it has one.
func (w *Webhook) calledProgram(setting string) string {
	if file := w.ProgramFiles[setting]; file != "" {
		return setting + " (" + text.OneLine(file) + ")"
	}
	return setting
}

// changedProgram says what changes in a program: on one line if both fit there, otherwise as a unified diff, a line each.
func (w *Webhook) changedProgram(setting *engine.Setting, before, after *engine.Webhook) []string {
	old, now, called := programOf(setting.Name, before), programOf(setting.Name, after), w.calledProgram(setting.Name)
	if fitsLine(old) && fitsLine(now) {
		if old == "" {
			return []string{called + ": " + inQuotes(now)}
		}
		return []string{called + ": " + inQuotes(old) + " -> " + inQuotes(now)}
	}
	lines := []string{called + ":"}
	for _, line := range unifiedDiff(old, now) {
		lines = append(lines, "  "+line)
	}
	return lines
}

// fitsLine tells whether a program is short enough to be shown on one line, beside another one.
func fitsLine(program string) bool {
	return len(program) <= maxDiffColumns && !strings.Contains(program, "\n")
}

// inQuotes writes a short program as one line; "" is none.
func inQuotes(program string) string {
	if program == "" {
		return "not set"
	}
	return visible(strings.TrimSuffix(string(client.EncodeJSON(program)), "\n"))
}

// placeOf shows the line of a program in which an error is, with a mark below the column; "" where no place is known.
func (w *Webhook) placeOf(e client.FieldError) string {
	const width = 60 // characters before and after the mark
	lines := strings.Split(programOf(e.Field, &w.Settings), "\n")
	if e.Line < 1 || e.Line > len(lines) {
		return ""
	}
	line := []rune(strings.TrimSuffix(lines[e.Line-1], "\r"))
	at := max(0, min(e.Column-1, len(line)))
	before, after := line[max(0, at-width):at], line[at:min(len(line), at+width)]
	mark := strings.Map(func(r rune) rune { // below tabs of the same width
		if r == '\t' {
			return r
		}
		return ' '
	}, visible(string(before)))
	return "\n    " + visible(string(before)+string(after)) + "\n    " + mark + "^"
}

// explained returns an error of a program for people, without its field: its file and place, what is wrong, and the line.
func (w *Webhook) explained(e client.FieldError) string {
	where := ""
	switch file := w.ProgramFiles[e.Field]; {
	case file != "" && e.Line > 0:
		where = fmt.Sprintf("%s, line %d, column %d: ", text.OneLine(file), e.Line, e.Column)
	case file != "":
		where = text.OneLine(file) + ": "
	case e.Line > 0:
		where = fmt.Sprintf("line %d, column %d: ", e.Line, e.Column)
	}
	return where + text.OneLine(e.Detail) + w.placeOf(e)
}

// shapes are the settings that decide, with the programs, what is sent.
var shapes = []string{"url", "filter", "transform", "url_values", "content_type", "method", "send_answers", "send_leads", "send_incomplete"}

// tryPrograms has the server run the programs of a webhook on its samples, so that a wrong one is found before anything is changed. A server that
// does not do that, or not for this token, finds it later. The error is Problems.
func (s *step) tryPrograms(ctx context.Context, c *client.Client) error {
	changed := false
	settings := make(map[string]json.RawMessage)
	for _, name := range shapes {
		if s.want.given(name) {
			settings[name] = s.want.JSON[name]
		}
		changed = changed || s.settings[name] != nil
	}
	if !changed || !s.hasProgram() {
		return nil
	}
	samples := []string{"complete"}
	if s.want.Settings.SendIncomplete {
		samples = append(samples, "incomplete")
	}
	for _, sample := range samples {
		bad, err := preview(ctx, c, map[string]any{"settings": settings, "sample": sample})
		if err != nil {
			return err
		}
		var problems Problems
		for _, e := range bad {
			e.Field = strings.TrimPrefix(e.Field, "settings.")
			if s.want.hides(e.Field) {
				continue // the server refuses it, without showing why
			}
			problems = append(problems, fmt.Sprintf("webhook %q: %s: %s", s.want.Settings.Name, e.Field, s.want.explained(e)))
		}
		if len(problems) > 0 {
			return problems
		}
	}
	return nil
}

// hasProgram tells whether the step is for a webhook with programs.
func (s *step) hasProgram() bool {
	for i := range engine.Settings {
		if setting := &engine.Settings[i]; setting.Program && s.want.given(setting.Name) {
			return true
		}
	}
	return false
}

// preview returns what is wrong with settings by a preview of them; nothing if the server tells nothing.
func preview(ctx context.Context, c *client.Client, ask map[string]any) ([]client.FieldError, error) {
	var answer struct {
		Error *client.FieldError `json:"error"`
	}
	err := c.Call(ctx, http.MethodPost, "/v1/preview", ask, &answer)
	if refused, ok := errors.AsType[*client.StatusError](err); ok {
		if refused.Status == http.StatusBadRequest {
			return refused.Errors, nil
		}
		return nil, nil
	}
	if err != nil || answer.Error == nil {
		return nil, err
	}
	return []client.FieldError{*answer.Error}, nil
}

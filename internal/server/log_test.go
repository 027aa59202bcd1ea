package server

import (
	"bytes"
	"strings"
	"testing"

	"hookbolt/internal/config"
)

// Each line names the process that has written it, by its number at that time. With a file there is none.
func TestMemberLog(t *testing.T) {
	for format, want := range map[string][]string{
		"text": {"msg=one of=x\n", "msg=two of=x member=17\n", "msg=three member=18\n"},
		"json": {`"msg":"one","of":"x"}` + "\n", `"msg":"two","of":"x","member":17}` + "\n", `"msg":"three","member":18}` + "\n"},
	} {
		var out bytes.Buffer
		c := config.Default().Log
		c.Format = format
		written, _ := NewLog(c, &out)
		log, nameMember := newMemberLog(written)
		part, id := log.With("of", "x"), int64(17)
		part.Info("one")
		nameMember(func() int64 { return id })
		part.Info("two")
		id = 18
		log.Info("three")
		log.Debug("hidden")
		lines := strings.SplitAfter(out.String(), "\n")
		for i, line := range want {
			if !strings.HasSuffix(lines[i], line) || strings.Count(lines[i], "member") != strings.Count(line, "member") {
				t.Errorf("%s: got %q, want %q", format, lines[i], line)
			}
		}
		if len(lines) != 4 {
			t.Errorf("%s: %d lines", format, len(lines))
		}
	}
}

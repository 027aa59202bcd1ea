package hookbolttest

import (
	"strings"
	"testing"
)

// CodeBlock is a fenced block of a page.
type CodeBlock struct {
	Line           int // of its fence
	Language, Word string
	Text           string
}

// CodeBlocks returns the code blocks of a page. A fence that is not closed ends the test.
func CodeBlocks(t *testing.T, page, markdown string) []CodeBlock {
	t.Helper()
	var blocks []CodeBlock
	open := false
	for i, line := range strings.SplitAfter(markdown, "\n") {
		info, fence := strings.CutPrefix(strings.TrimRight(line, "\n"), "```")
		switch {
		case fence && !open:
			language, word, _ := strings.Cut(info, " ")
			blocks = append(blocks, CodeBlock{Line: i + 1, Language: language, Word: word})
			open = true
		case fence:
			open = false
		case open:
			blocks[len(blocks)-1].Text += line
		}
	}
	if open {
		t.Fatalf("%s: the last code block is not closed", page)
	}
	return blocks
}

package webhookfile

import (
	"fmt"
	"strings"
	"unicode"
)

const (
	// diffContext is how many lines are shown around a change.
	diffContext = 3
	// maxDiffLines bounds the lines of a diff that are shown, maxDiffColumns the characters of each.
	maxDiffLines   = 80
	maxDiffColumns = 160
	// maxDiffCells bounds the work of a comparison. Beyond it, all lines between the first change and the last count as changed.
	maxDiffCells = 1 << 20
)

// edit is a line of a comparison: '-' was there, '+' is there now, ' ' stays.
type edit struct {
	sign byte
	line string
}

// unifiedDiff compares two texts. It returns lines as diff -u has them, for people: what is invisible is escaped, and what is long is cut.
func unifiedDiff(before, after string) (lines []string) {
	edits := compare(linesOf(before), linesOf(after))
	for from := 0; from < len(edits); {
		start, end := nextHunk(edits, from)
		if start == len(edits) {
			break
		}
		lines = append(lines, hunkHeader(edits, start, end))
		for _, e := range edits[start:end] {
			lines = append(lines, string(e.sign)+cut(visible(e.line)))
		}
		from = end
	}
	if more := len(lines) - maxDiffLines; more > 1 {
		lines = append(lines[:maxDiffLines], fmt.Sprintf("… %d more lines", more))
	}
	return lines
}

// linesOf splits a text into lines; "" has none.
func linesOf(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

// nextHunk returns the first changes at or after an index, with their context, and with all further changes whose context would touch.
func nextHunk(edits []edit, from int) (start, end int) {
	first, last := len(edits), -1
	for i := from; i < len(edits); i++ {
		if edits[i].sign == ' ' {
			continue
		}
		if last >= 0 && i-last > 2*diffContext+1 {
			break
		}
		first, last = min(first, i), i
	}
	if last < 0 {
		return len(edits), len(edits)
	}
	return max(from, first-diffContext), min(len(edits), last+1+diffContext)
}

// hunkHeader says where a hunk is in both texts. A text without lines there is given by the line before, as diff does.
func hunkHeader(edits []edit, start, end int) string {
	var at, n [2]int
	for i, e := range edits[:end] {
		for side, other := range []byte{'+', '-'} {
			switch {
			case e.sign == other:
			case i < start:
				at[side]++
			default:
				n[side]++
			}
		}
	}
	for side := range at {
		if n[side] > 0 {
			at[side]++
		}
	}
	return fmt.Sprintf("@@ -%d,%d +%d,%d @@", at[0], n[0], at[1], n[1])
}

// compare returns the lines of both texts, with as many as possible that stay.
func compare(a, b []string) (edits []edit) {
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		edits = append(edits, edit{' ', a[head]})
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	edits = append(edits, compareMiddle(a[head:len(a)-tail], b[head:len(b)-tail])...)
	for _, line := range a[len(a)-tail:] {
		edits = append(edits, edit{' ', line})
	}
	return edits
}

// compareMiddle is compare by the longest common subsequence.
func compareMiddle(a, b []string) (edits []edit) {
	common := make([][]uint16, len(a)+1) // by where the rest of each begins; a program has fewer than 2^16 lines
	if len(a)*len(b) <= maxDiffCells {
		for i := range common {
			common[i] = make([]uint16, len(b)+1)
		}
		for i := len(a) - 1; i >= 0; i-- {
			for j := len(b) - 1; j >= 0; j-- {
				common[i][j] = max(common[i+1][j], common[i][j+1])
				if a[i] == b[j] {
					common[i][j] = common[i+1][j+1] + 1
				}
			}
		}
	}
	compared := common[0] != nil
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case compared && i < len(a) && j < len(b) && a[i] == b[j]:
			edits = append(edits, edit{' ', a[i]})
			i, j = i+1, j+1
		case i < len(a) && (!compared || j == len(b) || common[i+1][j] >= common[i][j+1]):
			edits = append(edits, edit{'-', a[i]})
			i++
		default:
			edits = append(edits, edit{'+', b[j]})
			j++
		}
	}
	return edits
}

// visible escapes what a terminal would not show, or would obey. Tabs stay.
func visible(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\t' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r == '\r':
			b.WriteString(`\r`)
		default:
			b.WriteString(escapeTOML(r))
		}
	}
	return b.String()
}

// cut shortens a line that is too long.
func cut(line string) string {
	if text := []rune(line); len(text) > maxDiffColumns {
		return string(text[:maxDiffColumns]) + "…"
	}
	return line
}

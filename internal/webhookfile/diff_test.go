package webhookfile

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestUnifiedDiff: hunks have three lines of context and the numbers that diff -u gives them.
func TestUnifiedDiff(t *testing.T) {
	numbered := func(from, to int) string {
		var lines []string
		for i := from; i <= to; i++ {
			lines = append(lines, fmt.Sprint(i))
		}
		return strings.Join(lines, "\n")
	}
	for _, tt := range []struct{ name, before, after, want string }{
		{"same", "a\nb", "a\nb", ""},
		{"from nothing", "", "a\nb", "@@ -0,0 +1,2 @@\n+a\n+b"},
		{"to nothing", "a\nb", "", "@@ -1,2 +0,0 @@\n-a\n-b"},
		{"one line of some", numbered(1, 9), strings.Replace(numbered(1, 9), "5", "five", 1), "@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8"},
		{"the first and the last", numbered(1, 9), "0\n" + numbered(2, 8), "@@ -1,4 +1,4 @@\n-1\n+0\n 2\n 3\n 4\n@@ -6,4 +6,3 @@\n 6\n 7\n 8\n-9"},
		{"context that touches", numbered(1, 9), numbered(1, 1) + "\n" + numbered(3, 8), "@@ -1,9 +1,7 @@\n 1\n-2\n 3\n 4\n 5\n 6\n 7\n 8\n-9"},
		{"insertion", numbered(1, 2), "1\nx\n2", "@@ -1,2 +1,3 @@\n 1\n+x\n 2"},
		{"what is invisible", "a\t\x1b[31m", "a\t\r\u202e\U000e0001", "@@ -1,1 +1,1 @@\n-a\t\\u001B[31m\n+a\t\\r\\u202E\\U000E0001"},
		{"a long line", "a", strings.Repeat("ü", 200), "@@ -1,1 +1,1 @@\n-a\n+" + strings.Repeat("ü", 160) + "…"},
	} {
		if got := strings.Join(unifiedDiff(tt.before, tt.after), "\n"); got != tt.want {
			t.Errorf("%s:\n%s\nwant\n%s", tt.name, got, tt.want)
		}
	}
	long := unifiedDiff(numbered(1, 2000), numbered(2001, 6000)) // more than can be compared
	if len(long) != maxDiffLines+1 || long[0] != "@@ -1,2000 +1,4000 @@" || long[maxDiffLines] != fmt.Sprintf("… %d more lines", 6001-maxDiffLines) {
		t.Errorf("a long program has %d lines, which end in %q", len(long), long[len(long)-1])
	}
}

// A comparison has all lines of both texts in order, and no line that stays is told as changed where only lines were added.
func TestCompare(t *testing.T) {
	rng := rand.New(rand.NewPCG(rand.Uint64(), 1))
	side := func(edits []edit, other byte) (lines []string) {
		for _, e := range edits {
			if e.sign != other {
				lines = append(lines, e.line)
			}
		}
		return lines
	}
	for range 2000 {
		var a, b []string
		for range rng.IntN(12) {
			a = append(a, string('a'+rune(rng.IntN(4))))
		}
		for range rng.IntN(12) {
			b = append(b, string('a'+rune(rng.IntN(4))))
		}
		edits := compare(a, b)
		if !slices.Equal(side(edits, '+'), a) || !slices.Equal(side(edits, '-'), b) {
			t.Fatalf("%q and %q give %v", a, b, edits)
		}
		var more []string
		for _, line := range a {
			more = append(more, line, "new")
		}
		if edits := compare(a, more); len(edits) != len(more) {
			t.Fatalf("%q with new lines gives %v", a, edits)
		}
	}
}

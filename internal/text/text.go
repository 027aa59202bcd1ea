package text

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
)

// Printable removes what could steer a terminal: control characters other than line feeds and tabs, and invalid UTF-8, in which some
// terminals see control characters as well.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// OneLine is Printable for text that must stay on one line: each run of white space becomes one space.
func OneLine(s string) string { return strings.Join(strings.Fields(Printable(s)), " ") }

// Number writes a number, rounded to an integer, with a comma between each three digits: 1,234,567.
func Number(v float64) string {
	digits := strconv.FormatInt(int64(math.Round(v)), 10)
	for at := len(digits) - 3; at > 0 && digits[at-1] != '-'; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

// Bytes writes a size, given in bytes, in KiB, MiB or GiB.
func Bytes(v float64) string {
	switch {
	case v >= 10<<30:
		return fmt.Sprintf("%.1f GiB", v/(1<<30))
	case v >= 10<<20:
		return fmt.Sprintf("%.0f MiB", v/(1<<20))
	case v >= 1<<20:
		return fmt.Sprintf("%.1f MiB", v/(1<<20))
	}
	return fmt.Sprintf("%.1f KiB", v/(1<<10))
}

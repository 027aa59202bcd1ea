package ui

import (
	"fmt"
	"html/template"
	"strconv"
	"strings"
	"time"

	"hookbolt/engine"
)

// helpers are the functions that templates call.
var helpers = template.FuncMap{
	"ago":      func(t time.Time) template.HTML { return ago(t, time.Now()) },
	"at":       at,
	"bytes":    byteSize,
	"count":    thousands,
	"counted":  counted,
	"duration": roughly,
	"instant":  formTime,
	"lead":     func(l engine.Lead) string { return sayLead(&l) },
	"link":     func(d document, path, text string) navLink { return navLink{path, text, d.Nav == path} },
	"once":     newOnce,
	"sentence": sentence,
}

// navLink is a link of the header.
type navLink struct {
	Path, Text string
	Current    bool
}

// at shows an instant in UTC, to the second; nothing for the zero time.
func at(t time.Time) template.HTML {
	if t.IsZero() {
		return ""
	}
	t = t.UTC()
	return template.HTML(`<time datetime="` + t.Format(time.RFC3339Nano) + `">` + t.Format("2006-01-02 15:04:05") + `</time>`)
}

// ago shows an instant by its distance from now, "3 s ago" or "in 5 min"; nothing for the zero time.
func ago(t, now time.Time) template.HTML {
	if t.IsZero() {
		return ""
	}
	words := roughly(now.Sub(t)) + " ago"
	switch d := t.Sub(now); {
	case d > 0:
		words = "in " + roughly(d)
	case d > -time.Second:
		words = "just now"
	}
	t = t.UTC()
	return template.HTML(`<time datetime="` + t.Format(time.RFC3339Nano) + `" title="` + t.Format("2006-01-02 15:04:05") + ` UTC">` + words + `</time>`)
}

// roughly writes a duration with one or two units: "12 ms", "3.4 s", "5 min", "2 h 10 min", "3 d 4 h".
func roughly(d time.Duration) string {
	two := func(large int64, largeUnit string, small int64, smallUnit string) string {
		if small == 0 {
			return fmt.Sprintf("%d %s", large, largeUnit)
		}
		return fmt.Sprintf("%d %s %d %s", large, largeUnit, small, smallUnit)
	}
	switch {
	case d < time.Microsecond:
		return "0 s"
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return strings.TrimSuffix(strconv.FormatFloat(d.Truncate(100*time.Millisecond).Seconds(), 'f', 1, 64), ".0") + " s"
	case d < time.Minute:
		return fmt.Sprintf("%d s", int64(d/time.Second))
	case d < 10*time.Minute:
		return two(int64(d/time.Minute), "min", int64(d%time.Minute/time.Second), "s")
	case d < time.Hour:
		return fmt.Sprintf("%d min", int64(d/time.Minute))
	case d < 24*time.Hour:
		return two(int64(d/time.Hour), "h", int64(d%time.Hour/time.Minute), "min")
	}
	return two(int64(d/(24*time.Hour)), "d", int64(d%(24*time.Hour)/time.Hour), "h")
}

// byteSize writes a number of bytes: "512 B", "1.5 GiB".
func byteSize(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	size, unit := float64(n), ""
	for _, unit = range []string{"KiB", "MiB", "GiB", "TiB"} {
		if size /= 1024; size < 1024 {
			break
		}
	}
	if size < 10 {
		return fmt.Sprintf("%.1f %s", size, unit)
	}
	return fmt.Sprintf("%.0f %s", size, unit)
}

// counted writes a number with its noun.
func counted(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return thousands(n) + " " + many
}

// thousands writes a number in groups of three digits.
func thousands(n int64) string {
	if n < 0 {
		return "-" + thousands(-n)
	}
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "\u202f" + digits[i:] // a narrow space that does not break
	}
	return digits
}

package ui

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestPageTable holds the table in the package documentation against the routes.
func TestPageTable(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var documented, real []string
	for _, m := range regexp.MustCompile(`(?m)^//\t([A-Z]+) +(/\S*) +.*$`).FindAllStringSubmatch(string(doc), -1) {
		documented = append(documented, m[1]+" "+m[2])
	}
	for _, r := range new(Pages).Routes() {
		real = append(real, r.Method+" "+r.Path)
	}
	if !slices.Equal(documented, real) {
		t.Errorf("documented\n%s\nreal\n%s", strings.Join(documented, "\n"), strings.Join(real, "\n"))
	}
}

// TestTemplates shows that no template has what the policy forbids, and that none is without its content.
func TestTemplates(t *testing.T) {
	if len(pages) == 0 {
		t.Fatal("no templates")
	}
	names, err := files.ReadDir("templates")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range names {
		if entry.IsDir() {
			continue
		}
		source, err := files.ReadFile("templates/" + entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{` style=`, ` on[a-z]+=`, `(href|src|action)="?https?:`, `<script`, `template\.HTML`} {
			if found := regexp.MustCompile(bad).Find(source); found != nil {
				t.Errorf("%s has %q", entry.Name(), found)
			}
		}
		if pages[strings.TrimSuffix(entry.Name(), ".html")].Lookup("content") == nil {
			t.Errorf("%s has no content", entry.Name())
		}
	}
}

func TestWords(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		-time.Second: "0 s", 0: "0 s", 950 * time.Microsecond: "950 µs", 12 * time.Millisecond: "12 ms", time.Second: "1 s", 3400 * time.Millisecond: "3.4 s",
		59 * time.Second: "59 s", time.Minute: "1 min", 65 * time.Second: "1 min 5 s", 30 * time.Minute: "30 min", 2*time.Hour + 10*time.Minute: "2 h 10 min",
		24 * time.Hour: "1 d", 76 * time.Hour: "3 d 4 h",
	} {
		if got := roughly(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
	for d, want := range map[time.Duration]string{-3 * time.Second: "3 s ago", 5 * time.Minute: "in 5 min", -time.Millisecond: "just now", 0: "just now"} {
		want := `<time datetime="` + now.Add(d).Format(time.RFC3339Nano) + `" title="` + now.Add(d).Format("2006-01-02 15:04:05") + ` UTC">` + want + `</time>`
		if got := ago(now.Add(d), now); string(got) != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
	if at(time.Time{}) != "" || ago(time.Time{}, now) != "" {
		t.Error("the zero time is shown")
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 10 << 20: "10 MiB", 3 << 40: "3.0 TiB", 5000 << 40: "5000 TiB"} {
		if got := byteSize(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1\u202f000", 1234567: "1\u202f234\u202f567", -1000: "-1\u202f000"} {
		if got := thousands(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}

package ui_test

import (
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	f := newFixture(t, nil)
	f.api("POST", "/v1/webhooks", `{"url":"https://example.com/","name":"<script>alert(1)</script>"}`)
	f.wantPage("/webhooks", "&lt;script&gt;alert(1)&lt;/script&gt;")
}

// TestFirstPageIsSmall holds the page that everybody sees first to what a phone loads at once.
func TestFirstPageIsSmall(t *testing.T) {
	f := newFixture(t, nil)
	page := f.wantPage("/")
	if len(page) > 100_000 {
		t.Errorf("%d bytes", len(page))
	}
	for _, loads := range []string{"<link rel=\"stylesheet", "src=", "@import", "url("} {
		if strings.Contains(page, loads) {
			t.Errorf("the page loads something: %s", loads)
		}
	}
}

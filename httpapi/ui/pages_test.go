package ui_test

import (
	"strings"
	"testing"
)

func TestOverview(t *testing.T) {
	f := newFixture(t, nil)
	f.wantPage("/", "<title>Overview · hookbolt</title>", `aria-current="page">Overview`)
}

func TestNames(t *testing.T) {
	f := newFixture(t, nil)
	f.do("POST", "/v1/webhooks", strings.NewReader(`{"url":"https://example.com/","name":"<script>alert(1)</script>"}`))
	f.wantPage("/webhooks", "&lt;script&gt;alert(1)&lt;/script&gt;")
}

package browser

import (
	"fmt"
	"testing"

	"hookbolt/internal/postgrestest"
)

// TestMembers shows a fleet of two: the overview has a row for each, on a phone and without script, too, and a webhook's page names its member.
func TestMembers(t *testing.T) {
	t.Parallel()
	c := postgrestest.Shared(t)
	storage := []string{`storage.driver = "postgres"`, fmt.Sprintf("storage.postgres_url = %q", c.URL()), fmt.Sprintf("storage.postgres_schema = %q", c.Schema(t))}
	s := startServer(t, storage...)
	startServer(t, storage...)
	s.call("POST", "/v1/webhooks", `{"url": "http://127.0.0.1:1/"}`)
	if !await(func() bool {
		var list struct {
			Items []struct{ State string }
		}
		s.read(&list, "GET", "/v1/members", "")
		return len(list.Items) == 2 && list.Items[0].State == "working" && list.Items[1].State == "working"
	}) {
		t.Fatal("there are no two members that work")
	}
	looks := []look{{}, {width: phone, dark: true}, {width: phone, noScript: true}}
	if *shotsDir != "" {
		looks = append(looks, look{dark: true}, look{width: phone})
	}
	for _, l := range looks {
		t.Run(l.String(), func(t *testing.T) {
			t.Parallel()
			p := newPage(t, s, l)
			p.open("/")
			p.waitFor("shows this page")
			if rows := eval[int](p, `document.querySelectorAll("#members-card tbody tr").length`); rows != 2 {
				t.Errorf("%d members are shown", rows)
			}
			p.examine("members")
			p.open("/webhooks/1")
			p.waitFor("Delivered by")
			p.examine("member-of-webhook")
		})
	}
}

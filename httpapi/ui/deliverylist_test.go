package ui_test

import (
	"context"
	"strconv"
	"strings"
	"testing"

	"hookbolt/engine"
	"hookbolt/internal/teststore"
)

// sparse is a store with an endless number of deliveries that do not fit: each page of its list says that there are more. It lists a
// delivery every so many pages; 0 stands for never.
type sparse struct {
	engine.Store
	every int
	asked *int
}

func (s sparse) Deliveries(_ context.Context, q engine.DeliveryQuery) (engine.DeliveryPage, error) {
	*s.asked++
	n, _ := strconv.Atoi(q.Cursor)
	page := engine.DeliveryPage{NextCursor: strconv.Itoa(n + 1)}
	if s.every > 0 && n%s.every == 0 {
		d := engine.Delivery{WebhookID: 1, Kind: engine.KindTest, Status: engine.StatusDelivered}
		d.ID[15] = byte(n)
		page.Items = append(page.Items, d)
	}
	return page, nil
}

// TestLookFurther shows that a filter that lets little or nothing through asks the store a bounded number of times, and does not make a
// page that looks like the end.
func TestLookFurther(t *testing.T) {
	asked := 0
	f := newFixtureOn(t, sparse{teststore.Open(t), 0, &asked}, nil)
	page := f.wantPage("/deliveries?status=delivered", "No match among the deliveries searched so far", `href="/deliveries?cursor=25&amp;status=delivered" rel="next">Search further</a>`)
	if asked != 25 || strings.Contains(page, "Older") || strings.Contains(page, "No delivery is") {
		t.Errorf("the store was asked %d times", asked)
	}
	page = f.wantPage("/deliveries?status=delivered&cursor=25", "cursor=50&amp;status=delivered", ">Newest</a>")
	if strings.Contains(page, "data-poll") {
		t.Error("a page that is not the first is live")
	}
	f = newFixtureOn(t, sparse{teststore.Open(t), 3, &asked}, nil)
	page = f.wantPage("/deliveries?status=delivered", "These are the matches among the deliveries searched so far", "Search further</a>")
	if n := len(deliveryIDs(page)); n != 9 {
		t.Errorf("%d deliveries, want those of every third page from 0 to 24", n)
	}
	asked = 0
	f = newFixtureOn(t, sparse{teststore.Open(t), 1, &asked}, nil)
	f.wantPage("/deliveries", "Search further</a>")
	if asked != 25 {
		t.Errorf("the store was asked %d times", asked)
	}
}

// TestListSays holds what the list says where it is empty, and of what is held, against what there is.
func TestListSays(t *testing.T) {
	f := newFixture(t, nil)
	f.wantPage("/deliveries", "No deliveries yet", `href="/play"`)
	f.api("POST", "/v1/webhooks", `{"url":"https://a.example/"}`)
	f.api("POST", "/v1/events", played(sessionA))
	f.wantPage("/deliveries?status=failed", `There are no failed deliveries. <a href="/deliveries">`)
	f.wantPage("/deliveries?webhook_id=7", `No matches. <a href="/deliveries">`)
	if page := f.wantPage("/deliveries"); strings.Contains(page, "held") {
		t.Error("a delivery is held whose webhook is not paused")
	}
	f.api("PATCH", "/v1/webhooks/1", `{"paused":true}`)
	f.api("POST", "/v1/webhooks/1/test", "")
	if page := f.wantPage("/deliveries", `data-label="Next or end">held, `); strings.Count(page, "held, ") != 1 {
		t.Error("a test is held")
	}
	f.wantIn(f.get("/deliveries?webhook_id=x"), 400, `<select id="webhook_id" name="webhook_id" aria-describedby="webhook_id-error" aria-invalid="true">`, `id="webhook_id-error">must be a webhook`, "Correct the filters to see deliveries.")
}

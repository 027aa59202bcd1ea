package engine

import "testing"

// TestUnbuilt: a row is of the same programs, ends with a success or the webhook, and leaves nothing behind.
func TestUnbuilt(t *testing.T) {
	var u unbuilt
	w := &Webhook{ID: 3, Transform: new("1")}
	for i := range 3 * maxUnbuiltInRow {
		if full := u.failed(w); full != (i%maxUnbuiltInRow == maxUnbuiltInRow-1) {
			t.Errorf("failure %d: %t", i, full)
		}
	}
	u.failed(w)
	mended := *w
	mended.Transform = new("2")
	for range maxUnbuiltInRow - 1 {
		if u.failed(&mended) {
			t.Error("a failure of other programs counts")
		}
	}
	if u.forget(w.ID); len(u.rows) != 0 {
		t.Errorf("left: %v", u.rows)
	}
}

package engine

import "testing"

// Each status that net/http may return has a class, and what is no class of its own does not count as one.
func TestStatusClass(t *testing.T) {
	for status, want := range map[int]string{
		1: "other", 99: "other", 100: "other", 101: "other", 199: "other", 200: "2xx", 299: "2xx", 304: "3xx", 404: "4xx", 499: "4xx", 500: "5xx", 599: "5xx",
		600: "other", 666: "other", 999: "other",
	} {
		if got := statusClass(status); got != want {
			t.Errorf("%d is %s, want %s", status, got, want)
		}
	}
}

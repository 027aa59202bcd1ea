package status

import (
	"math"
	"testing"
)

func TestNumbers(t *testing.T) {
	if got := number(1234567) + ", " + byteCount(1536*1024); got != "1,234,567, 1.5 MiB" {
		t.Errorf("got %s", got)
	}
	if number(math.NaN()) != "?" || byteCount(math.NaN()) != "?" || seconds(math.NaN()) != 0 || seconds(math.Inf(1)) != maxSpan {
		t.Error("what is not known is told as something")
	}
}

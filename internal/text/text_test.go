package text

import "testing"

func TestNumbers(t *testing.T) {
	for got, want := range map[string]string{
		Number(0): "0", Number(999.5): "1,000", Number(1234567): "1,234,567", Number(-123456): "-123,456",
		Bytes(512): "0.5 KiB", Bytes(1536 * 1024): "1.5 MiB", Bytes(500e6): "477 MiB", Bytes(20 << 30): "20.0 GiB",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestOneLine(t *testing.T) {
	if got := OneLine(" a\n\tb\x1b[31m \x9b\u0085c "); got != "a b[31m \uFFFDc" {
		t.Errorf("got %q", got)
	}
	if got := Printable("a\n\tb\r\x07"); got != "a\n\tb" {
		t.Errorf("got %q", got)
	}
}

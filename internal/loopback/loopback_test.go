package loopback

import "testing"

func TestIsAddress(t *testing.T) {
	for listen, want := range map[string]bool{
		"127.0.0.1:8080": true, "127.8.8.8:0": true, "[::1]:8080": true, "localhost:8080": true, "LOCALHOST:http": true,
		":8080": false, "0.0.0.0:8080": false, "[::]:8080": false, "192.168.1.1:8080": false, "example.com:80": false, "localhost.example.com:80": false,
		"localhost": false, "127.0.0.1": false, "[::1]": false, "": false,
	} {
		if got := IsAddress(listen); got != want {
			t.Errorf("%q: got %v", listen, got)
		}
	}
}

package send

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"testing"
)

func TestCanonicalURL(t *testing.T) {
	good := []string{
		"https://example.com", "http://example.com/", "HTTPS://Example.COM/Hook", "https://example.com:8443/a/b?c=d&e=f", "http://192.0.2.1:80/", "http://[2001:db8::1]:65535/x",
		"https://müller.example/ü", "https://example.com/?token=a%20b", "http://localhost:9000/", "http://hook", "https://example.com./x",
		"https://example.com/" + strings.Repeat("a", 2048-20),
	}
	for _, raw := range good {
		if _, err := CanonicalURL(raw); err != nil {
			t.Errorf("%.80s: %v", raw, err)
		}
	}
	bad := []struct{ raw, detail string }{
		// The scheme.
		{"", `must be an http or https URL, such as https://example.com/hook (got "")`},
		{"example.com/hook", "must be an http or https URL: write https:// in front, as in https://example.com/hook"},
		{"example.com:8080/hook", "write https:// in front"},
		{"localhost:8080", "write https:// in front"},
		{"me:sekret@example.com", "write https:// in front"},
		{"/hook", "write https:// in front"},
		{"hook", "write https:// in front"},
		{"https", "write https:// in front"},
		{"://example.com", "write https:// in front"},
		{"//example.com/hook", "write https: in front of the //"},
		{"ftp://example.com", `(got scheme "ftp")`},
		{"htttps://example.com/hook", `(got scheme "htttps")`},
		{"javascript:alert(1)", `(got scheme "javascript")`},
		{"file:///etc/passwd", `(got scheme "file")`},
		{"unix:/run/x.sock", `(got scheme "unix")`},
		{"https:example.com", "must have // after https:"},
		{"HTTP:/example.com", "must have // after http:"},
		{`https:\\example.com`, "must have // after https:"},
		{"https:", "must have // after https:"},
		{"https://https://example.com/hook", "must have its scheme once"},
		{"http://HTTPS:/example.com/hook", "must have its scheme once"},

		// Characters that cannot be seen.
		{" https://example.com/", "must not begin or end with a space: remove it"},
		{"https://example.com/ ", "must not begin or end with a space: remove it"},
		{"https://example.com/\n", "must not begin or end with a line break: remove it"},
		{"https://example.com/\u00a0", "must not begin or end with a no-break space (U+00A0): remove it"},
		{"\ufeffhttps://example.com/", "must not begin or end with a byte order mark (U+FEFF): remove it"},
		{"https://example.com/\u200b", "must not begin or end with a zero-width space (U+200B): remove it"},
		{"https://example.com/\x00", "must not begin or end with a control character (U+0000): remove it"},
		{"https://example.com/a\tb", "must not hold a tab: remove it, or write %09 if it is meant"},
		{"https://example.com/?a=\r\nX: y", "must not hold a line break: remove it, or write %0D if it is meant"},
		{"https://example.com/a\u200bb", "must not hold a zero-width space (U+200B): remove it, or write %E2%80%8B if it is meant"},
		{"https://example.com/?a=\u202eb", "must not hold an invisible character (U+202E): remove it, or write %E2%80%AE if it is meant"},
		{"https://example.com/a\u2003b", "must not hold an unusual space (U+2003): remove it, or write %E2%80%83 if it is meant"},
		{"https://exam\u200bple.com/", "must not hold a zero-width space (U+200B): remove it"},
		{"https://exam\u200bple.com", "must not hold a zero-width space (U+200B): remove it"},
		{"https://exam\x1bple.com/", "must not hold a control character (U+001B): remove it"},
		{"https://exa mple.com/", "must not hold a space in its host: remove it"},

		// User names, hosts and ports.
		{"https://user@example.com/", "user name or password: credentials are set apart from the URL"},
		{"https://user:pass@example.com/", "user name or password"},
		{"https://us er:pa ss@example.com/", "user name or password"},
		{"https://user:pass@", "user name or password"},
		{`https://example.com\hook`, `must not have a \ before its path: write /`},
		{"https://", "must name a host, as in https://example.com/hook"},
		{"https:///hook", "must name a host, as in https://example.com/hook"},
		{"http://:8080/", "must name a host, as in https://example.com/hook"},
		{"https://a..example.com/", "must name a host without empty parts: remove the dot that is too many"},
		{"https://.example.com/", "without empty parts"},
		{"https://example.com../", "without empty parts"},
		{"https://" + strings.Repeat("a", 64) + ".example/", "each part between dots has at most 63 bytes (got 64)"},
		{"https://" + strings.Repeat("ü", 70) + ".example/", "each part between dots has at most 63 bytes (got "},
		{"https://" + strings.Repeat("a.", 126) + "aa/", "with at most 253 bytes (got 254)"},
		{"https://ex%61mple.com/", "must write its host as it is, without escapes such as %41"},
		{"https://exam%zzple.com/", "must write its host as it is"},
		{"https://exa_mple,com/", `must name a host that can be looked up (got "exa_mple,com": disallowed character ',')`},
		{"https://[::1/", "must have an IPv6 address, and nothing else, in brackets, as in http://[2001:db8::1]:8080/"},
		{"https://::1]/", "in brackets"},
		{"https://[example.com]/", "in brackets"},
		{"https://[::1]x/", "in brackets"},
		{"https://[]/", "in brackets"},
		{"https://2001:db8::1/", "in brackets"},
		{"https://example.com:80:80/", "in brackets"},
		{"https://[fe80::1%25eth0]/", "must not have a zone in its IPv6 address: "},
		{"https://[fe80::1%eth0]:8080/", "must not have a zone"},
		{"https://fe80::1%eth0/", "must not have a zone"},
		{"https://example.com:http/", "port must be a number, 1 to 65535, as in https://example.com:8443/hook"},
		{"https://example.com:-1/", "port must be a number"},
		{"https://example.com:0/", "port must be 1 to 65535 (got 0)"},
		{"https://example.com:65536/", "port must be 1 to 65535 (got 65536)"},
		{"https://[2606:4700::1111]:99999/", "port must be 1 to 65535 (got 99999)"},

		// Paths and queries.
		{"https://example.com/#frag", "must not have a fragment: it would never be sent. Remove the # and what follows it, or write %23"},
		{"https://example.com#", "must not have a fragment"},
		{`https://example.com/a\b`, `must not have a \ in its path, which some readers take for a /; write %5C if it is meant`},
		{"https://example.com/%zz", "must write % as %25 where it begins no escape such as %20"},
		{"https://example.com/?discount=10%", "must write % as %25 where it begins no escape such as %20"},
		{"https://example.com/" + strings.Repeat("a", 2048-19), "must have at most 2048 bytes (got 2049)"},
		{"https://example.com/" + strings.Repeat("ü", 400), "must have at most 2048 bytes once its characters are encoded (got 2420)"},
	}
	for _, tt := range bad {
		if _, err := CanonicalURL(tt.raw); err == nil || !strings.Contains(err.Error(), tt.detail) {
			t.Errorf("%.80q: got %v, want …%s…", tt.raw, err, tt.detail)
		} else if strings.Contains(err.Error(), "sekret") || strings.Contains(err.Error(), "pass") && strings.Contains(err.Error(), "user:") {
			t.Errorf("the error repeats a password: %v", err)
		}
	}
}

// canonicalForms are URLs and what is stored, shown and sent of them; "" means that they are refused.
var canonicalForms = map[string]string{
	// As it is.
	"https://example.com":                                        "https://example.com",
	"https://example.com/":                                       "https://example.com/",
	"https://example.com?a=b":                                    "https://example.com?a=b",
	"https://example.com/a?":                                     "https://example.com/a?",
	"https://example.com/a/../b//c/.":                            "https://example.com/a/../b//c/.",
	"https://example.com/%2F%2f%41?a=%2f%41&b=c+d;e=/?:@!$'()*,": "https://example.com/%2F%2f%41?a=%2f%41&b=c+d;e=/?:@!$'()*,",

	// Spaces, other letters, and what RFC 3986 does not allow: also beside an escape, which stays one.
	"https://example.com/a b":                    "https://example.com/a%20b",
	"https://example.com/a%2Fb c":                "https://example.com/a%2Fb%20c",
	"https://example.com/?q=a b":                 "https://example.com/?q=a%20b",
	"https://example.com/?q=a%20b c":             "https://example.com/?q=a%20b%20c",
	"https://example.com?q=a b":                  "https://example.com?q=a%20b",
	"https://example.com/ü?ü=ü":                  "https://example.com/%C3%BC?%C3%BC=%C3%BC",
	"https://example.com/%C3%BC/ü":               "https://example.com/%C3%BC/%C3%BC",
	"https://example.com/?q=\u202e\u0085\u2028x": "",
	"https://example.com/\xff?\xff":              "https://example.com/%FF?%FF",
	"https://example.com/<a>\"{b}|^`[c]":         "https://example.com/%3Ca%3E%22{b}%7C%5E%60%5Bc%5D",
	"https://example.com/?a[]=<>\"{}|\\^`":       "https://example.com/?a%5B%5D=%3C%3E%22%7B%7D%7C%5C%5E%60",
	"https://example.com/?q=1 HTTP/1.1":          "https://example.com/?q=1%20HTTP/1.1",

	// Hosts.
	"HTTPS://Example.COM/Hook":            "https://example.com/Hook",
	"https://EXAMPLE.com.:0443/":          "https://example.com.:443/",
	"https://example.com:/a":              "https://example.com/a",
	"https://müller.example/":             "https://xn--mller-kva.example/",
	"https://MÜLLER.example./":            "https://xn--mller-kva.example./",
	"https://mu\u0308ller。example。/":      "https://xn--mller-kva.example./",
	"https://m%C3%BCller.example/":        "https://xn--mller-kva.example/",
	"http://８.８.８.８:８/":                   "",
	"http://８.８.８.８:8/":                   "http://8.8.8.8:8/",
	"http://8.8.8.8./":                    "http://8.8.8.8/",
	"http://[2606:4700:0:0::1111]/":       "http://[2606:4700::1111]/",
	"http://[2606:4700::1111%25eth0]:80/": "",
	"http://[::FFFF:8.8.8.8]/":            "http://[::ffff:8.8.8.8]/",

	// Refused.
	"https://example.com/?q=100%":                     "",
	"https://example.com/?q=%zz":                      "",
	"https://example.com/%zz":                         "",
	"https://example.com/#":                           "",
	"https://example.com/?a#b":                        "",
	"https://example.com/a\\b":                        "",
	"https://example.com\\@8.8.8.8/":                  "",
	"https://example.com/ ":                           "",
	"https://example.com/\u00a0":                      "",
	"https://example.com/?a=\r\nX: y":                 "",
	"https://example.com/\x7f":                        "",
	"https://example.com/?\t":                         "",
	"https://example.com/" + strings.Repeat("ü", 400): "", // 2,420 bytes once encoded
}

// TestCanonicalForms also has what TestEndpoints and others have to say of the sent form: it is the request that a server reads.
func TestCanonicalForms(t *testing.T) {
	for raw, want := range canonicalForms {
		got, err := CanonicalURL(raw)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v; want %q", raw, got, err, want)
		}
		if err == nil {
			wantOnWire(t, raw, got)
		}
	}
}

// wantOnWire checks that a canonical form stays as it is, and that of it and of the URL that it was made of the same is sent.
func wantOnWire(t *testing.T, raw, canonical string) {
	t.Helper()
	if again, err := CanonicalURL(canonical); again != canonical {
		t.Fatalf("%q becomes %q, which becomes %q: %v", raw, canonical, again, err)
	}
	if !SameHost(canonical, canonical) {
		t.Fatalf("%q is not of its own host", canonical)
	}
	for _, stored := range []string{raw, canonical} { // an older hookbolt has stored it as it was given
		a := attempt{sender: New(Options{}), request: &Request{URL: stored, Secrets: []Secret{NewSecret()}}, trace: new(trace)}
		req, err := a.httpRequest(t.Context())
		if err != nil {
			t.Fatalf("%q cannot be sent: %v", stored, err)
		}
		var wire bytes.Buffer
		if err := req.Write(&wire); err != nil {
			t.Fatalf("%q cannot be sent: %v", stored, err)
		}
		line, _, _ := strings.Cut(wire.String(), "\r\n")
		sent, err := wireURL(canonical) // the braces of names are encoded then
		if err != nil {
			t.Fatal(err)
		}
		_, after, _ := strings.Cut(sent.String(), "://")
		host := after
		if end := strings.IndexAny(after, "/?"); end >= 0 {
			host = after[:end]
		}
		target := after[len(host):]
		if !strings.HasPrefix(target, "/") {
			target = "/" + target
		}
		if line != "POST "+target+" HTTP/1.1" || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Fatalf("of %q is sent %q, want %q", stored, line, target)
		}
		if want := strings.Replace(host, "%25", "%", 1); req.URL.Host != want {
			t.Fatalf("%q is sent to %q, want %q", stored, req.URL.Host, want)
		}
	}
}

// TestStoredURLs: what an older hookbolt has accepted is still sent.
func TestStoredURLs(t *testing.T) {
	for stored, want := range map[string]string{
		"http://[fe80::1%25eth0]:8080/x":      "http://[fe80::1%25eth0]:8080/x",
		"https://example.com/a\u200bb?\u202e": "https://example.com/a%E2%80%8Bb?%E2%80%AE",
		"https://pub\u00adlic.example/":       "https://public.example/",
	} {
		if _, err := CanonicalURL(stored); err == nil {
			t.Errorf("%q is accepted", stored)
		}
		if got, err := wireURL(stored); err != nil || got.String() != want {
			t.Errorf("%q is sent to %q, want %q: %v", stored, got, want, err)
		}
	}
}

func TestSameHost(t *testing.T) {
	for _, tc := range []struct {
		from, to string
		want     bool
	}{
		{"https://a.example/x", "https://a.example/y?z=1", true},
		{"https://a.example/", "https://a.example:443/", true},
		{"http://a.example:80/", "http://a.example", true},
		{"http://[2606:4700::1]/", "http://[2606:4700::1]:80/", true},
		{"http://a.example/", "https://a.example/", true}, // better kept from others, for the same server
		{"http://a.example:80/", "https://a.example:443/", true},
		{"https://a.example/", "http://a.example/", false},
		{"https://a.example/", "http://a.example:443/", false},
		{"http://a.example:8080/", "https://a.example:8080/", false},
		{"http://a.example:8080/", "https://a.example/", false},
		{"https://a.example/", "https://a.example:8443/", false},
		{"http://a.example:8080/", "http://a.example:9090/", false},
		{"https://a.example/", "https://b.example/", false},
		{"https://a.example/", "https://x.a.example/", false},
		{"https://x.a.example/", "https://a.example/", false},
		{"https://a.example/", "https://a.example./", false}, // a resolver may look for the former in other domains
		{"http://8.8.8.8/", "http://[::ffff:8.8.8.8]/", false},
		{"http://[2606:4700::1%25a]/", "http://[2606:4700::1%25b]/", false},
	} {
		if got := SameHost(tc.from, tc.to); got != tc.want {
			t.Errorf("%s to %s: %t", tc.from, tc.to, got)
		}
	}
}

func TestPlainAddress(t *testing.T) {
	for endpoint, want := range map[string]string{
		"http://localhost": "127.0.0.1", "http://localhost:8080/x": "127.0.0.1", "https://LocalHost/": "127.0.0.1", "http://localhost./": "127.0.0.1",
		"http://x.localhost/": "127.0.0.1", "http://a.b.LOCALHOST.:1/": "127.0.0.1", "http://127.0.0.1./": "127.0.0.1", "http://127.0.0.1:99/": "127.0.0.1",
		"http://10.0.0.1/?a=b": "10.0.0.1", "http://[::1]/": "::1", "http://[::1]:80/": "::1", "http://[FE80::1]/": "fe80::1",
		"http://[fe80::1%25eth0]/": "fe80::1%eth0", "http://[::ffff:127.0.0.1]:1/": "::ffff:127.0.0.1", "https://8.8.8.8/": "8.8.8.8",
		"http://xlocalhost/": "", "http://localhost.example.com/": "", "http://127.0.0.1.example.com/": "", "http://example.com/localhost": "",
		"http://127.1/": "", "http://2130706433/": "", "http://0x7f.0.0.1/": "", "http://0177.0.0.1/": "", "http://example.com:127/": "",
		"http://１２７.０.０.１/": "127.0.0.1", "http://127。0｡0．1/": "127.0.0.1", "http://ＬＯＣＡＬＨＯＳＴ/": "127.0.0.1", "http://８.８.８.８/": "8.8.8.8",
		"http://ü_x.example/": "", "http://%zz/": "",
	} {
		addr, ok := literalAddress(endpoint)
		if ok != (want != "") || ok && addr.String() != want {
			t.Errorf("%s: got %s, %t; want %q", endpoint, addr, ok, want)
		}
		refused := (guard{}).checkURL(endpoint) != nil
		if refused != (want != "" && want != "8.8.8.8") {
			t.Errorf("%s: refused: %t", endpoint, refused)
		}
	}
}

// What the endpoints table says.
const (
	notPublic   = "is not a public address"                // refused by the guard at creation
	asDecimals  = "four decimal numbers"                   // a number that some resolvers take for an address
	noScheme    = "must be an http or https URL"           //
	noSlashes   = "must have // after http:"               //
	noHost      = "must name a host, as in"                //
	noName      = "must name a host that can be looked up" // refused by IDNA
	noEscapes   = "must write its host as it is"           //
	unseen      = "must not hold a"                        // an invisible character
	brackets    = "must have an IPv6 address, and nothing" //
	zone        = "must not have a zone"                   //
	credentials = "must not hold a user name or password"  //

	allowed = "allowed" // by the dialer's hook
	refused = "refused" // by the dialer's hook
	nothing = "nothing" // there is nothing to dial
)

// endpoints are URLs with a part of what is said at their creation ("" is success), and what happens at the dial, which does not
// rely on creation: with whatever net/http makes of the URL, and the Go resolver of the name. Other resolvers make 127.0.0.1 of
// 2130706433 and the like, and the hook sees that as any other.
var endpoints = []struct{ url, creation, dial string }{
	// Public: addresses and names.
	{"http://8.8.8.8/", "", allowed},
	{"https://8.8.8.8:8443/hook?a=b", "", allowed},
	{"http://1.1.1.1./", "", nothing},
	{"http://[2606:4700::1111]/", "", allowed},
	{"http://[2606:4700::1111]:99/", "", allowed},
	{"http://[2606:4700::1111%25eth0]/", zone, allowed},
	{"http://[::ffff:8.8.8.8]/", "", allowed},
	{"http://[64:ff9b::8.8.8.8]/", "", allowed},
	{"http://[64:ff9b::808:808]/", "", allowed},
	{"https://public.example/hook", "", allowed},
	{"https://PUBLIC.Example./hook", "", allowed},
	{"https://public6.example/", "", allowed},
	{"https://nat64-public.example/", "", allowed},
	{"https://my_service.example/", "", allowed},
	{"https://1.1.1.1.example/", "", allowed},
	{"https://unknown.example/", "", nothing},

	// Public, in other letters.
	{"https://müller.example/", "", allowed},
	{"https://MÜLLER.example/", "", allowed},
	{"https://mu\u0308ller.example/", "", allowed},
	{"https://m%C3%BCller.example/", "", allowed},
	{"https://xn--mller-kva.example/", "", allowed},
	{"https://müller。example/", "", allowed},
	{"https://ｐｕｂｌｉｃ.example/", "", allowed},
	{"https://pub\u00adlic.example/", unseen, allowed},
	{"https://例え.テスト/", "", allowed},
	{"http://８.８.８.８/", "", allowed},
	{"http://8。8。8。8/", "", allowed},

	// Names of what is not public are found out at the dial.
	{"https://loopback.example/", "", refused},
	{"https://127.0.0.1.example/", "", refused},
	{"https://loopback6.example/", "", refused},
	{"https://any.example/", "", refused},
	{"https://any6.example/", "", refused},
	{"https://private.example/", "", refused},
	{"https://shared.example/", "", refused},
	{"https://metadata.example/", "", refused},
	{"https://multicast.example/", "", refused},
	{"https://broadcast.example/", "", refused},
	{"https://ula.example/", "", refused},
	{"https://link-local.example/", "", refused},
	{"https://mapped.example/", "", refused},
	{"https://compatible.example/", "", refused},
	{"https://nat64.example/", "", refused},
	{"https://6to4.example/", "", refused},
	{"https://teredo.example/", "", refused},
	{"https://unassigned.example/", "", refused},
	{"http://hook/", "", refused},
	{"http://h\u00fcbsch.example/", "", refused},

	// Not public in plain sight.
	{"http://127.0.0.1/", notPublic, refused},
	{"http://127.0.0.1:8080/x", notPublic, refused},
	{"http://127.0.0.1./", notPublic, nothing},
	{"http://127.0.0.1:/", notPublic, refused},
	{"http://127.255.255.254/", notPublic, refused},
	{"http://0.0.0.0/", notPublic, refused},
	{"http://10.0.0.1/", notPublic, refused},
	{"http://100.100.100.200/", notPublic, refused},
	{"http://169.254.169.254/latest/meta-data/", notPublic, refused},
	{"http://172.17.0.1/", notPublic, refused},
	{"http://192.0.0.192/", notPublic, refused},
	{"http://192.88.99.1/", notPublic, refused},
	{"http://192.168.1.1/", notPublic, refused},
	{"http://198.18.0.1/", notPublic, refused},
	{"http://203.0.113.1/", notPublic, refused},
	{"http://224.0.0.1/", notPublic, refused},
	{"http://255.255.255.255/", notPublic, refused},
	{"http://[::1]/", notPublic, refused},
	{"http://[::1]:8080/", notPublic, refused},
	{"http://[0:0:0:0:0:0:0:1]/", notPublic, refused},
	{"http://[0000::0001]/", notPublic, refused},
	{"http://[::]/", notPublic, refused},
	{"http://[::1%25lo]/", zone, refused},
	{"http://[fe80::1%25eth0]/", zone, refused},
	{"http://[FE80::1]/", notPublic, refused},
	{"http://[fd00:ec2::254]/", notPublic, refused},
	{"http://[ff02::1]/", notPublic, refused},
	{"http://[2001:db8::1]/", notPublic, refused},
	{"http://[100::1]/", notPublic, refused},
	{"http://[5f00::1]/", notPublic, refused},
	{"http://[4000::1]/", notPublic, refused},
	{"http://[::ffff:127.0.0.1]/", notPublic, refused},
	{"http://[::ffff:7f00:1]/", notPublic, refused},
	{"http://[::FFFF:169.254.169.254]:80/", notPublic, refused},
	{"http://[0:0:0:0:0:ffff:10.0.0.1]/", notPublic, refused},
	{"http://[::127.0.0.1]/", notPublic, refused},
	{"http://[::8.8.8.8]/", notPublic, refused},
	{"http://[64:ff9b::127.0.0.1]/", notPublic, refused},
	{"http://[64:ff9b::a9fe:a9fe]/", notPublic, refused},
	{"http://[64:ff9b:1::808:808]/", notPublic, refused},
	{"http://[2002:7f00:1::]/", notPublic, refused},
	{"http://[2002:808:808::1]/", notPublic, refused},
	{"http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/", notPublic, refused},
	{"http://localhost/", notPublic, refused},
	{"http://LOCALHOST.:99/", notPublic, refused},
	{"http://x.localhost/", notPublic, refused},

	// The same in other letters.
	{"http://１２７.０.０.１/", notPublic, refused},
	{"http://127。0。0。1/", notPublic, refused},
	{"http://127．0｡0.1/", notPublic, refused},
	{"http://１２７。0．0｡１:8080/", notPublic, refused},
	{"http://%EF%BC%91%EF%BC%92%EF%BC%97.0.0.1/", notPublic, refused},
	{"http://①②⑦.0.0.1/", notPublic, refused},
	{"http://𝟏𝟐𝟕.0.0.1/", notPublic, refused},
	{"http://¹27.0.0.1/", notPublic, refused},
	{"http://127.0.0.1\u00ad/", unseen, refused},
	{"http://127.0.0\u200b.1/", unseen, refused},
	{"http://１６９.２５４.１６９.２５４/", notPublic, refused},
	{"http://ＬＯＣＡＬＨＯＳＴ/", notPublic, refused},
	{"http://ⅼocalhoſt/", notPublic, refused},
	{"http://loopback。example/", "", refused},

	// Numbers that some resolvers take for an address.
	{"http://2130706433/", asDecimals, nothing},
	{"http://0x7f000001/", asDecimals, refused},
	{"http://0X7F000001/", asDecimals, refused},
	{"http://017700000001/", asDecimals, nothing},
	{"http://0177.0.0.1/", asDecimals, nothing},
	{"http://127.0.0.01/", asDecimals, nothing},
	{"http://0x7f.0x0.0x0.0x1/", asDecimals, refused},
	{"http://0x7f.1/", asDecimals, refused},
	{"http://127.1/", asDecimals, nothing},
	{"http://127.0.1./", asDecimals, nothing},
	{"http://0/", asDecimals, nothing},
	{"http://0x/", asDecimals, nothing},
	{"http://127.0x/", asDecimals, nothing},
	{"http://127.0.0.256/", asDecimals, nothing},
	{"http://127.0.0.1.1/", asDecimals, nothing},
	{"http://1.2.3.4.08/", asDecimals, nothing},
	{"http://4294967296/", asDecimals, nothing},
	{"http://99999999999999999999/", asDecimals, nothing},
	{"http://loopback.127/", asDecimals, refused},
	{"http://１２７.１/", asDecimals, nothing},
	{"http://０ｘ７ｆ.1/", asDecimals, refused},
	{"http://२.127.0.1/", asDecimals, nothing},
	{"http://0x7g.example/", "", nothing},

	// Names that are none, and no names.
	{"http://a／b.example/", noName, nothing},
	{"http://ü_x.example/", noName, nothing},
	{"http://127.0.0.1\u3000/", unseen, nothing},
	{"http://\u202e127.0.0.1/", unseen, nothing},
	{"http://١٢٧.0.0.1/", noName, nothing},
	{"http://-ü.example/", noName, nothing},
	{"http://[2606:4700::1111%25e]]/", zone, nothing},
	{"http://[2606:4700::1111%25ü]/", zone, allowed},
	{"http://]/", brackets, nothing},
	{"http://127.0.0.1,8.8.8.8/", noName, nothing},
	{"http://<public.example>/", noName, nothing},
	{"http://public.example;127.0.0.1/", noName, nothing},
	{"http://%C0%AE/", noName, nothing}, // IDNA takes bytes that are no text for U+FFFD
	{"http://\u00ad/", unseen, refused}, // without a host it is this machine that is dialled
	{"http://\u00ad./", unseen, nothing},
	{"http://./", noHost, nothing},
	{"http:///127.0.0.1/", noHost, nothing},
	{"http:127.0.0.1/", noSlashes, nothing},

	// URLs that are none to Go, whatever other readers make of them.
	{"http://%31%32%37.0.0.1/", noEscapes, nothing},
	{"http://127%2e0.0.1/", noEscapes, nothing},
	{"http://127.0.0.1%00/", noEscapes, nothing},
	{"http://127.0.0.1%20/", noEscapes, nothing},
	{"http://127.0.0.1\t/", unseen, nothing},
	{"http://[127.0.0.1]/", brackets, nothing},
	{"http://[::127.1]/", brackets, nothing},
	{"http://[：：1]/", brackets, nothing},
	{"http://[::1%25]/", zone, nothing},
	{"http://[::1%lo]/", zone, nothing},
	{"http://[::1].example/", brackets, nothing},
	{"http://[::1/", brackets, nothing},
	{"http://::1/", brackets, nothing},
	{"http://fe80::1/", brackets, nothing},
	{"http://127.0.0.1:８０/", "port must be a number", nothing},
	{"http://8.8.8.8\\@127.0.0.1/", "before its path", nothing},
	{"http://8.8.8.8 &@127.0.0.1/", credentials, nothing},
	{"//127.0.0.1/", noScheme, nothing},

	// What is not the host is not taken for it.
	{"http://8.8.8.8@127.0.0.1/", credentials, refused},
	{"http://127.0.0.1@8.8.8.8/", credentials, allowed},
	{"http://user:pass@public.example/", credentials, allowed},
	{"http://8.8.8.8#@127.0.0.1/", "fragment", allowed},
	{"http://8.8.8.8/@127.0.0.1/", "", allowed},
	{"http://8.8.8.8?@127.0.0.1/", "", allowed},
	{"http://8.8.8.8:127/127.0.0.1", "", allowed},
	{"http://8.8.8.8:0/", "port must be 1 to 65535", allowed},
	{"http://8.8.8.8:65536/", "port must be 1 to 65535", refused},
	{"gopher://127.0.0.1:70/", `got scheme "gopher"`, nothing},
	{"file://127.0.0.1/etc/passwd", `got scheme "file"`, nothing},
	{"unix:///run/x.sock", `got scheme "unix"`, nothing},
	{"http+unix://127.0.0.1/", `got scheme "http+unix"`, nothing},
	{"ws://127.0.0.1/", `got scheme "ws"`, nothing},
}

// fakeZone is what the fake resolver knows: one address for a name, see fakeResolver.
var fakeZone = map[string]string{
	"public.example": "8.8.8.8", "public6.example": "2606:4700::1111", "nat64-public.example": "64:ff9b::808:808", "my_service.example": "8.8.8.8",
	"1.1.1.1.example": "8.8.8.8", "xn--mller-kva.example": "8.8.8.8", "xn--r8jz45g.xn--zckzah": "8.8.8.8",
	"loopback.example": "127.0.0.1", "127.0.0.1.example": "127.0.0.1", "loopback6.example": "::1", "any.example": "0.0.0.0", "any6.example": "::",
	"private.example": "192.168.1.1", "shared.example": "100.64.0.1", "metadata.example": "169.254.169.254", "multicast.example": "239.1.2.3",
	"broadcast.example": "255.255.255.255", "ula.example": "fd00::1", "link-local.example": "fe80::1", "mapped.example": "::ffff:10.0.0.1",
	"compatible.example": "::7f00:1", "nat64.example": "64:ff9b::7f00:1", "6to4.example": "2002:7f00:1::", "teredo.example": "2001:0:7f00:1::1",
	"unassigned.example": "4000::1", "hook": "172.17.0.2", "xn--hbsch-kva.example": "10.1.2.3", "localhost": "127.0.0.1", "x.localhost": "127.0.0.1",
	"s.localhost": "127.0.0.1", "0x7f000001": "127.0.0.1", "0x7f.0x0.0x0.0x1": "127.0.0.1", "0x7f.1": "127.0.0.1", "loopback.127": "127.0.0.1",
}

// TestEndpoints goes with each URL to the creation of a webhook, and past it to the dialer's hook. Nothing is dialled.
func TestEndpoints(t *testing.T) {
	resolver := fakeResolver(t, func(name string, _ int) []string {
		if address, ok := fakeZone[strings.ToLower(name)]; ok {
			return []string{address}
		}
		return nil
	})
	for _, tc := range endpoints {
		canonical, err := CanonicalURL(tc.url)
		if err == nil {
			err = guard{}.checkURL(canonical)
		}
		if (err == nil) != (tc.creation == "") || err != nil && !strings.Contains(err.Error(), tc.creation) {
			t.Errorf("%s at creation: %v; want …%s…", tc.url, err, tc.creation)
		}
		if err != nil && strings.Contains(err.Error(), "user:pass") {
			t.Errorf("the error repeats a password: %v", err)
		}

		got := nothing
		address, _ := dialledFor(t, tc.url)
		if host, port, err := net.SplitHostPort(address); err == nil {
			addrs := []netip.Addr{netip.IPv6Loopback()} // this machine is what an empty host means to net
			if host != "" {
				addrs, _ = resolver.LookupNetIP(t.Context(), "ip", host)
			}
			for _, addr := range addrs {
				err := guard{}.control(t.Context(), "tcp", net.JoinHostPort(addr.Unmap().String(), port), nil)
				if err != nil && !errors.Is(err, errAddressRefused) {
					t.Errorf("%s at the dial: %v", tc.url, err)
				}
				if err != nil {
					got = refused
					break
				}
				got = allowed
			}
		}
		if got != tc.dial {
			t.Errorf("%s at the dial: %s, want %s", tc.url, got, tc.dial)
		}
	}
}

// dialledFor returns the host and port that net/http would dial for a URL, which it does not do.
func dialledFor(t *testing.T, raw string) (address string, ok bool) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, raw, nil)
	if err != nil {
		return "", false
	}
	notDialled := errors.New("not dialled")
	dialled := make(chan string, 1)
	transport := &http.Transport{DialContext: func(_ context.Context, _, address string) (net.Conn, error) {
		dialled <- address
		return nil, notDialled
	}}
	resp, err := transport.RoundTrip(req)
	if err == nil {
		resp.Body.Close()
		t.Fatalf("%q was answered", raw)
	}
	select {
	case address = <-dialled:
		return address, true
	default:
		return "", false
	}
}

// FuzzCanonicalURL: what is accepted at creation leads to no address that the guard refuses, nor to a number that a resolver may
// take for one, as net/http reads the URL. The canonical form is what net/http sends, and is its own canonical form.
func FuzzCanonicalURL(f *testing.F) {
	for _, tc := range endpoints {
		f.Add(tc.url)
	}
	for raw := range canonicalForms {
		f.Add(raw)
	}
	number := regexp.MustCompile(`(^|\.)([0-9]+|0[xX][0-9a-fA-F]*)$`)
	f.Fuzz(func(t *testing.T, raw string) {
		canonical, err := CanonicalURL(raw)
		if err != nil {
			return
		}
		wantOnWire(t, raw, canonical)
		if (guard{}).checkURL(canonical) != nil {
			return
		}
		address, ok := dialledFor(t, canonical)
		if !ok {
			t.Fatalf("%q is accepted, and net/http makes no request of it", raw)
		}
		host, _, err := net.SplitHostPort(address)
		if err != nil || host == "" {
			t.Fatalf("%q is accepted, and net/http dials %q: %v", raw, address, err)
		}
		host = strings.TrimSuffix(host, ".")
		if addr, err := netip.ParseAddr(host); err == nil {
			if err := (guard{}).check(addr); err != nil {
				t.Fatalf("%q is accepted, and net/http dials %q: %v", raw, address, err)
			}
		} else if number.MatchString(host) {
			t.Fatalf("%q is accepted, and net/http dials %q", raw, address)
		}
	})
}

package send

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
)

// TestBodySignatureVectors: GitHub's documentation has the first vector; those of base64 are the same bytes.
func TestBodySignatureVectors(t *testing.T) {
	const key, body = "It's a Secret to Everybody", "Hello, World!"
	for _, tt := range []struct {
		s    BodySignature
		body string
		want string
	}{
		{BodySignature{"X-Hub-Signature-256", "sha256=", EncodingHex, key}, body, "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"},
		{BodySignature{"Typeform-Signature", "sha256=", EncodingBase64, key}, body, "sha256=dXEH6g6yUJ/CESIczphLijdXC211hsIsRvQ3nIsEPhc="},
		{BodySignature{"Tally-Signature", "", EncodingBase64, key}, body, "dXEH6g6yUJ/CESIczphLijdXC211hsIsRvQ3nIsEPhc="},
		// A request without a body: the HMAC of the empty text (RFC 4231 has no such case; this is openssl's).
		{BodySignature{"X-Signature", "", EncodingHex, "key"}, "", "5d5d139563c95b5967b9bd9a8c9b233a9dedb45072794cd232dc1b74832607d0"},
	} {
		r := Request{ID: "i", Payload: []byte(tt.body), Secrets: []Secret{vectorSecret}, BodySignature: &tt.s}
		h := http.Header{}
		sent, err := r.sign(h, vectorTime)
		if got := h.Values(tt.s.Header); err != nil || len(got) != 1 || got[0] != tt.want || sent.BodySignature != (HeaderField{tt.s.Header, tt.want}) {
			t.Errorf("%v: %q, kept %q, %v; want %s", tt.s, got, sent.BodySignature, err, tt.want)
		}
		if err := tt.s.Verify(h, []byte(tt.body)); err != nil {
			t.Errorf("%v: %v", tt.s, err)
		}
		other := tt.s
		other.Key += "x"
		if tt.s.Verify(h, []byte(tt.body+"x")) == nil || other.Verify(h, []byte(tt.body)) == nil || tt.s.Verify(http.Header{}, nil) == nil {
			t.Errorf("%v: verified what is not signed", tt.s)
		}
	}
}

// TestBodySignatureByOpenSSL signs what has arrived at an endpoint, to the byte, with openssl.
func TestBodySignatureByOpenSSL(t *testing.T) {
	openssl := needOpenSSL(t)
	var body []byte
	var arrived http.Header
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ = io.ReadAll(r.Body)
		arrived = r.Header
	}))
	defer server.Close()
	s, _ := testSender(t, loopback...)
	r := requestTo(server.URL)
	r.Payload = []byte("{ \"a\" : 1.0, \"text\":\"ünï\\u0000 \u2028\" }\n")
	r.BodySignature = &BodySignature{"X-Signature", "v0=", EncodingHex, "schlüssel mit leerzeichen $HOME"}
	if o, err := s.Send(t.Context(), r); err != nil || !o.Delivered() {
		t.Fatalf("%+v: %v", o, err)
	}
	cmd := exec.CommandContext(t.Context(), openssl, "dgst", "-sha256", "-hmac", string(r.BodySignature.Key), "-hex")
	cmd.Stdin = bytes.NewReader(body)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	_, digest, _ := strings.Cut(strings.TrimSpace(string(out)), "= ")
	if want := "v0=" + digest; arrived.Get("X-Signature") != want {
		t.Errorf("arrived %q, openssl says %q", arrived.Get("X-Signature"), want)
	}
}

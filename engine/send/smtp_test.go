package send

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hookbolt/internal/smtptest"
)

// elsewhere is a connection whose peer seems to be another machine.
type elsewhere struct{ net.Conn }

func (elsewhere) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.25:587"))
}

// mailTo is a request for a mail server, which has no account.
func mailTo(url string) Request {
	return Request{URL: url, Timeout: testTimeout, ID: "019bc0a5-3f1c-7d21-9c65-0a1b2c3d4e18", Mail: &Mail{
		From: "hookbolt <hookbolt@example.com>", To: []string{"ops@example.com"}, Subject: "hookbolt: webhook 3 is failing",
		Text: "One.\nTwo.", Date: time.Date(2026, 1, 15, 10, 0, 9, 0, time.UTC)}}
}

// signedMailTo is mailTo with the account that testServer has.
func signedMailTo(url string) Request {
	r := mailTo(url)
	r.Mail.Username, r.Mail.Password = "hookbolt@example.com", "a-password-of-mine"
	return r
}

// testServer returns a mail server with STARTTLS and an account, and a sender that reaches it as another machine.
func testServer(t *testing.T, change func(*smtptest.Server, *x509.Certificate)) (*smtptest.Server, *Sender) {
	t.Helper()
	ca := newAuthority(t)
	server := &smtptest.Server{Auth: "PLAIN LOGIN", Username: "hookbolt@example.com", Password: "a-password-of-mine"}
	certificate := ca.issue(t, func(c *x509.Certificate) {
		c.DNSNames = []string{"mail.example.com"}
		if change != nil {
			change(server, c)
		}
	})
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	address, end, err := server.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(end)
	s := New(Options{UserAgent: "hookbolt/1.2.3", CAFile: ca.file(t)})
	s.dialMail = func(ctx context.Context, network, _ string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		return elsewhere{conn}, err
	}
	return server, s
}

// file writes the certificate of an authority to a file, and returns its path.
func (a *authority) file(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "authority.pem", a.text())
	return filepath.Join(dir, "authority.pem")
}

// TestMailAuthorities: a mail server of an authority of the configuration is trusted, as the file is now, and another one is told how.
func TestMailAuthorities(t *testing.T) {
	for _, tc := range []struct{ url, show string }{
		{"smtp://mail.example.com:587", "openssl s_client -showcerts -connect mail.example.com:587 -starttls smtp shows"},
		{"smtps://mail.example.com:465", "openssl s_client -showcerts -connect mail.example.com:465 shows"},
	} {
		_, s := testServer(t, func(server *smtptest.Server, _ *x509.Certificate) {
			server.Implicit = strings.HasPrefix(tc.url, "smtps")
		})
		unknown := New(Options{})
		unknown.dialMail = s.dialMail
		o := sendMail(t, unknown, signedMailTo(tc.url))
		for _, want := range []string{"by an authority that hookbolt does not know", "put its certificate into delivery.ca_file: ", tc.show} {
			if o.Error != ErrorTLS || !strings.Contains(o.ErrorDetail, want) {
				t.Errorf("%s: %s: %s, want %s", tc.url, o.Error, o.ErrorDetail, want)
			}
		}
		if o = sendMail(t, s, signedMailTo(tc.url)); !o.Delivered() {
			t.Errorf("%s: %s: %s", tc.url, o.Error, o.ErrorDetail)
		}
		file := s.transports.tls.caFile
		write(t, filepath.Dir(file), filepath.Base(file), newAuthority(t).text())
		s.RecheckTLS()
		if o = sendMail(t, s, signedMailTo(tc.url)); o.Error != ErrorTLS {
			t.Errorf("%s: with another authority: %s: %s", tc.url, o.Error, o.ErrorDetail)
		}
		write(t, filepath.Dir(file), filepath.Base(file), "nothing")
		s.RecheckTLS()
		if o = sendMail(t, s, signedMailTo(tc.url)); o.Error != ErrorTLS || !strings.Contains(o.ErrorDetail, "; delivery.ca_file: "+file+" must be PEM text") {
			t.Errorf("%s: with a broken file: %s: %s", tc.url, o.Error, o.ErrorDetail)
		}
	}
}

// send makes the attempt.
func sendMail(t *testing.T, s *Sender, r Request) Outcome {
	t.Helper()
	o, err := s.Send(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestMailIsSent: a mail goes out over TLS with the account, by STARTTLS and with TLS from the start, and comes out as what it was.
func TestMailIsSent(t *testing.T) {
	for _, tc := range []struct{ url, auth, protocol string }{
		{"smtp://mail.example.com:587", "PLAIN LOGIN", "ESMTPSA"},
		{"smtps://mail.example.com:465", "PLAIN", "ESMTPSA"},
		{"smtp://mail.example.com:587", "LOGIN XOAUTH2", "ESMTPSA"},
	} {
		server, s := testServer(t, func(server *smtptest.Server, _ *x509.Certificate) {
			server.Auth, server.Implicit = tc.auth, strings.HasPrefix(tc.url, "smtps")
		})
		r := signedMailTo(tc.url)
		r.Mail.Subject = "hookbolt: „Übung“ has failed"
		r.Mail.Text = "Grüße.\n.\n..two dots\nFrom here on " + strings.Repeat("long ", 300)
		o := sendMail(t, s, r)
		if !o.Delivered() || o.Status != 250 || o.Protocol != tc.protocol || string(o.Response) != "250 2.0.0 queued as 4711" {
			t.Fatalf("%s: %+v", tc.url, o)
		}
		if o.Phases.TLS == 0 || o.Phases.FirstByte == 0 || o.Duration < o.Phases.FirstByte || o.Address == "" {
			t.Errorf("phases %+v of %v at %q", o.Phases, o.Duration, o.Address)
		}
		got := server.Messages()
		if len(got) != 1 || got[0].From != "FROM:<hookbolt@example.com>" || !slices.Equal(got[0].To, []string{"TO:<ops@example.com>"}) || !got[0].TLS ||
			got[0].Auth != strings.Fields(tc.auth)[0] || got[0].Hello != "example.com" {
			t.Fatalf("%+v", got)
		}
		checkMessage(t, got[0].Data, r)
		if !slices.Contains(server.Commands(), "QUIT") {
			t.Errorf("no goodbye in %q", server.Commands())
		}
	}
}

// checkMessage reads a message as a mail client does.
func checkMessage(t *testing.T, data string, r Request) {
	t.Helper()
	for line := range strings.SplitSeq(data, "\r\n") {
		if len(line) > 998 || strings.ContainsAny(line, "\r\n") || strings.ContainsFunc(line, func(r rune) bool { return r > '~' }) {
			t.Errorf("a line of %d bytes: %.100q", len(line), line)
		}
	}
	m, err := mail.ReadMessage(strings.NewReader(data))
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	if err != nil || subject != r.Mail.Subject {
		t.Errorf("the subject is %q, %v", subject, err)
	}
	text, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if err != nil || strings.ReplaceAll(strings.TrimSuffix(string(text), "\r\n"), "\r\n", "\n") != r.Mail.Text {
		t.Errorf("the text is %q, %v", text, err)
	}
	if date, err := m.Header.Date(); err != nil || !date.Equal(r.Mail.Date) {
		t.Errorf("the date is %v, %v", date, err)
	}
	for name, want := range map[string]string{"From": `"hookbolt" <hookbolt@example.com>`, "To": "<ops@example.com>", "Message-Id": "<" + r.ID + "@example.com>",
		"Auto-Submitted": "auto-generated", "Mime-Version": "1.0", "Content-Type": "text/plain; charset=utf-8"} {
		if got := m.Header.Get(name); got != want || len(m.Header[name]) != 1 {
			t.Errorf("%s: %q, want %q", name, m.Header[name], want)
		}
	}
	if len(m.Header) != 9 {
		t.Errorf("header %v", m.Header)
	}
}

// TestMailHeaderInjection: whatever a subject has, it stays one field that its reader sees on one line.
func TestMailHeaderInjection(t *testing.T) {
	for _, text := range []string{"a\r\nBcc: evil@example.com", "a\nBcc: evil@example.com\n\nbody", "a\r.\r\n.\r\nMAIL FROM:<x@y>", "a\u2028b\u2029c\u0085d\vb", "=?utf-8?q?=0D=0ABcc:_evil?=",
		"\u202eoff", "a\x00b\x1b[31m", "\xff\xfe", strings.Repeat("ü𝄞", 500), strings.Repeat("=?", 400), strings.Repeat("x", 4000)} {
		r := mailTo("smtp://mail.example.com:587")
		r.Mail.Subject, r.Mail.Text = text, text
		e, err := r.Mail.envelope()
		if err != nil {
			t.Fatal(err)
		}
		message, err := r.Mail.message(&e, r.ID)
		if err != nil {
			t.Fatal(err)
		}
		head, _, _ := strings.Cut(string(message), "\r\n\r\n")
		m, err := mail.ReadMessage(strings.NewReader(string(message)))
		if err != nil || len(m.Header) != 9 || strings.Contains(strings.ReplaceAll(head, "\r\n", ""), "\n") {
			t.Errorf("%.40q: %v, %q", text, err, head)
			continue
		}
		subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
		if err != nil || strings.ContainsAny(subject, "\r\n\u2028\u2029\u0085\v\x00\x1b\u202e") || subject == "" {
			t.Errorf("%.40q: the subject is %.60q, %v", text, subject, err)
		}
		for line := range strings.SplitSeq(string(message), "\r\n") {
			if len(line) > 998 || strings.ContainsAny(line, "\r\n") {
				t.Errorf("%.40q: a line of %d bytes", text, len(line))
			}
		}
	}
}

// TestMailSituations: what goes wrong with a mail server is told in words, in good time, and without the password.
func TestMailSituations(t *testing.T) {
	const again = "; that is for now: the next attempt may do"
	reply := func(command, text string) func(*smtptest.Server, *x509.Certificate) {
		return func(s *smtptest.Server, _ *x509.Certificate) { s.Replies = map[string]string{command: text} }
	}
	for _, tc := range []struct {
		name   string
		change func(*smtptest.Server, *x509.Certificate)
		url    string
		class  ErrorClass
		status int
		detail string
	}{
		{"greeting 421", reply("GREETING", "421 too many connections"), "", ErrorStatus, 421, "the mail server greeted with 421" + again},
		{"greeting 554", reply("GREETING", "554 no"), "", ErrorStatus, 554, "the mail server greeted with 554; it refuses this machine for now"},
		{"HTTP", reply("GREETING", "HTTP/1.1 400 Bad Request"), "", ErrorProtocol, 0, "the server does not speak SMTP on this port, but HTTP; is the port right?"},
		{"another protocol", reply("GREETING", "+OK a-password-of-mine"), "", ErrorProtocol, 0, "what the server sent as its answer to the greeting is not SMTP; is the port right?"},
		{"silent greeting", reply("GREETING", smtptest.Silence), "", ErrorTimeout, 0, short + " ended while waiting for its greeting; a port on which TLS begins at once, usually 465, needs smtps://"},
		{"endless greeting", reply("GREETING", smtptest.Endless), "", ErrorTooLarge, 0, "the mail server has sent more than 262144 bytes, and was to send short replies"},
		{"closed greeting", reply("GREETING", smtptest.Close), "", ErrorReset, 0, "the endpoint closed the connection while waiting for its greeting; a port on which TLS begins at once, usually 465, needs smtps://"},
		{"EHLO refused", func(s *smtptest.Server, _ *x509.Certificate) {
			s.Replies = map[string]string{"EHLO": "504 need a name", "HELO": "504 need a name"}
		}, "", ErrorStatus, 504, "the mail server answered 504 to EHLO; it does not like the name example.com, which is the domain of the sender"},
		{"HELO alone", reply("EHLO", "500 what?"), "", ErrorTLS, 0, errNoStartTLS.Error()},
		{"no STARTTLS", reply("EHLO", "250-mail\r\n250 AUTH PLAIN"), "", ErrorTLS, 0, errNoStartTLS.Error()},
		{"STARTTLS 454", reply("STARTTLS", "454 no TLS"), "", ErrorStatus, 454, "the mail server answered 454 to STARTTLS" + again},
		{"silent STARTTLS", reply("STARTTLS", smtptest.Silence), "", ErrorTimeout, 0, short + " ended during STARTTLS; its log may say why"},
		{"other name", func(_ *smtptest.Server, c *x509.Certificate) { c.DNSNames = []string{"other.example"} }, "", ErrorTLS, 0,
			"the certificate is not for mail.example.com, but for other.example, 127.0.0.1; is the host name right?"},
		{"expired", func(_ *smtptest.Server, c *x509.Certificate) {
			c.NotAfter = time.Date(2001, 2, 3, 4, 5, 0, 0, time.UTC)
		}, "", ErrorTLS, 0, "the certificate expired at 2001-02-03 04:05 UTC; renew it"},
		{"smtps on a port of smtp", nil, "smtps://mail.example.com:2465", ErrorTLS, 0, "the mail server does not begin with TLS on this port; write smtp:// for STARTTLS"},
		{"smtps on a port of HTTP", reply("GREETING", "HTTP/1.1 400 Bad Request"), "smtps://mail.example.com:2465", ErrorTLS, 0, "the server does not speak TLS on this port, but HTTP; is the port right?"},
		{"smtp on a port of smtps", func(s *smtptest.Server, _ *x509.Certificate) { s.Implicit = true }, "", ErrorTimeout, 0,
			short + " ended while waiting for its greeting; a port on which TLS begins at once, usually 465, needs smtps://"},
		{"wrong password", func(s *smtptest.Server, _ *x509.Certificate) { s.Password = "another" }, "", ErrorStatus, 535,
			"the mail server answered 535 to AUTH; are the user name and the password right? Some providers want a password that was made for programs"},
		{"wrong password, LOGIN", func(s *smtptest.Server, _ *x509.Certificate) { s.Password, s.Auth = "another", "LOGIN" }, "", ErrorStatus, 535,
			"the mail server answered 535 to AUTH; are the user name and the password right? Some providers want a password that was made for programs"},
		{"repeats the password", reply("AUTH", "535 no: a-password-of-mine AGhvb2tib2x0QGV4YW1wbGUuY29tAGEtcGFzc3dvcmQtb2YtbWluZQ=="), "", ErrorStatus, 535,
			"the mail server answered 535 to AUTH; are the user name and the password right? Some providers want a password that was made for programs"},
		{"asks on", reply("AUTH", "334 bW9yZQ=="), "", ErrorProtocol, 0, errAsksOn.Error()},
		{"no known AUTH", func(s *smtptest.Server, _ *x509.Certificate) { s.Auth = "XOAUTH2 GSSAPI" }, "", ErrorProtocol, 0, errNoSignIn.Error()},
		{"no AUTH", func(s *smtptest.Server, _ *x509.Certificate) { s.Auth = "" }, "", ErrorProtocol, 0, errNoSignIn.Error()},
		{"MAIL 550", reply("MAIL", "550 not you"), "", ErrorStatus, 550, "the mail server answered 550 to MAIL; may this account send as hookbolt@example.com?"},
		{"RCPT 550", reply("RCPT", "550 no such user"), "", ErrorStatus, 550,
			"the mail server answered 550 to RCPT; do the addresses exist, and may this machine send to them through this server?"},
		{"RCPT 450", reply("RCPT", "450 greylisted"), "", ErrorStatus, 450, "the mail server answered 450 to RCPT" + again},
		{"DATA 554", reply("DATA", "554 no"), "", ErrorStatus, 554, "the mail server answered 554 to DATA; its answer says why"},
		{"message 452", reply(".", "452 disk full"), "", ErrorStatus, 452, "the mail server answered 452 to the message" + again},
		{"message 552", reply(".", "552-too\r\n552 large"), "", ErrorStatus, 552, "the mail server answered 552 to the message; its answer says why"},
		{"silent message", reply(".", smtptest.Silence), "", ErrorTimeout, 0, short + " ended while waiting for its answer to the message; its log may say why"},
		{"closed message", reply(".", smtptest.Close), "", ErrorReset, 0, "the endpoint closed the connection while waiting for its answer to the message; its log may say why"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server, s := testServer(t, tc.change)
			r := signedMailTo("smtp://mail.example.com:587")
			if tc.url != "" {
				r.URL = tc.url
			}
			if strings.HasPrefix(tc.detail, short) {
				r.Timeout = 300 * time.Millisecond
			}
			o := sendMail(t, s, r)
			if o.Error != tc.class || o.Status != tc.status || o.ErrorDetail != tc.detail {
				t.Errorf("got %s %d %q\nwant %s %d %q", o.Error, o.Status, o.ErrorDetail, tc.class, tc.status, tc.detail)
			}
			if n := len(server.Messages()); n > 0 && tc.name != "silent message" && tc.name != "closed message" {
				t.Errorf("%d messages", n)
			}
			if strings.Contains(string(o.Response)+o.ErrorDetail, "a-password") || strings.Contains(string(o.Response), "LXBhc3N3b3") {
				t.Errorf("the password is in %q, %q", o.Response, o.ErrorDetail)
			}
			if tc.class == ErrorTLS && slices.ContainsFunc(server.Commands(), func(line string) bool { return strings.HasPrefix(line, "AUTH") || strings.HasPrefix(line, "MAIL") }) {
				t.Errorf("it was told %q without TLS", server.Commands())
			}
		})
	}
}

// TestMailOfLoopback: a mail server on this machine needs no TLS, and its certificate, which is made up most of the time, is not looked at. The guard
// has to allow the address.
func TestMailOfLoopback(t *testing.T) {
	server, _ := testServer(t, nil)
	server.TLS = nil
	address, end, err := server.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(end)
	s := New(Options{})
	o := sendMail(t, s, signedMailTo("smtp://"+address))
	if o.Error != ErrorAddressRefused || len(server.Commands()) > 0 {
		t.Errorf("%+v, %q", o, server.Commands())
	}
	s = New(Options{AllowNetworks: loopback})
	if o = sendMail(t, s, signedMailTo("smtp://"+address)); !o.Delivered() || o.Protocol != "ESMTPA" || o.Address != address || o.Phases.Connect == 0 {
		t.Errorf("%+v", o)
	}
	port := address[strings.LastIndexByte(address, ':')+1:]
	if o = sendMail(t, s, mailTo("smtp://localhost:"+port)); !o.Delivered() || o.Protocol != "ESMTP" {
		t.Errorf("without an account: %+v", o)
	}
	end()
	if o = sendMail(t, s, mailTo("smtp://"+address)); o.Error != ErrorRefused || !strings.Contains(o.ErrorDetail, "connection refused") {
		t.Errorf("%+v", o)
	}
}

// TestMailToSeveral: if the server refuses a recipient, the others get the mail, and the attempt tells who did not.
func TestMailToSeveral(t *testing.T) {
	server, s := testServer(t, func(server *smtptest.Server, _ *x509.Certificate) {
		server.Replies = map[string]string{"RCPT TO:<gone@example.com>": "550 no such user"}
	})
	r := signedMailTo("smtp://mail.example.com:587")
	r.Mail.To = []string{"gone@example.com", "Ops <ops@example.com>"}
	o := sendMail(t, s, r)
	if !o.Delivered() || string(o.Response) != "250 2.0.0 queued as 4711\ngone@example.com refused: 550 no such user" || len(server.Messages()) != 1 {
		t.Errorf("%+v %q", o, o.Response)
	}
	if data := server.Messages()[0].Data; !strings.Contains(data, "To: <gone@example.com>,\r\n \"Ops\" <ops@example.com>\r\n") {
		t.Error(data)
	}
}

// TestMailKeepsToSevenBits: whatever the server offers, nothing is asked for that the next server may not have.
func TestMailKeepsToSevenBits(t *testing.T) {
	server, s := testServer(t, func(server *smtptest.Server, _ *x509.Certificate) {
		server.Offers = []string{"8BITMIME", "SMTPUTF8", "SIZE 10000"}
	})
	if o := sendMail(t, s, signedMailTo("smtp://mail.example.com:587")); !o.Delivered() {
		t.Fatalf("%+v", o)
	}
	if !slices.Contains(server.Commands(), "MAIL FROM:<hookbolt@example.com>") {
		t.Errorf("%q", server.Commands())
	}
}

// TestMailCutOff: an attempt that is cut off returns at once, and says nothing of the server. Its timeout bounds it as a whole.
func TestMailCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &smtptest.Server{Replies: map[string]string{"GREETING": smtptest.Silence}}
		s := New(Options{})
		s.dialMail = func(context.Context, string, string) (net.Conn, error) {
			client, peer := net.Pipe()
			go server.Serve(peer)
			return client, nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(5*time.Second, cancel)
		begun := time.Now()
		r := mailTo("smtp://mail.example.com:587")
		r.Timeout = 15 * time.Second
		if _, err := s.Send(ctx, r); err == nil || time.Since(begun) != 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		begun = time.Now()
		if o, err := s.Send(t.Context(), r); err != nil || o.Error != ErrorTimeout || time.Since(begun) != 15*time.Second {
			t.Errorf("%+v, %v after %v", o, err, time.Since(begun))
		}
		synctest.Wait()
	})
}

func TestCanonicalMailURL(t *testing.T) {
	for _, tc := range []struct{ raw, want, wrong string }{
		{"smtps://mail.example.com", "smtps://mail.example.com:465", ""},
		{"SMTP://Mail.Example.COM/", "smtp://mail.example.com:587", ""},
		{"smtp://münchen.example:25", "smtp://xn--mnchen-3ya.example:25", ""},
		{"smtp://[::1]:2525", "smtp://[::1]:2525", ""},
		{"smtps://mail.example.com:2465", "smtps://mail.example.com:2465", ""},
		{"", "", "must be an smtp or smtps URL"},
		{"mail.example.com", "", "must be an smtp or smtps URL"},
		{"https://mail.example.com", "", "must be an smtp or smtps URL"},
		{"smtp://user:secret@mail.example.com", "", "must not hold a user name or password: they have settings of their own"},
		{"smtp://mail.example.com?starttls=no", "", "must end after the host and its port"},
		{"smtp://mail.example.com/path", "", "must end after the host and its port"},
		{"smtp://:587", "", "must name a host"},
		{"smtp://mail.example.com:0", "", "port must be 1 to 65535"},
		{"smtp://mail.example.com:465", "", "must be smtps:// with port 465, on which TLS begins at once"},
		{"smtps://mail.example.com:587", "", "must be smtp:// with port 587, on which TLS begins after STARTTLS"},
		{"smtps://mail.example.com:25", "", "must be smtp:// with port 25"},
		{"smtp://mail.example.com\n", "", "must not begin or end with a line break"},
	} {
		got, err := CanonicalMailURL(tc.raw)
		if got != tc.want || (err == nil) != (tc.wrong == "") || err != nil && !strings.HasPrefix(err.Error(), tc.wrong) {
			t.Errorf("%q: %q, %v", tc.raw, got, err)
		}
		if err == nil {
			if again, err := CanonicalMailURL(got); err != nil || again != got || !IsMailURL(got) {
				t.Errorf("%q becomes %q, %v", got, again, err)
			}
			if _, err := url.Parse(got); err != nil {
				t.Error(err)
			}
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("it shows a password: %v", err)
		}
	}
	if IsMailURL("https://smtp.example/") {
		t.Error("an HTTP endpoint is none")
	}
}

func TestParseMailbox(t *testing.T) {
	for text, want := range map[string]string{
		"alerts@example.com":                     "<alerts@example.com>",
		"hookbolt <Alerts+x@EXAMPLE.com>":        `"hookbolt" <Alerts+x@example.com>`,
		"Ünal <u@münchen.example>":               "=?utf-8?q?=C3=9Cnal?= <u@xn--mnchen-3ya.example>",
		"a@b@example.com":                        "",
		"alerts":                                 "",
		"ünal@example.com":                       "",
		`"a b"@example.com`:                      "",
		"alerts@[192.0.2.1]":                     "",
		"a@example.com, b@example.com":           "",
		"a@example.com\r\nBcc: evil@example.com": "",
		"evil\r\n<a@example.com>":                "",
		"":                                       "",
	} {
		box, err := ParseMailbox(text)
		if err == nil && box.String() != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", text, box.String(), err)
		}
	}
}

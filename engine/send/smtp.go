package send

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http/httptrace"
	"net/netip"
	"net/smtp"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	// maxMailBytes is how much of a mail server's side of a connection is read: a few short replies and its certificates.
	maxMailBytes = 256 << 10
	// quitTimeout is how long the goodbye may take. It changes nothing.
	quitTimeout = time.Second
	// mailAccepted is the reply to a message that the server has taken.
	mailAccepted = 250
)

// mailSession is one SMTP transaction on a connection of its own. It leaves the session to net/smtp, and speaks the transaction itself: net/smtp
// asks each server that has SMTPUTF8 for it, which the next server may not have, and drops the reply that says what became of the message.
type mailSession struct {
	attempt  *attempt
	envelope envelope
	conn     *mailConn
	client   *smtp.Client
	hooks    *httptrace.ClientTrace
	command  string // the last one, for people
	signedIn bool
}

// runMail is run for a mail server.
func (a *attempt) runMail(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, a.request.Timeout)
	defer cancel()
	to, err := url.Parse(a.request.URL)
	if err != nil {
		return fmt.Errorf("%w: the URL cannot be parsed", errNotMade) // err quotes the URL
	}
	m := &mailSession{attempt: a}
	if m.envelope, err = a.request.Mail.envelope(); err != nil {
		return err
	}
	message, err := a.request.Mail.message(&m.envelope, a.request.ID)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotMade, err)
	}
	x := a.trace.begin(&url.URL{Scheme: map[string]string{"smtps": "https"}[to.Scheme], Host: to.Host})
	ctx = a.trace.sending(a.trace.dialing(ctx, x), x)
	m.hooks = httptrace.ContextClientTrace(ctx)
	if err = m.dial(ctx, to); err != nil {
		return err
	}
	defer m.conn.Close()
	defer context.AfterFunc(ctx, func() { m.conn.SetDeadline(time.Unix(1, 0)) })()
	if !a.trace.mayGo() {
		return ErrWithdrawn
	}
	reply, err := m.transact(ctx, to, message)
	if refused, ok := errors.AsType[*textproto.Error](err); ok {
		m.keepReply(refused.Code, refused.Msg)
		a.outcome.Error, a.outcome.ErrorDetail = ErrorStatus, m.explainReply(refused.Code)
	} else if err != nil {
		return err
	} else {
		m.keepReply(mailAccepted, reply)
	}
	m.quit()
	return nil
}

// dial connects to the server.
func (m *mailSession) dial(ctx context.Context, to *url.URL) error {
	s := m.attempt.sender
	dial := s.dialMail
	if dial == nil {
		dial = s.guard.with(m.attempt.request.AllowNetworks).dialer(s.machine.resolver)
	}
	conn, err := dial(ctx, "tcp", to.Host)
	if err != nil {
		return err
	}
	m.conn = &mailConn{Conn: conn, left: maxMailBytes}
	m.attempt.trace.note(func(x *exchange) { x.mail = m.conn })
	return nil
}

// transact carries out the transaction and returns the reply to the message.
func (m *mailSession) transact(ctx context.Context, to *url.URL, message []byte) (reply string, err error) {
	if err = m.open(ctx, to); err != nil {
		return "", err
	}
	if err = m.signIn(); err != nil {
		return "", err
	}
	if _, err = m.say(250, "MAIL", "FROM:<%s>", m.envelope.from.Address); err != nil {
		return "", err
	}
	refused, err := m.sayRecipients()
	if err != nil {
		return "", err
	}
	if _, err = m.say(354, "DATA", ""); err != nil {
		return "", err
	}
	m.step("the message")
	w := m.client.Text.DotWriter()
	if _, err = w.Write(message); err != nil {
		return "", err
	}
	if err = w.Close(); err != nil {
		return "", err
	}
	_, reply, err = m.client.Text.ReadResponse(mailAccepted)
	return strings.Join(append([]string{reply}, refused...), "\n"), err
}

// open begins the session: the greeting, the introduction, and TLS. A connection to another machine is never left without TLS: what the server
// offers may be changed on the way.
func (m *mailSession) open(ctx context.Context, to *url.URL) (err error) {
	var conn net.Conn = m.conn
	if to.Scheme == "smtps" {
		config, err := m.tlsConfig(to.Hostname())
		if err != nil {
			return err
		}
		secure := tls.Client(conn, config)
		m.hooks.TLSHandshakeStart()
		if err = secure.HandshakeContext(ctx); err != nil {
			return err
		}
		m.hooks.TLSHandshakeDone(secure.ConnectionState(), nil)
		conn = secure
	}
	m.step("the greeting")
	if m.client, err = smtp.NewClient(conn, to.Hostname()); err != nil {
		return err
	}
	m.step("EHLO")
	if err = m.client.Hello(m.envelope.domain()); err != nil {
		return err
	}
	if to.Scheme == "smtps" || isLoopback(m.conn.RemoteAddr()) {
		return nil
	}
	if ok, _ := m.client.Extension("STARTTLS"); !ok {
		return errNoStartTLS
	}
	config, err := m.tlsConfig(to.Hostname())
	if err != nil {
		return err
	}
	m.step("STARTTLS")
	m.hooks.TLSHandshakeStart()
	if err = m.client.StartTLS(config); err == nil {
		state, _ := m.client.TLSConnectionState()
		m.hooks.TLSHandshakeDone(state, nil)
	}
	return err
}

// tlsConfig returns the TLS configuration for the server: that of the defaults. Mails have no TLS settings of their own.
func (m *mailSession) tlsConfig(host string) (config *tls.Config, err error) {
	config, m.attempt.tlsTrouble, err = m.attempt.sender.transports.byDefault(host)
	return config, err
}

// isLoopback reports whether a peer is on this machine: what is sent to it goes over no network. Its certificate would most likely be made
// up by the packager of a mail server, for no name that anybody calls it.
func isLoopback(peer net.Addr) bool {
	ap, err := netip.ParseAddrPort(peer.String())
	return err == nil && ap.Addr().Unmap().IsLoopback()
}

// signIn uses the account, if there is one.
func (m *mailSession) signIn() error {
	mail := m.attempt.request.Mail
	if mail.Username == "" {
		return nil
	}
	_, offered := m.client.Extension("AUTH")
	mechanisms := strings.Fields(strings.ToUpper(offered))
	for _, name := range []string{"PLAIN", "LOGIN"} {
		if !slices.Contains(mechanisms, name) {
			continue
		}
		m.step("AUTH")
		err := m.client.Auth(&mailAuth{mechanism: name, username: mail.Username, password: string(mail.Password)})
		m.signedIn = err == nil
		return err
	}
	return errNoSignIn
}

// mailAuth is PLAIN (RFC 4616), or LOGIN, which has no standard and is all that some servers offer. net/smtp has PLAIN alone, and refuses it on a
// connection to this machine under another name than localhost.
type mailAuth struct {
	mechanism, username, password string
	asked                         int
}

// Start implements smtp.Auth.
func (a *mailAuth) Start(*smtp.ServerInfo) (mechanism string, response []byte, err error) {
	if a.mechanism == "PLAIN" {
		return a.mechanism, []byte(a.plain()), nil
	}
	return a.mechanism, nil, nil
}

func (a *mailAuth) plain() string { return "\x00" + a.username + "\x00" + a.password }

// Next implements smtp.Auth.
func (a *mailAuth) Next(_ []byte, more bool) ([]byte, error) {
	answers := []string{}
	if a.mechanism == "LOGIN" {
		answers = []string{a.username, a.password}
	}
	a.asked++
	switch {
	case !more:
		return nil, nil
	case a.asked > len(answers):
		return nil, errAsksOn
	}
	return []byte(answers[a.asked-1]), nil
}

// credentials returns the forms in which a server may repeat the password that it was sent.
func (m *Mail) credentials() []string {
	if m == nil || m.Password == "" {
		return nil
	}
	a := mailAuth{username: m.Username, password: string(m.Password)}
	encode := base64.StdEncoding.EncodeToString
	return []string{a.password, encode([]byte(a.password)), encode([]byte(a.plain()))}
}

// sayRecipients names the recipients. If the server refuses some of them, the others get the message: whoever can be told is told. refused are
// its replies for those. The error is the reply to the last one if it refuses all.
func (m *mailSession) sayRecipients() (refused []string, err error) {
	for _, to := range m.envelope.to {
		_, oneErr := m.say(25, "RCPT", "TO:<%s>", to.Address)
		reply, ok := errors.AsType[*textproto.Error](oneErr)
		switch {
		case ok:
			refused = append(refused, fmt.Sprintf("%s refused: %d %s", to.Address, reply.Code, reply.Msg))
		case oneErr != nil:
			return nil, oneErr
		}
		if ok {
			err = oneErr
		}
	}
	if len(refused) < len(m.envelope.to) {
		err = nil
	}
	return refused, err
}

// say sends a command and returns the reply, which must have that code, or begin with it. It is a *textproto.Error otherwise.
func (m *mailSession) say(code int, command, format string, args ...any) (reply string, err error) {
	m.step(command)
	line := command
	if format != "" {
		line += " " + fmt.Sprintf(format, args...)
	}
	id, err := m.client.Text.Cmd("%s", line)
	if err != nil {
		return "", err
	}
	m.client.Text.StartResponse(id)
	defer m.client.Text.EndResponse(id)
	_, reply, err = m.client.Text.ReadResponse(code)
	return reply, err
}

// step notes what the server is to answer next.
func (m *mailSession) step(command string) {
	m.command = command
	m.attempt.trace.note(func(x *exchange) { x.phase, x.command = phaseWait, command })
}

// keepReply records the reply from which the outcome follows.
func (m *mailSession) keepReply(code int, text string) {
	m.hooks.GotFirstResponseByte()
	o := &m.attempt.outcome
	o.Status, o.Protocol = code, m.protocol()
	reply := redact(fmt.Appendf(nil, "%d %s", code, text), m.attempt.request.credentials(""))
	o.Response = reply[:min(len(reply), maxResponseBytes)]
}

// protocol names the kind of the transmission as RFC 3848 does.
func (m *mailSession) protocol() string {
	name := "ESMTP"
	if m.client == nil {
		return name
	}
	if _, ok := m.client.TLSConnectionState(); ok {
		name += "S"
	}
	if m.signedIn {
		name += "A"
	}
	return name
}

// quit says goodbye.
func (m *mailSession) quit() {
	if m.client != nil {
		m.conn.SetDeadline(time.Now().Add(quitTimeout))
		_ = m.client.Quit() // the outcome is known
	}
}

// errMailTooLong is the error of a server that sends more than maxMailBytes.
var errMailTooLong = errors.New("the mail server sends too much")

// mailConn is a connection to a mail server. It bounds what is read, because neither a reply nor a line of it has an end that the server must
// keep to, and remembers how the server began.
type mailConn struct {
	net.Conn
	left  int
	first []byte // at most beginningBytes; read by the goroutine of the attempt alone
}

func (c *mailConn) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, errMailTooLong
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	if room := beginningBytes - len(c.first); room > 0 {
		c.first = append(c.first, p[:min(n, room)]...)
	}
	return n, err
}

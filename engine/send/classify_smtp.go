package send

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/textproto"
)

// Errors of a mail server that offers too little. They are texts for people.
var (
	errNoStartTLS = errors.New("the mail server offers no STARTTLS, and the mail would be readable on its way; use smtps:// if the server has a port for it, usually 465")
	errNoSignIn   = errors.New("the mail server offers neither AUTH PLAIN nor AUTH LOGIN; if it takes mail without an account, remove the user name and the password")
	errAsksOn     = errors.New("the mail server asks for more than a user name and a password; does it want another way to sign in?")
)

// explainMail explains what only a mail server can do wrong.
func explainMail(err error, at situation) (ErrorClass, string) {
	if at.command == "" && !at.mail {
		return "", ""
	}
	if _, ok := errors.AsType[textproto.ProtocolError](err); ok { // it quotes the server
		if peer := speaks(at.first); peer != "" && peer != "SMTP or FTP" {
			return ErrorProtocol, fmt.Sprintf("the server does not speak SMTP on this port, but %s; is the port right?", peer)
		}
		return ErrorProtocol, fmt.Sprintf("what the server sent as its answer to %s is not SMTP; is the port right?", at.command)
	}
	if e, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		switch peer := speaks(e.RecordHeader[:]); peer {
		case "SMTP or FTP":
			return ErrorTLS, "the mail server does not begin with TLS on this port; write smtp:// for STARTTLS"
		case "":
			return ErrorTLS, "the mail server does not speak TLS on this port; is the port right?"
		default:
			return ErrorTLS, fmt.Sprintf("the server does not speak TLS on this port, but %s; is the port right?", peer)
		}
	}
	switch {
	case errors.Is(err, errMailTooLong):
		return ErrorTooLarge, fmt.Sprintf("the mail server has sent more than %d bytes, and was to send short replies", maxMailBytes)
	case errors.Is(err, errNoStartTLS):
		return ErrorTLS, err.Error()
	case errors.Is(err, errNoSignIn), errors.Is(err, errAsksOn):
		return ErrorProtocol, err.Error()
	}
	return "", ""
}

// explainReply explains a refusal.
func (m *mailSession) explainReply(code int) string {
	detail := fmt.Sprintf("the mail server answered %d to %s", code, m.command)
	if m.command == "the greeting" {
		detail = fmt.Sprintf("the mail server greeted with %d", code)
	}
	const mustSignIn, badCredentials = 530, 535
	hint := map[string]string{
		"the greeting": "it refuses this machine for now",
		"EHLO":         fmt.Sprintf("it does not like the name %s, which is the domain of the sender", m.envelope.domain()),
		"STARTTLS":     "its log may say why",
		"AUTH":         "it does not accept this way to sign in, or not now",
		"MAIL":         "may this account send as " + m.envelope.from.Address + "?",
		"RCPT":         "do the addresses exist, and may this machine send to them through this server?",
		"DATA":         "its answer says why",
		"the message":  "its answer says why",
	}[m.command]
	switch {
	case code == badCredentials:
		hint = "are the user name and the password right? Some providers want a password that was made for programs"
	case code == mustSignIn && m.attempt.request.Mail.Username == "":
		hint = "it wants a user name and a password"
	case code/100 == 4 && m.command != "AUTH":
		hint = "that is for now: the next attempt may do"
	}
	return detail + "; " + hint
}

// whileMail tells what a mail server was to do, with a hint.
func (at situation) whileMail() string {
	switch at.command {
	case "the greeting":
		return "while waiting for its greeting; a port on which TLS begins at once, usually 465, needs smtps://"
	case "STARTTLS":
		return "during STARTTLS; its log may say why"
	}
	return fmt.Sprintf("while waiting for its answer to %s; its log may say why", at.command)
}

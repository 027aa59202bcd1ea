// Package smtptest has a mail server for tests: it keeps what it gets, and fails at any step in the way that a test asks for.
package smtptest

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
)

// What a server may do in the place of a reply.
const (
	Silence = "silence" // it says nothing until the client goes
	Close   = "close"   // it closes the connection
	Endless = "endless" // it sends a line without an end
)

// Server is a mail server. Set its fields before it serves.
type Server struct {
	// TLS makes it offer STARTTLS, or begin with TLS if Implicit is set. Nil means neither.
	TLS      *tls.Config
	Implicit bool
	// Auth are the mechanisms that it offers, such as "PLAIN LOGIN"; "" for none. With TLS it offers them over TLS alone. Username and Password
	// are what it accepts.
	Auth, Username, Password string
	// Offers are further lines of its answer to EHLO.
	Offers []string
	// Replies takes the place of its own replies, by the command in capitals; "GREETING" is the one before all, "." the one to a message. A key
	// with an argument, such as "RCPT TO:<a@b.example>", is for that alone. A value is a reply, or one of the constants.
	Replies map[string]string
	// OnMessage is called before a message is acknowledged.
	OnMessage func(Message)

	mu       sync.Mutex
	messages []Message // guarded by mu
	commands []string  // guarded by mu
}

// Message is a message that a server got.
type Message struct {
	Hello, From string
	To          []string
	// Data is the message, without the dots that SMTP adds.
	Data string
	// TLS tells that it came over TLS, Auth by which mechanism its sender had signed in; "" for none.
	TLS  bool
	Auth string
}

// Messages returns the messages that were acknowledged, or to be.
func (s *Server) Messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Message(nil), s.messages...)
}

// Commands returns all lines that clients have sent outside of messages.
func (s *Server) Commands() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.commands...)
}

// Listen serves on a free port of 127.0.0.1. It returns the address, and what ends the server.
func (s *Server) Listen() (address string, end func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	var work sync.WaitGroup
	var mu sync.Mutex
	open := make(map[net.Conn]bool)
	work.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[conn] = true
			mu.Unlock()
			work.Go(func() { s.Serve(conn) })
		}
	})
	return listener.Addr().String(), func() {
		listener.Close()
		mu.Lock()
		for conn := range open {
			conn.Close()
		}
		mu.Unlock()
		work.Wait()
	}, nil
}

// session is one connection.
type session struct {
	server  *Server
	conn    net.Conn
	r       *bufio.Reader
	message Message
}

// Serve serves one connection, and closes it.
func (s *Server) Serve(conn net.Conn) {
	defer conn.Close()
	c := &session{server: s, conn: conn}
	if s.Implicit {
		c.secure()
	}
	c.r = bufio.NewReader(c.conn)
	if !c.reply("GREETING", "", "220 mail.example.com ESMTP") {
		return
	}
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		s.mu.Lock()
		s.commands = append(s.commands, line)
		s.mu.Unlock()
		command, argument, _ := strings.Cut(line, " ")
		if !c.obey(strings.ToUpper(command), argument) {
			return
		}
	}
}

func (c *session) secure() {
	c.conn = tls.Server(c.conn, c.server.TLS)
	c.message.TLS = true
}

// obey carries out a command. It reports whether the session goes on.
func (c *session) obey(command, argument string) bool {
	s := c.server
	switch command {
	case "EHLO":
		c.message.Hello = argument
		return c.reply(command, argument, c.offers())
	case "HELO":
		c.message.Hello = argument
		return c.reply(command, argument, "250 mail.example.com")
	case "STARTTLS":
		if !c.reply(command, "", "220 go ahead") {
			return false
		}
		if s.Replies[command] == "" {
			c.secure()
			c.r = bufio.NewReader(c.conn)
		}
		return true
	case "AUTH":
		return c.reply(command, argument, c.auth(argument))
	case "MAIL":
		c.message.From, c.message.To = argument, nil
		return c.reply(command, argument, "250 2.1.0 ok")
	case "RCPT":
		c.message.To = append(c.message.To, argument)
		return c.reply(command, argument, "250 2.1.5 ok")
	case "DATA":
		if !c.reply(command, "", "354 end with a dot") {
			return false
		}
		return s.Replies[command] != "" || c.data()
	case "QUIT":
		c.reply(command, "", "221 bye")
		return false
	}
	return c.reply(command, argument, "502 unknown command")
}

func (c *session) offers() string {
	s := c.server
	lines := append([]string{"mail.example.com"}, s.Offers...)
	if s.TLS != nil && !c.message.TLS {
		lines = append(lines, "STARTTLS")
	}
	if s.Auth != "" && (s.TLS == nil || c.message.TLS) {
		lines = append(lines, "AUTH "+s.Auth)
	}
	for i := range lines {
		separator := "-"
		if i == len(lines)-1 {
			separator = " "
		}
		lines[i] = "250" + separator + lines[i]
	}
	return strings.Join(lines, "\r\n")
}

// auth checks credentials and returns the reply.
func (c *session) auth(argument string) string {
	mechanism, initial, _ := strings.Cut(argument, " ")
	c.message.Auth = mechanism
	ask := func(prompt string) string {
		fmt.Fprintf(c.conn, "334 %s\r\n", base64.StdEncoding.EncodeToString([]byte(prompt)))
		line, _ := c.r.ReadString('\n')
		text, _ := base64.StdEncoding.DecodeString(strings.TrimSpace(line))
		return string(text)
	}
	given := ""
	switch mechanism {
	case "PLAIN":
		text, _ := base64.StdEncoding.DecodeString(initial)
		given = strings.TrimPrefix(string(text), "\x00")
	case "LOGIN":
		given = ask("Username:") + "\x00" + ask("Password:")
	}
	if given == "" || given != c.server.Username+"\x00"+c.server.Password {
		return "535 5.7.8 authentication failed"
	}
	return "235 2.7.0 welcome"
}

// data reads a message.
func (c *session) data() bool {
	var text strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return false
		}
		if line == ".\r\n" {
			break
		}
		text.WriteString(strings.TrimPrefix(line, "."))
	}
	s := c.server
	message := c.message
	message.Data, message.To = text.String(), append([]string(nil), c.message.To...)
	if reply := s.Replies["."]; reply == "" || strings.HasPrefix(reply, "2") {
		s.mu.Lock()
		s.messages = append(s.messages, message)
		s.mu.Unlock()
	}
	if s.OnMessage != nil {
		s.OnMessage(message)
	}
	return c.reply(".", "", "250 2.0.0 queued as 4711")
}

// reply sends a reply, or does what the test wants instead. It reports whether the session goes on.
func (c *session) reply(command, argument, usual string) bool {
	replies := c.server.Replies
	text := replies[command+" "+argument]
	if text == "" {
		text = replies[command]
	}
	switch text {
	case "":
		text = usual
	case Silence:
		io.Copy(io.Discard, c.r)
		return false
	case Close:
		return false
	case Endless:
		for {
			if _, err := io.WriteString(c.conn, strings.Repeat("250 endless", 1000)); err != nil {
				return false
			}
		}
	}
	_, err := io.WriteString(c.conn, text+"\r\n")
	return err == nil
}

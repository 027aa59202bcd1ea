package server_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"hookbolt/internal/hookbolttest"
	"hookbolt/internal/smtptest"
	"hookbolt/internal/teststore"
)

// mailPassword is that of the mail server's account.
const mailPassword = "a-password-of-mine"

// mailServer starts a mail server with an account. It returns the settings for it, and the messages that it gets.
func mailServer(t *testing.T, change func(*smtptest.Server)) (settings string, messages chan smtptest.Message) {
	t.Helper()
	messages = make(chan smtptest.Message, 10)
	server := &smtptest.Server{Auth: "PLAIN LOGIN", Username: "hookbolt", Password: mailPassword, OnMessage: func(m smtptest.Message) { messages <- m }}
	if change != nil {
		change(server)
	}
	address, end, err := server.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(end)
	password := hookbolttest.Write(t, filepath.Join(t.TempDir(), "password"), mailPassword+"\n")
	return fmt.Sprintf(`
allow_networks = ["127.0.0.1"]
operations_smtp = "smtp://%s"
operations_smtp_username = "hookbolt"
operations_smtp_password_file = '%s'
operations_mail_from = "hookbolt <hookbolt@example.com>"
operations_mail_to = ["ops@example.com"]
`, address, password), messages
}

// nextMail waits for a message.
func nextMail(t *testing.T, messages chan smtptest.Message) smtptest.Message {
	t.Helper()
	select {
	case m := <-messages:
		return m
	case <-time.After(hookbolttest.Timeout):
		t.Fatal("no mail came")
		panic("unreachable")
	}
}

// header returns a field of a message, as it is written there.
func header(m smtptest.Message, name string) string {
	if found := regexp.MustCompile(`(?m)^` + name + `: (.*)\r$`).FindStringSubmatch(m.Data); found != nil {
		return found[1]
	}
	return ""
}

// TestOperationsMail has a running server tell of a pause by mail, and show how it did.
func TestOperationsMail(t *testing.T) {
	settings, messages := mailServer(t, nil)
	dir := t.TempDir()
	config := hookbolttest.WriteConfig(t, dir, "", settings)
	p := hookbolttest.Start(t, "serve", "-config", config)
	api := p.URL(t)
	hostile := `a\r\nBcc: evil@example.com`
	status, answer := hookbolttest.Call(t, "POST", api+"/v1/webhooks", `{"url":"https://example.com/","name":"`+hostile+`"}`)
	hookbolttest.WantStatus(t, 201, status, answer)
	status, answer = hookbolttest.Call(t, "PATCH", api+"/v1/webhooks/2", `{"paused":true}`)
	hookbolttest.WantStatus(t, 200, status, answer)
	m := nextMail(t, messages)
	if header(m, "Subject") != "hookbolt: webhook 2 (a Bcc: evil@example.com) is paused" || header(m, "Bcc") != "" || m.Auth != "PLAIN" || m.Hello != "example.com" ||
		fmt.Sprint(m.To) != "[TO:<ops@example.com>]" || !strings.Contains(m.Data, "\r\nReason: paused by hand\r\n") {
		t.Errorf("%+v", m)
	}
	status, answer = hookbolttest.Call(t, "POST", api+"/v1/webhooks/1/test", "")
	hookbolttest.WantStatus(t, 202, status, answer)
	if m = nextMail(t, messages); header(m, "Subject") != "hookbolt: a test" {
		t.Errorf("%+v", m)
	}
	id, _, _ := strings.Cut(strings.TrimPrefix(header(m, "Message-ID"), "<"), "@")
	delivery := awaitEnd(t, api, id)
	if a := delivery.Attempts[0]; delivery.Status != "delivered" || a.Status != 250 || a.Protocol != "ESMTPA" || a.Response != "250 2.0.0 queued as 4711" {
		t.Errorf("%+v", delivery)
	}
	for _, path := range []string{"/webhooks/1", "/deliveries/" + id, "/webhooks", "/deliveries", "/", "/v1/webhooks/1", "/v1/webhooks"} {
		if status, page := hookbolttest.Call(t, "GET", api+path, ""); status != 200 || strings.Contains(page, mailPassword) {
			t.Errorf("%s: %d, %s", path, status, page)
		}
	}
	if status, page := hookbolttest.Call(t, "GET", api+"/webhooks/1", ""); status != 200 || !strings.Contains(page, "operational events by mail, as delivery.operations_smtp asks for") {
		t.Error(page)
	}
	if code := p.End(t); code != 0 || strings.Contains(p.Stderr.String(), mailPassword) {
		t.Errorf("exit code %d: %s", code, p.Stderr)
	}
	if _, out, _ := hookbolttest.Run(t, "config", "check", "-config", config); strings.Contains(out, mailPassword) || !strings.Contains(out, `operations_smtp_password = "…"`) {
		t.Error(out)
	}
	if teststore.Postgres() { // there is no file
		return
	}
	if database := hookbolttest.Read(t, filepath.Join(dir, "test.db")); strings.Contains(database, mailPassword) {
		t.Error("the password is in the database")
	}
}

// shownEnd is a delivery as the API shows it.
type shownEnd struct {
	Status   string
	Attempts []struct {
		Status                                 int
		Protocol, Response, Error, ErrorDetail string
	}
}

// awaitEnd waits until an attempt of a delivery is recorded.
func awaitEnd(t *testing.T, api, id string) shownEnd {
	t.Helper()
	for deadline := time.Now().Add(hookbolttest.Timeout); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		status, answer := hookbolttest.Call(t, "GET", api+"/v1/deliveries/"+id, "")
		hookbolttest.WantStatus(t, 200, status, answer)
		var shown shownEnd
		if err := json.Unmarshal([]byte(answer), &shown); err != nil {
			t.Fatal(err)
		}
		if len(shown.Attempts) > 0 {
			return shown
		}
	}
	t.Fatal("no attempt was recorded")
	return shownEnd{}
}

// TestMailAfterKill: a server that is killed between the message and the record of it sends the message again, with the same Message-ID and the same
// bytes, so that a mailbox shows it once.
func TestMailAfterKill(t *testing.T) {
	var child *hookbolttest.Child
	first, answered := true, make(chan struct{}) // closed when the test was answered: the mail may be faster
	settings, messages := mailServer(t, func(s *smtptest.Server) {
		taken := s.OnMessage
		s.OnMessage = func(m smtptest.Message) {
			if first { // the reply comes too late
				first = false
				select {
				case <-answered:
				case <-t.Context().Done():
				}
				child.Process.Kill()
				child.Wait()
			}
			taken(m)
		}
	})
	config := hookbolttest.WriteConfig(t, t.TempDir(), "", settings)
	child = hookbolttest.Spawn(t, config)
	status, answer := hookbolttest.Call(t, "POST", child.URL+"/v1/webhooks/1/test", "")
	close(answered)
	hookbolttest.WantStatus(t, 202, status, answer)
	before := nextMail(t, messages)
	hookbolttest.Spawn(t, config)
	after := nextMail(t, messages)
	if before.Data != after.Data || header(before, "Message-ID") == "" {
		t.Errorf("first\n%s\nthen\n%s", before.Data, after.Data)
	}
	select {
	case m := <-messages:
		t.Errorf("once more: %s", m.Data)
	case <-time.After(100 * time.Millisecond):
	}
}

// TestReloadOfOperationsMail: a reload changes the recipients, the way from an HTTP endpoint to a mail server, and back to nothing. What it refuses
// changes nothing.
func TestReloadOfOperationsMail(t *testing.T) {
	settings, messages := mailServer(t, nil)
	dir := t.TempDir()
	config := hookbolttest.WriteConfig(t, dir, "", `operations_url = "https://ops.example.com/"`)
	child := spawnForSignals(t, config)
	reload := func(delivery, want string) { // want is in the log once, after that
		t.Helper()
		hookbolttest.WriteConfig(t, dir, "", delivery)
		if err := child.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		child.Log.Find(t, want)
	}
	test := func(want string) {
		t.Helper()
		status, answer := hookbolttest.Call(t, "POST", child.URL+"/v1/webhooks/1/test", "")
		hookbolttest.WantStatus(t, 202, status, answer)
		if m := nextMail(t, messages); fmt.Sprint(m.To) != want {
			t.Errorf("to %v, want %s", m.To, want)
		}
	}
	reload(settings, `msg="settings reloaded" changed="?\[.*operations_smtp_username`)
	test("[TO:<ops@example.com>]")
	reload(strings.Replace(settings, `["ops@example.com"]`, `["a@example.com", "b@example.com"]`, 1), `msg="settings reloaded" changed="?\[delivery.operations_mail_to\]`)
	test("[TO:<a@example.com> TO:<b@example.com>]")
	reload(strings.Replace(settings, "smtp://127.0.0.1", "smtp://10.1.2.3", 1), `level=ERROR msg="the settings were not reloaded; the previous ones stay in effect" error="delivery.operations_smtp: .*allow_networks`)
	reload(settings+"operations_url = \"https://ops.example.com/\"\n", `level=ERROR msg="the settings were not reloaded.*delivery.operations_url is set, too`)
	test("[TO:<a@example.com> TO:<b@example.com>]")
	reload("", `(?s)msg="settings reloaded" .*msg="settings reloaded" .*msg="settings reloaded" `)
	if _, answer := hookbolttest.Call(t, "GET", child.URL+"/v1/webhooks", ""); strings.Contains(answer, "smtp://") || strings.Contains(child.Log.String(), mailPassword) {
		t.Errorf("%s\n%s", answer, child.Log)
	}
}

package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"hookbolt/engine"
)

// urlVariable says where a running server is, for commands that call it.
const urlVariable = environmentPrefix + "URL"

// tokenVariable holds the token that commands send to a running server.
const tokenVariable = environmentPrefix + "TOKEN"

const (
	// callTimeout is for a whole call, its answer included: longer than a commit on a slow disk, short enough for a script.
	callTimeout = 30 * time.Second
	// maxAnswer bounds what is read of an answer: a page of a list has some hundred entries of a few KiB.
	maxAnswer = 64 << 20
)

// client calls the HTTP API of a running server, for commands.
type client struct {
	base  string // without a slash at the end
	token string // "" for none
	http  *http.Client
}

// clientFlags adds the flags of commands that call a running server. What it returns makes the client once they are parsed, and is to be
// closed.
func clientFlags(fs *flag.FlagSet) func() (*client, error) {
	base := fs.String("url", cmp.Or(os.Getenv(urlVariable), "http://127.0.0.1:8080"), "call the server at `URL`; or HOOKBOLT_URL in the environment")
	tokenFile := fs.String("token-file", "", "take its admin token, if it wants one, from the first line of `FILE`; or HOOKBOLT_TOKEN in the environment")
	return func() (*client, error) {
		u, err := url.Parse(*base)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			shown := *base
			if err == nil {
				shown = u.Redacted()
			}
			return nil, usageError{fmt.Errorf("%s: -url must be an http or https URL, such as https://hooks.example.com (got %.100q)", fs.Name(), shown)}
		}
		token := os.Getenv(tokenVariable)
		if *tokenFile != "" {
			if token, err = readSecretFile(*tokenFile); err != nil {
				return nil, fmt.Errorf("-token-file: %w", err)
			}
			// The server's own http.admin_tokens_file will do, which has a line for each.
			token, _, _ = strings.Cut(token, "\n")
			token = strings.TrimSpace(token)
		}
		return newClient(*base, token), nil
	}
}

// newClient makes a client of the server at base; token may be "".
func newClient(base, token string) *client {
	return &client{
		base: strings.TrimRight(base, "/"), token: token,
		http: &http.Client{
			Transport: http.DefaultTransport.(*http.Transport).Clone(), Timeout: callTimeout,
			// One that is followed may turn a PATCH into a GET. The server sends none; a proxy that does has another URL in mind.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// close lets go of the connections.
func (c *client) close() { c.http.CloseIdleConnections() }

// call makes a call. in is sent as JSON, nil for no body; the answer's JSON goes to out, nil if it is of no interest. The error is one
// line; an answer other than 2xx is an *answerError.
func (c *client) call(ctx context.Context, method, path string, in, out any) error {
	answer, err := c.fetch(ctx, method, path, in)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s %s: the answer is not what hookbolt says there: is -url right? (%s)", method, c.base+path, oneLine(err.Error()))
	}
	return nil
}

// fetch is call for an answer that is not JSON: it returns the body.
func (c *client) fetch(ctx context.Context, method, path string, in any) ([]byte, error) {
	body := io.Reader(http.NoBody)
	if in != nil {
		body = bytes.NewReader(writeJSON(in))
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "hookbolt/"+readVersion().Version)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s %s: %w", method, c.base+path, context.Cause(ctx))
	default:
		if failed, ok := errors.AsType[*url.Error](err); ok {
			err = failed.Err
		}
		return nil, fmt.Errorf("%s %s: %w; -url says where the server is", method, c.base+path, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s %s: the answer broke off: %w", method, c.base+path, err)
	case resp.StatusCode/100 != 2:
		return nil, newAnswerError(method+" "+c.base+path, resp, answer)
	case len(answer) > maxAnswer:
		return nil, fmt.Errorf("%s %s: the answer has more than %d bytes", method, c.base+path, maxAnswer)
	}
	return answer, nil
}

// writeJSON writes JSON with text as it came: the body of a webhook's token request is kept as it is sent. What it is given can always be
// written.
func writeJSON(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// list gets all entries of a list, page by page. path has no query.
func list[T any](ctx context.Context, c *client, path string) ([]T, error) {
	var all []T
	const query = "?limit=200" // the most that there can be
	for cursor := ""; ; {
		var page struct {
			Items      []T     `json:"items"`
			NextCursor *string `json:"next_cursor"`
		}
		if err := c.call(ctx, http.MethodGet, path+query+cursor, nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if page.NextCursor == nil {
			return all, nil
		}
		cursor = "&cursor=" + url.QueryEscape(*page.NextCursor)
	}
}

// answerError is an answer other than 2xx.
type answerError struct {
	Call   string // such as "GET http://127.0.0.1:8080/v1/webhooks"
	Status int
	// Detail says what is wrong, in one line that steers no terminal.
	Detail string
}

// Error is one line.
func (e *answerError) Error() string {
	return fmt.Sprintf("%s: %d %s: %s", e.Call, e.Status, cmp.Or(http.StatusText(e.Status), "(a status without a name)"), e.Detail)
}

// newAnswerError reads a problem, of which errors tell more than the detail. What somebody else has answered is told by its beginning.
func newAnswerError(call string, resp *http.Response, body []byte) *answerError {
	e := &answerError{Call: call, Status: resp.StatusCode}
	var problem struct {
		Detail string              `json:"detail"`
		Errors []engine.InputError `json:"errors"`
	}
	if json.Unmarshal(body, &problem) != nil || problem.Detail == "" {
		e.Detail = fmt.Sprintf("not an answer of hookbolt's; is -url right? It begins with %.100q", oneLine(string(body[:min(len(body), 200)])))
		if to := resp.Header.Get("Location"); to != "" {
			e.Detail = fmt.Sprintf("it points to %.200q; is -url right?", oneLine(to))
		}
		return e
	}
	details := []string{problem.Detail}
	if len(problem.Errors) > 0 {
		details = nil
	}
	for _, bad := range problem.Errors {
		if bad.Field != "" {
			bad.Detail = bad.Field + ": " + bad.Detail
		}
		details = append(details, bad.Detail)
	}
	e.Detail = oneLine(strings.Join(details, "; "))
	if resp.StatusCode == http.StatusUnauthorized {
		e.Detail += "; set " + tokenVariable + " to one of the server's http.admin_tokens, or give a file that has one by -token-file"
	}
	return e
}

// oneLine makes text of others one line that steers no terminal.
func oneLine(s string) string { return strings.Join(strings.Fields(printable(s)), " ") }

// maxSecretFile bounds a file that holds a secret, in bytes: what a webhook takes is smaller.
const maxSecretFile = 64 << 10

// readSecretFile reads a secret from a file of its own. Line ends at its end do not belong to it: editors and echo put them there.
func readSecretFile(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxSecretFile+1))
	secret := strings.TrimRight(string(text), "\r\n")
	switch {
	case err != nil:
		return "", err
	case len(text) > maxSecretFile:
		return "", fmt.Errorf("%s has more than %d bytes: that is no secret", path, maxSecretFile)
	case secret == "":
		return "", fmt.Errorf("%s is empty", path)
	}
	return secret, nil
}

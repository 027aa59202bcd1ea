package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"hookbolt/internal/buildinfo"
	"hookbolt/internal/text"
)

const (
	// callTimeout bounds a whole call, including the response: longer than a commit on a slow disk, short enough for a script.
	callTimeout = 30 * time.Second
	// maxAnswer bounds how much of a response is read. A page of a list has some hundred entries of a few KiB.
	maxAnswer = 64 << 20
)

// Client calls the API of one server. Its methods may be called from several goroutines.
type Client struct {
	base  string // without a slash at the end
	token string // "" for none
	http  *http.Client
}

// New creates a client of the server at base, a URL. It sends the token with each call, unless it is "".
func New(base, token string) *Client {
	return &Client{
		base: strings.TrimRight(base, "/"), token: token,
		http: &http.Client{
			Transport: http.DefaultTransport.(*http.Transport).Clone(), Timeout: callTimeout,
			// Following a redirect may turn a PATCH into a GET. The server sends none; a proxy that does expects another URL.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Base is the URL of the server, without a slash at its end.
func (c *Client) Base() string { return c.base }

// Close closes the connections that are idle.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Call makes a call. in is sent as JSON; nil sends no body. The response's JSON is decoded into out, unless that is nil. The errors
// are those of Fetch, and ErrNotHookbolt for a response that does not fit out.
func (c *Client) Call(ctx context.Context, method, path string, in, out any) error {
	answer, err := c.Fetch(ctx, method, path, in)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return NotHookbolt("%s %s: the answer is not what hookbolt says there (%s)", method, c.base+path, text.OneLine(err.Error()))
	}
	return nil
}

// Fetch is Call for a response that is not JSON: it returns the body. The error is a *StatusError for a status other than 2xx, and
// ErrUnreachable if there was no response.
func (c *Client) Fetch(ctx context.Context, method, path string, in any) ([]byte, error) {
	body := io.Reader(http.NoBody)
	if in != nil {
		body = bytes.NewReader(EncodeJSON(in))
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "hookbolt/"+buildinfo.Read().Version)
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
		return nil, &unreachable{fmt.Errorf("%s %s: %w", method, c.base+path, err)}
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(bodyOf(resp), maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s %s: the answer broke off: %w", method, c.base+path, err)
	case resp.StatusCode/100 != 2:
		return nil, newStatusError(method+" "+c.base+path, resp, answer)
	case len(answer) > maxAnswer:
		return nil, fmt.Errorf("%s %s: the answer has more than %d bytes", method, c.base+path, maxAnswer)
	}
	return answer, nil
}

// bodyOf is the body of a response. A 101 has none: net/http hands the connection over then, and no context ends a read.
func bodyOf(resp *http.Response) io.Reader {
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return http.NoBody
	}
	return resp.Body
}

// EncodeJSON encodes JSON without escaping HTML: the body of a webhook's token request is stored as it is sent. It panics if v cannot
// be encoded.
func EncodeJSON(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// List gets all entries of a list, page by page. path may have a query.
func List[T any](ctx context.Context, c *Client, path string) ([]T, error) {
	var all []T
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	path += separator + "limit=200" // the API's maximum
	for cursor := ""; ; {
		var page struct {
			Items      []T     `json:"items"`
			NextCursor *string `json:"next_cursor"`
		}
		if err := c.Call(ctx, http.MethodGet, path+cursor, nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if page.NextCursor == nil {
			return all, nil
		}
		cursor = "&cursor=" + url.QueryEscape(*page.NextCursor)
	}
}

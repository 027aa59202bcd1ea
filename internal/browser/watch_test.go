package browser

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/inspector"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
)

// watch records what no tab may do: errors on the console, exceptions, violations of the Content-Security-Policy and other findings of Chromium's
// audits, requests that fail or get a status of 400 or more, requests to other servers, and dialogs, which no page opens but an injected
// script might.
type watch struct {
	origin string // the server's URL

	mu       sync.Mutex
	others   []string                     // guarded by mu; other servers to which requests are allowed
	requests []string                     // guarded by mu; the method and path of each request to the server
	urls     map[network.RequestID]string // guarded by mu
	bytes    float64                      // guarded by mu; received over the network
	trouble  []string                     // guarded by mu
	excuses  map[string]bool              // guarded by mu; text of excused trouble, and whether there was some
}

func newWatch(origin string) *watch {
	return &watch{origin: origin, urls: make(map[network.RequestID]string), excuses: make(map[string]bool)}
}

// see handles an event of the tab. It is called for one event after another.
func (w *watch) see(event any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		w.urls[e.RequestID] = e.Request.URL
		switch path, ours := strings.CutPrefix(e.Request.URL, w.origin); {
		case ours:
			w.requests = append(w.requests, e.Request.Method+" "+path)
		case !strings.HasPrefix(e.Request.URL, "data:") && !slices.ContainsFunc(w.others, func(other string) bool { return strings.HasPrefix(e.Request.URL, other+"/") }):
			w.complain("a request to elsewhere: %s %s", e.Request.Method, e.Request.URL)
		}
	case *network.EventResponseReceived:
		if e.Response.Status >= 400 {
			w.complain("status %d: %s", e.Response.Status, e.Response.URL)
		}
	case *network.EventLoadingFinished:
		w.bytes += e.EncodedDataLength
	case *network.EventLoadingFailed:
		if !e.Canceled || e.BlockedReason != "" { // a page that is closed cancels its requests
			w.complain("a request failed: %s %s: %s", e.ErrorText, e.BlockedReason, w.urls[e.RequestID])
		}
	case *log.EventEntryAdded:
		// Failed requests are recorded above, with more details.
		if e.Entry.Source != log.EntrySourceNetwork && (e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning) {
			w.complain("%s %s: %s", e.Entry.Source, e.Entry.Level, e.Entry.Text)
		}
	case *runtime.EventConsoleAPICalled:
		if slices.Contains([]runtime.ConsoleAPICalledType{runtime.ConsoleAPICalledTypeError, runtime.ConsoleAPICalledTypeWarning, runtime.ConsoleAPICalledTypeAssert}, e.Type) {
			w.complain("console.%s: %s", e.Type, compact(e.Args))
		}
	case *runtime.EventExceptionThrown:
		w.complain("uncaught: %s", compact(e.ExceptionDetails))
	case *audits.EventIssueAdded:
		if d := e.Issue.Details.GenericIssueDetails; d != nil && d.ErrorType == audits.GenericIssueErrorTypeFormInputAssignedAutocompleteValueToIDOrNameAttributeError {
			return // only advice: browsers cannot fill in the name of a webhook
		}
		w.complain("%s: %s", e.Issue.Code, compact(e.Issue.Details))
	case *inspector.EventTargetCrashed:
		w.complain("the tab has crashed")
	case *cdppage.EventJavascriptDialogOpening:
		w.complain("a dialog: %s %q", e.Type, e.Message)
	}
}

// complain records trouble unless it is excused. w.mu is held.
func (w *watch) complain(format string, args ...any) {
	complaint := fmt.Sprintf(format, args...)
	for text := range w.excuses {
		if strings.Contains(complaint, text) {
			w.excuses[text] = true
			return
		}
	}
	w.trouble = append(w.trouble, complaint)
}

// findings returns the trouble, and the excuses for which there was none.
func (w *watch) findings() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	found := slices.Clone(w.trouble)
	for text, used := range w.excuses {
		if !used {
			found = append(found, "expected and never seen: "+text)
		}
	}
	return found
}

func compact(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

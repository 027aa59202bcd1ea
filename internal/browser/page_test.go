package browser

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// The widths of the windows.
const (
	desktop = 1280
	phone   = 390
)

// look is how a tab shows pages. The zero value is a desktop with light colours and JavaScript.
type look struct {
	width    int // 0 means desktop; phone also has a touch screen
	dark     bool
	noScript bool // JavaScript is off
}

// pixels returns the width of the window.
func (l look) pixels() int { return cmp.Or(l.width, desktop) }

// String returns a name for subtests and screenshots.
func (l look) String() string {
	scheme := "light"
	if l.dark {
		scheme = "dark"
	}
	if l.noScript {
		scheme += "-noscript"
	}
	return fmt.Sprintf("%d-%s", l.pixels(), scheme)
}

// page is a tab of the browser, with its own cookies. Its methods fail the test if they do not succeed within patience, and print the text of
// the page then. Call them only from the test's goroutine.
//
//	s, e := startServer(t), newEndpoint(t)
//	p := newPage(t, s, look{width: phone})
//	p.open("/new-webhook")
//	p.fill(field("URL"), e.url)
//	p.follow(button("Create webhook"))
//	p.waitFor("whsec_")
//	axe(t, p)
type page struct {
	t     *testing.T
	url   string // the server's
	look  look
	ctx   context.Context
	watch *watch
}

// newPage opens a tab. It is closed at the end of the test. The test fails if there was trouble in the tab (see watch) that expect has not
// excused.
func newPage(t *testing.T, s *server, l look) *page {
	t.Helper()
	p := &page{t: t, url: s.url, look: l, watch: newWatch(s.url)}
	var dialogs sync.WaitGroup
	ctx, cancel := chromedp.NewContext(useChromium(t), chromedp.WithNewBrowserContext(), chromedp.WithListener(func(event any) {
		p.watch.see(event)
		if _, ok := event.(*cdppage.EventJavascriptDialogOpening); ok { // the page waits until the dialog is closed
			dialogs.Go(func() {
				chromedp.Call(p.ctx, cdppage.HandleJavaScriptDialog, cdppage.HandleJavaScriptDialogParams{Accept: true})
			})
		}
	}))
	p.ctx = ctx
	t.Cleanup(func() {
		// Events arrive in order: after this one, all earlier ones were handled.
		bounded, stop := context.WithTimeout(ctx, patience)
		defer stop()
		if _, err := chromedp.Run(bounded, chromedp.Evaluate[int]("1")); err != nil {
			t.Errorf("the tab does not answer: %v", err)
		}
		cancel()
		dialogs.Wait()
		for _, finding := range p.watch.findings() {
			t.Errorf("in the tab: %s", finding)
		}
	})
	// A tab lives as long as the context with which it is opened, so this one has no timeout.
	if err := chromedp.Do(ctx, l.emulate()); err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	return p
}

// emulate applies a look to the tab.
func (l look) emulate() chromedp.Action[chromedp.Void] {
	viewport := chromedp.EmulateViewport(desktop, 900)
	if l.width == phone {
		viewport = chromedp.EmulateViewport(phone, 844, chromedp.EmulateMobile, chromedp.EmulateTouch, chromedp.EmulatePortrait)
	}
	scheme := "light"
	if l.dark {
		scheme = "dark"
	}
	return chromedp.Steps(viewport, chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		if _, err := cdp.Call(ctx, tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
		}}); err != nil {
			return err
		}
		if _, err := cdp.Call(ctx, tab, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: l.noScript}); err != nil {
			return err
		}
		_, err := cdp.Call(ctx, tab, audits.Enable, cdp.Empty{})
		return err
	}))
}

// expect excuses trouble that contains text, such as "status 400" or "ERR_CONNECTION_REFUSED". The test fails if there is none by its end.
func (p *page) expect(text string) {
	p.watch.mu.Lock()
	defer p.watch.mu.Unlock()
	p.watch.excuses[text] = false
}

// awaitExpected waits for trouble that expect has excused: a page that is closed earlier may not report it.
func (p *page) awaitExpected(text string) {
	p.t.Helper()
	if !await(func() bool {
		p.watch.mu.Lock()
		defer p.watch.mu.Unlock()
		return p.watch.excuses[text]
	}) {
		p.t.Fatalf("no trouble with %q", text)
	}
}

// allow lets the tab send requests to another server, too.
func (p *page) allow(url string) {
	p.watch.mu.Lock()
	defer p.watch.mu.Unlock()
	p.watch.others = append(p.watch.others, url)
}

// requests returns the method and path of every request to the server so far, and the size of the responses, headers included.
func (p *page) requests() (requests []string, bytes int) {
	p.watch.mu.Lock()
	defer p.watch.mu.Unlock()
	return slices.Clone(p.watch.requests), int(p.watch.bytes)
}

// Selectors of elements by what a person sees. Each is a script that finds one or more elements; the first one is used.

// css selects elements without a name.
func css(selector string) chromedp.JSPath {
	return chromedp.JSPath("document.querySelectorAll(" + compact(selector) + ")")
}

// button selects the button, or the link that looks like one, with that text or aria-label.
func button(name string) chromedp.JSPath { return named("button, a.button, summary", name) }

func named(selector, name string) chromedp.JSPath {
	return chromedp.JSPath(fmt.Sprintf(`[...document.querySelectorAll(%s)].filter(e => (e.ariaLabel || e.innerText).trim() === %s)`, compact(selector), compact(name)))
}

// field selects the input, select or textarea whose label has that text.
func field(label string) chromedp.JSPath {
	return chromedp.JSPath(fmt.Sprintf(`[...document.querySelectorAll("label")].filter(e => e.innerText.trim() === %s).map(e => e.control)`, compact(label)))
}

// open loads a page of the server, waits until it is loaded, and returns the status.
func (p *page) open(path string) int {
	p.t.Helper()
	response := do(p, "open "+path, chromedp.NavigateResponse(p.url+path))
	return int(response.Status)
}

// follow clicks a link or a form's button, waits until the next page is loaded, and returns the status.
func (p *page) follow(element chromedp.JSPath) int {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	response, err := chromedp.RunResponse(ctx, chromedp.Click(element, chromedp.NodeVisible))
	if err != nil {
		p.fatal("follow "+string(element), err)
	}
	return int(response.Status)
}

// click clicks an element that leads to no other page.
func (p *page) click(element chromedp.JSPath) {
	p.t.Helper()
	do(p, "click "+string(element), chromedp.Click(element, chromedp.NodeVisible))
}

// fill replaces the text of a field.
func (p *page) fill(element chromedp.JSPath, text string) {
	p.t.Helper()
	do(p, "fill "+string(element), chromedp.Steps(
		chromedp.Focus(element, chromedp.NodeVisible),
		chromedp.Evaluate[chromedp.Void]("document.activeElement.select()"),
		chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
			_, err := cdp.Call(ctx, tab, input.InsertText, input.InsertTextParams{Text: text})
			return err
		})))
}

// press presses keys one after another: those of package kb, such as kb.Tab, or text.
func (p *page) press(keys string) {
	p.t.Helper()
	do(p, "press a key", chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		for _, key := range keys {
			for _, event := range kb.Encode(key) {
				// Not chromedp.KeyEvent: with it, an Enter that follows a link to a form also submits the form.
				if event.Type == kb.KeyDown {
					event.Type = kb.KeyRawDown
				}
				if _, err := cdp.Call(ctx, tab, input.DispatchKeyEvent, *event); err != nil {
					return err
				}
			}
		}
		return nil
	}))
}

// wait waits until a JavaScript expression is true. It also works if JavaScript is off in the page, and across page loads.
func (p *page) wait(expression string) {
	p.t.Helper()
	var err error
	if !await(func() bool {
		ctx, cancel := context.WithTimeout(p.ctx, patience)
		defer cancel()
		var ok bool
		ok, err = chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean("+expression+")"))
		return ok
	}) {
		p.fatal("wait for "+expression, cmp.Or(err, fmt.Errorf("it has not come in %v", patience)))
	}
}

// waitFor waits until the page contains text. The options of a select count, too: the filter of the deliveries contains every status.
func (p *page) waitFor(text string) {
	p.t.Helper()
	p.wait("document.body.innerText.includes(" + compact(text) + ")")
}

// text returns the text of the page.
func (p *page) text() string {
	p.t.Helper()
	return eval[string](p, "document.body.innerText")
}

// picture writes a screenshot of the whole page as a PNG, including what the window does not show.
func (p *page) picture(path string) {
	p.t.Helper()
	png := do(p, "take a picture", chromedp.FullScreenshot(100))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path, png, 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// eval returns the value of a JavaScript expression in the page.
func eval[T any](p *page, expression string) T {
	p.t.Helper()
	return do(p, "evaluate "+expression, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// do runs actions in the tab.
func do[T any](p *page, what string, action chromedp.Action[T]) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	result, err := chromedp.Run(ctx, action)
	if err != nil {
		p.fatal(what, err)
	}
	return result
}

// fatal fails the test and prints the text of the page.
func (p *page) fatal(what string, err error) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	shown, unreadable := chromedp.Run(ctx, chromedp.Evaluate[string](`location.href + "\n" + document.body?.innerText`))
	if unreadable != nil {
		shown = unreadable.Error()
	}
	p.t.Fatalf("%s: %v\nThe page:\n\t%s", what, err, strings.ReplaceAll(shown, "\n", "\n\t"))
}

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

// The widths that pages are looked at.
const (
	desktop = 1280
	phone   = 390
)

// look is how a browser shows pages. The zero value is a desktop's, light, with JavaScript.
type look struct {
	width    int // 0 stands for desktop; at phone it is one, with a touch screen
	dark     bool
	noScript bool // JavaScript is off
}

// pixels is how wide the window is.
func (l look) pixels() int { return cmp.Or(l.width, desktop) }

// String is used in the names of tests and pictures.
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

// page is a tab of the browser, with cookies of its own. Its methods fail the test when they cannot do what they are told within
// patience, and print what the page shows then. They are for the test's goroutine only.
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

// newPage opens a tab. It is closed at the end of the test, which fails if there was trouble in the tab (see watch) that no expect has
// excused.
func newPage(t *testing.T, s *server, l look) *page {
	t.Helper()
	p := &page{t: t, url: s.url, look: l, watch: newWatch(s.url)}
	var dialogs sync.WaitGroup
	ctx, cancel := chromedp.NewContext(useChromium(t), chromedp.WithNewBrowserContext(), chromedp.WithListener(func(event any) {
		p.watch.see(event)
		if _, ok := event.(*cdppage.EventJavascriptDialogOpening); ok { // nothing goes on before it is closed
			dialogs.Go(func() {
				chromedp.Call(p.ctx, cdppage.HandleJavaScriptDialog, cdppage.HandleJavaScriptDialogParams{Accept: true})
			})
		}
	}))
	p.ctx = ctx
	t.Cleanup(func() {
		// Events come in order: what has happened before this is noted after it.
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
	// A tab lives as long as the context that it is opened with, so this one has no bound.
	if err := chromedp.Do(ctx, l.emulate()); err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	return p
}

// emulate makes a tab of that look.
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

// expect excuses trouble that has text in it, such as "status 400" or "ERR_CONNECTION_REFUSED". There must be some by the end.
func (p *page) expect(text string) {
	p.watch.mu.Lock()
	defer p.watch.mu.Unlock()
	p.watch.excuses[text] = false
}

// awaitExpected waits for trouble that expect has excused: a page that is left first may not tell of it.
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

// allow lets the tab ask another server, too.
func (p *page) allow(url string) {
	p.watch.mu.Lock()
	defer p.watch.mu.Unlock()
	p.watch.others = append(p.watch.others, url)
}

// requests are the method and path of every request to the server so far, and bytes is how much came back, headers included.
func (p *page) requests() (requests []string, bytes int) {
	p.watch.mu.Lock()
	defer p.watch.mu.Unlock()
	return slices.Clone(p.watch.requests), int(p.watch.bytes)
}

// The elements of a page, by what a person sees. Each is a script that finds one or more; the first is used.

// css is for what has no name.
func css(selector string) chromedp.JSPath {
	return chromedp.JSPath("document.querySelectorAll(" + compact(selector) + ")")
}

// button is the button, or the link that looks like one, with that text or aria-label.
func button(name string) chromedp.JSPath { return named("button, a.button, summary", name) }

func named(selector, name string) chromedp.JSPath {
	return chromedp.JSPath(fmt.Sprintf(`[...document.querySelectorAll(%s)].filter(e => (e.ariaLabel || e.innerText).trim() === %s)`, compact(selector), compact(name)))
}

// field is the input, select or textarea whose label has that text.
func field(label string) chromedp.JSPath {
	return chromedp.JSPath(fmt.Sprintf(`[...document.querySelectorAll("label")].filter(e => e.innerText.trim() === %s).map(e => e.control)`, compact(label)))
}

// open loads a page of the server and waits until it is there. It returns the status.
func (p *page) open(path string) int {
	p.t.Helper()
	response := do(p, "open "+path, chromedp.NavigateResponse(p.url+path))
	return int(response.Status)
}

// follow clicks on what leads to another page, a link or a form's button, and waits until that page is there. It returns the status.
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

// click clicks on what leads to no other page.
func (p *page) click(element chromedp.JSPath) {
	p.t.Helper()
	do(p, "click "+string(element), chromedp.Click(element, chromedp.NodeVisible))
}

// fill puts text into a field, in place of what is there.
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

// press presses keys one after another, as kb has them: kb.Tab, kb.Enter, or text.
func (p *page) press(keys string) {
	p.t.Helper()
	do(p, "press a key", chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		for _, key := range keys {
			for _, event := range kb.Encode(key) {
				// As a keyboard does. With chromedp's KeyEvent, an Enter that follows a link into a form sends the form as well.
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

// wait waits until a JavaScript expression is true. It works without JavaScript in the page, and over the end of a page.
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

// waitFor waits until the page has text. Options that could be chosen count, too: the filter of the deliveries has every status in it.
func (p *page) waitFor(text string) {
	p.t.Helper()
	p.wait("document.body.innerText.includes(" + compact(text) + ")")
}

// text is what the page shows.
func (p *page) text() string {
	p.t.Helper()
	return eval[string](p, "document.body.innerText")
}

// picture writes a picture of the whole page, also of what the window is too small for, as a PNG.
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

// eval returns what a JavaScript expression is in the page.
func eval[T any](p *page, expression string) T {
	p.t.Helper()
	return do(p, "evaluate "+expression, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// do does something in the tab.
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

// fatal ends the test and prints what the page shows.
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

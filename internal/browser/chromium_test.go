package browser

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// chromium is the one browser of this run. Its tabs are of browser contexts of their own, so that no test sees another's cookies.
var chromium struct {
	sync.Mutex
	started bool
	ctx     context.Context // chromedp's, of the browser
	quit    context.CancelFunc
	err     error
}

// useChromium returns the context that tabs are made from. The test is skipped where there is no Chromium, unless
// HOOKBOLT_REQUIRE_CHROMIUM=1.
func useChromium(t *testing.T) context.Context {
	t.Helper()
	path := findChromium()
	if path == "" {
		missing(t, "THE PAGES HAVE NOT BEEN TRIED IN A BROWSER: there is no chromium. Install it (Debian: apt-get install chromium-headless-shell)")
	}
	chromium.Lock()
	defer chromium.Unlock()
	if !chromium.started {
		chromium.started = true
		chromium.ctx, chromium.quit, chromium.err = startChromium(path)
	}
	if chromium.err != nil {
		t.Fatalf("%s does not start: %v", path, chromium.err)
	}
	return chromium.ctx
}

// missing skips a test for want of something, or fails it where nothing may be missing.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("HOOKBOLT_REQUIRE_CHROMIUM") == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// findChromium prefers the headless shell: it has no interface of its own to draw, and the tests take a third of the CPU with it.
func findChromium() string {
	for _, name := range []string{"chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

func startChromium(path string) (context.Context, context.CancelFunc, error) {
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.Flag("headless", "new"),
		chromedp.Flag("hide-scrollbars", true),
		// Nothing is sent but to loopback, neither by a page nor by Chromium itself.
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost"),
		chromedp.Flag("no-proxy-server", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-domain-reliability", true),
		chromedp.Flag("no-pings", true),
		// Its caches and settings are gone with this run.
		chromedp.Env("HOME="+workDir, "XDG_CONFIG_HOME="+workDir, "XDG_CACHE_HOME="+workDir),
	)
	// Chromium refuses to run as root with its sandbox, as in CI; chromedp leaves it out there.
	allocator, end := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	quit := func() {
		bounded, stop := context.WithTimeout(ctx, patience)
		defer stop()
		if err := chromedp.Cancel(bounded); err != nil {
			fmt.Fprintln(os.Stderr, "quit chromium:", err)
		}
		cancel()
		end()
	}
	// The browser lives as long as the context of this call: the start is bounded from outside.
	late := time.AfterFunc(patience, cancel)
	defer late.Stop()
	if err := chromedp.Do(ctx); err != nil {
		quit()
		return nil, nil, err
	}
	return ctx, quit, nil
}

// quitChromium ends the browser if one was started.
func quitChromium() {
	if chromium.quit != nil {
		chromium.quit()
	}
}

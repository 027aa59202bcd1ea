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

// chromium is the only browser of this run. Each tab has its own browser context, so that tests do not share cookies.
var chromium struct {
	sync.Mutex
	started bool
	ctx     context.Context // chromedp's, of the browser
	quit    context.CancelFunc
	err     error
}

// useChromium returns the context from which tabs are created. The test is skipped if Chromium is missing, unless
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

// missing skips a test because something is missing, or fails it if nothing may be missing.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("HOOKBOLT_REQUIRE_CHROMIUM") == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// findChromium prefers the headless shell: it draws no user interface, and the tests need a third of the CPU time with it.
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
		// Neither pages nor Chromium itself may send requests to other machines.
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost"),
		chromedp.Flag("no-proxy-server", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-domain-reliability", true),
		chromedp.Flag("no-pings", true),
		// Caches and settings are deleted at the end of the run.
		chromedp.Env("HOME="+workDir, "XDG_CONFIG_HOME="+workDir, "XDG_CACHE_HOME="+workDir),
	)
	// Chromium refuses to run as root with its sandbox, as in CI.
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
	// The browser lives as long as the context of this call, so the context cannot limit the time of the start.
	late := time.AfterFunc(patience, cancel)
	defer late.Stop()
	if err := chromedp.Do(ctx); err != nil {
		quit()
		return nil, nil, err
	}
	return ctx, quit, nil
}

// quitChromium stops the browser if it was started.
func quitChromium() {
	if chromium.quit != nil {
		chromium.quit()
	}
}

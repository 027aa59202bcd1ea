package bench

import (
	"math"
	"strings"
	"testing"
	"time"
)

// testOptions are valid, and quick.
func testOptions() Options {
	return Options{Connections: 2, Processes: 1, Batch: 1, Webhooks: 4, ScheduledWebhooks: 2, Duration: 30 * time.Millisecond, Warmup: 10 * time.Millisecond}
}

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		change func(*Options)
		want   string // "" if it is fine
	}{
		{func(o *Options) {}, ""},
		{func(o *Options) { o.Failing, o.Slow, o.SlowBy = .5, .5, time.Second }, ""},
		{func(o *Options) { o.Scheduled, o.Crash, o.Dir, o.Keep = 1, true, "x", true }, ""},
		{func(o *Options) { o.URL, o.Token = "https://[::1]:8080/", "t" }, ""},
		{func(o *Options) { o.Connections = 0 }, "-connections must be 1 to 10000 (got 0)"},
		{func(o *Options) { o.Batch = 10_001 }, "-batch must be"},
		{func(o *Options) { o.Webhooks = -1 }, "-webhooks must be"},
		{func(o *Options) { o.Scheduled = -1 }, "-scheduled must be"},
		{func(o *Options) { o.ScheduledWebhooks = 0 }, "-scheduled-webhooks must be"},
		{func(o *Options) { o.Outage = -1 }, "-outage must be"},
		{func(o *Options) { o.Delay = -time.Second }, "-delay must not be negative (got -1s)"},
		{func(o *Options) { o.SlowBy = -1 }, "-slow-by must not"},
		{func(o *Options) { o.Warmup = -1 }, "-warmup must not"},
		{func(o *Options) { o.Every = -1 }, "-every must not"},
		{func(o *Options) { o.Relay = -1 }, "-relay must not"},
		{func(o *Options) { o.Idle = -1 }, "-idle must not"},
		{func(o *Options) { o.Duration = 0 }, "-duration must be positive (got 0s)"},
		{func(o *Options) { o.Rate = -1 }, "-rate must be"},
		{func(o *Options) { o.Rate = math.Inf(1) }, "-rate must be"},
		{func(o *Options) { o.Failing = 1.1 }, "-failing must be a share, 0 to 1 (got 1.1)"},
		{func(o *Options) { o.Slow = math.NaN() }, "-slow must be"},
		{func(o *Options) { o.Failing = .1 }, "-failing 0.1 of -webhooks 4 is less than one"},
		{func(o *Options) { o.Failing, o.Slow = .75, .5 }, "-failing and -slow must not add up to more than 1"},
		{func(o *Options) { o.Crash = true }, "-crash can only be used with -scheduled"},
		{func(o *Options) { o.URL, o.Scheduled = "http://x", 1 }, "-processes, -scheduled, -dir and -keep cannot be used with -url"},
		{func(o *Options) { o.URL, o.Processes = "http://x", 2 }, "-processes, -scheduled"},
		{func(o *Options) { o.Processes = 0 }, "-processes must be 1 to 100 (got 0)"},
		{func(o *Options) { o.TLS = HTTP2 }, ""},
		{func(o *Options) { o.TLS = "3" }, `-tls must be 1.1 or 2, the version of HTTP (got "3")`},
		{func(o *Options) { o.URL, o.TLS = "http://x", HTTP1 }, "-tls cannot be used with -url"},
		{func(o *Options) { o.URL, o.Keep = "http://x", true }, "-processes, -scheduled, -dir and -keep"},
	} {
		o := testOptions()
		tc.change(&o)
		err := o.Validate()
		if got := ""; err != nil {
			got = err.Error()
			if tc.want == "" || !strings.HasPrefix(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		} else if tc.want != "" {
			t.Errorf("nothing is wrong, want %q", tc.want)
		}
	}
}

func TestFileSystemOf(t *testing.T) {
	const mounts = `/dev/vda / ext4 rw 0 0
tmpfs /tmp tmpfs rw 0 0
/dev/vdb /srv/data xfs rw 0 0
/dev/vdc /srv/data btrfs rw 0 0
`
	for folder, want := range map[string]string{"/": "ext4", "/home/x": "ext4", "/tmp": "tmpfs", "/tmp/a/b": "tmpfs", "/tmpx": "ext4", "/srv/data/1": "btrfs"} {
		if got := fileSystemOf(folder, mounts); got != want {
			t.Errorf("%s: %s, want %s", folder, got, want)
		}
	}
	if got := fileSystemOf("/x", ""); got != "" {
		t.Errorf("without mounts it is %s", got)
	}
}

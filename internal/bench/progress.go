package bench

import (
	"fmt"
	"io"
	"time"

	"hookbolt/internal/text"
)

// progress shows the progress of a run on stderr: on a terminal a line that changes every second, elsewhere a new line every ten seconds.
type progress struct {
	w        io.Writer
	terminal bool
}

func newProgress(w io.Writer) *progress {
	return &progress{w: w, terminal: text.IsTerminal(w)}
}

// follow shows the progress of tallies until the returned function is called.
func (p *progress) follow(stage string, tallies ...*tally) (stop func()) {
	interval := 10 * time.Second
	if p.terminal {
		interval = time.Second
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		began := time.Now()
		before, _ := progressOf(tallies) // of the same tallies, when they were followed before
		for {
			select {
			case <-ticker.C:
			case <-quit:
				if p.terminal {
					io.WriteString(p.w, "\r\x1b[K")
				}
				return
			}
			now, waiting := progressOf(tallies)
			rate := func(i int) string { return text.Number(perSecond(now[i]-before[i], interval)) }
			line := fmt.Sprintf("%s, %.0f s: sent %s/s, accepted %s/s, delivered %s/s, waiting %s", stage, time.Since(began).Seconds(), rate(0), rate(1), rate(2),
				text.Number(float64(waiting)))
			before = now
			if p.terminal {
				fmt.Fprintf(p.w, "\r%s\x1b[K", line)
			} else {
				fmt.Fprintln(p.w, line)
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

// progressOf returns how many sessions were sent, accepted and delivered so far, and how many wait.
func progressOf(tallies []*tally) (done [3]int64, waiting int64) {
	for _, t := range tallies {
		done[0] += t.sent.Load()
		done[1] += t.accepted.Load()
		done[2] += t.arrived.Load()
		waiting += t.waiting()
	}
	return done, waiting
}

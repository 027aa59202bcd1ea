package bench

import (
	"fmt"
	"io"
	"strings"

	"hookbolt/internal/text"
)

// section prints a title and lines of label and value, aligned. A line without a value is skipped.
func section(w io.Writer, title string, lines ...[2]string) {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n", title)
	for _, line := range lines {
		if line[1] != "" {
			fmt.Fprintf(&b, "  %-30s %s\n", line[0], line[1])
		}
	}
	io.WriteString(w, b.String())
}

func (m *Machine) print(w io.Writer, command string) {
	memory := notKnown
	if m.MemoryBytes > 0 {
		memory = text.Bytes(float64(m.MemoryBytes))
	}
	database := fmt.Sprintf("database on %s, fsync %s", m.FileSystem, m.Fsync)
	if m.Database != "" {
		database = "database in " + m.Database
	}
	section(w, "machine",
		[2]string{"command", command},
		[2]string{"processor", fmt.Sprintf("%s, %d cores, %s memory", m.CPU, m.Cores, memory)},
		[2]string{"system", fmt.Sprintf("%s, kernel %s, %s", m.System, m.Kernel, database)},
		[2]string{"build", fmt.Sprintf("hookbolt %s, %s", m.Hookbolt, m.Go)})
}

func (m *Measured) print(w io.Writer, title string) {
	what := fmt.Sprintf("%.1f s, %s, %s a request, %s", m.Seconds, plural(m.Connections, "connection"), plural(m.Batch, "session"), plural(m.Webhooks, "webhook"))
	if m.Rate != nil {
		what += fmt.Sprintf(", %s sessions/s", text.Number(*m.Rate))
	}
	share, unsent, failed := "", "", ""
	if m.ShareOfRelay != nil {
		share = fmt.Sprintf("%.1f %% of the bare relay", *m.ShareOfRelay)
	}
	if m.ShareOfTunedRelay != nil {
		share += fmt.Sprintf(", %.1f %% of the tuned one", *m.ShareOfTunedRelay)
	}
	if m.Unsent > 0 {
		unsent = fmt.Sprintf("%d requests, because the server was too slow", m.Unsent)
	}
	if m.FailedAttempts > 0 {
		failed = text.Number(float64(m.FailedAttempts)) + " at the failing endpoints"
	}
	section(w, title, append([][2]string{
		{"load", what},
		{"not sent", unsent},
		{"accepted", fmt.Sprintf("%s sessions/s, %s events/s", text.Number(m.AcceptedSessions), text.Number(m.AcceptedEvents))},
		{"acknowledgement", m.Acknowledgement.text(true)},
		{"deliveries, end to end", text.Number(m.Deliveries) + "/s"},
		{"share", share},
		{"backlog at the end", fmt.Sprintf("%s sessions; with its drain %s deliveries/s", text.Number(float64(m.Backlog)), text.Number(m.Sustained))},
		{"lag from due to arrival", m.Lag.text(false)},
		{"failed attempts", failed},
		{"CPU for 1,000 deliveries", known(m.CPU, func(v float64) string { return fmt.Sprintf("%.3f s", v) })},
		{"peak memory", known(m.PeakMemory, text.Bytes)},
		{"anonymous memory, heap", known(m.AnonymousMemory, text.Bytes) + ", " + known(m.Heap, text.Bytes)},
		{"commits", known(m.OperationsPerCommit, func(v float64) string { return fmt.Sprintf("%s/s, %.1f operations each", text.Number(*m.Commits), v) })},
		{"written for each delivery", known(m.Written, text.Bytes)},
		{"database size", known(m.File, text.Bytes)},
	}, m.Check.lines()...)...)
}

// printRelay prints the figures that apply to a relay.
func (m *Measured) printRelay(w io.Writer, name string) {
	section(w, name+", without storage", append([][2]string{
		{"load", fmt.Sprintf("%.1f s, %s, 1 session a request", m.Seconds, plural(m.Connections, "connection"))},
		{"relayed", text.Number(m.Deliveries) + "/s"},
		{"response", m.Acknowledgement.text(true)},
		{"CPU for 1,000 deliveries", known(m.CPU, func(v float64) string { return fmt.Sprintf("%.3f s", v) })},
	}, m.Check.lines()...)...)
}

func (c *Check) lines() [][2]string {
	verdict := "not finished"
	if c.Missing != nil {
		verdict = fmt.Sprintf("%d missing, %d repeated", *c.Missing, c.Repeated)
	}
	refused := ""
	if c.RefusedRequests > 0 {
		refused = fmt.Sprintf("%d, the first: %s", c.RefusedRequests, c.FirstRefusal)
	}
	return [][2]string{{"refused requests", refused}, {"check", verdict}}
}

func (s *Sample) print(w io.Writer) {
	fmt.Fprintf(w, "  %5.0f s  accepted %s/s  delivered %s/s  ack p99 %s  lag p50 %s p99 %s  heap %s  anonymous %s  goroutines %s  files %s  database %s\n",
		s.Seconds, text.Number(s.Accepted), text.Number(s.Delivered), s.Acknowledgement.one(.99), s.Lag.one(.5), s.Lag.one(.99), known(s.Heap, text.Bytes),
		known(s.AnonymousMemory, text.Bytes), known(s.Goroutines, text.Number), known(s.OpenFiles, text.Number), known(s.File, text.Bytes))
}

func (s *Scheduled) print(w io.Writer) {
	start := "start after a clean stop"
	if s.AfterCrash {
		start = "start after a kill"
	}
	section(w, "scheduled deliveries", append([][2]string{
		{"sessions", fmt.Sprintf("%s, over %s, due in 30 days", text.Number(float64(s.Sessions)), plural(s.Webhooks, "webhook"))},
		{"posted", fmt.Sprintf("in %.1f s, %s sessions/s", s.Seconds, text.Number(s.PerSecond))},
		{start, fmt.Sprintf("%.3f s", s.Start)},
		{"database size", known(s.File, text.Bytes)},
		{"anonymous memory, heap", known(s.AnonymousMemory, text.Bytes) + ", " + known(s.Heap, text.Bytes) + " after the start"},
	}, s.Check.lines()[:1]...)...)
}

func (i *Idle) print(w io.Writer) {
	section(w, "idle",
		[2]string{"duration", fmt.Sprintf("%.1f s", i.Seconds)},
		[2]string{"CPU", known(i.CPU, func(v float64) string { return fmt.Sprintf("%.2f %% of a core", v) })},
		[2]string{"anonymous memory, heap", known(i.AnonymousMemory, text.Bytes) + ", " + known(i.Heap, text.Bytes)})
}

func (o *Outage) print(w io.Writer) {
	section(w, "outage of every endpoint", append([][2]string{
		{"backlog", fmt.Sprintf("%s sessions, %s, posted in %.1f s", text.Number(float64(o.Sessions)), plural(o.Webhooks, "webhook"), o.Fill)},
		{"drained", fmt.Sprintf("in %.1f s, %s deliveries/s; 99 %% of it %s/s", o.DrainSeconds, text.Number(o.Deliveries), text.Number(o.Deliveries99))},
		{"lag of other lanes", o.OtherLanes.text(false) + fmt.Sprintf(" (%d sessions)", o.OtherLanesSessions)},
		{"CPU for 1,000 deliveries", known(o.CPU, func(v float64) string { return fmt.Sprintf("%.3f s", v) })},
		{"peak memory, heap", known(o.PeakMemory, text.Bytes) + ", " + known(o.Heap, text.Bytes)},
		{"database size", known(o.File, text.Bytes)},
	}, o.Check.lines()...)...)
}

// text returns "p50 1.2 ms, p99 …". With thousandth, p99.9 is included.
func (p *Percentiles) text(thousandth bool) string {
	if p == nil {
		return notKnown
	}
	text := fmt.Sprintf("p50 %.2f ms, p99 %.2f ms, ", p.P50, p.P99)
	if thousandth {
		text += fmt.Sprintf("p99.9 %.2f ms, ", p.P999)
	}
	return text + fmt.Sprintf("max %.2f ms", p.Max)
}

// one returns the median or the 99th percentile alone.
func (p *Percentiles) one(share float64) string {
	switch {
	case p == nil:
		return "-"
	case share == .5:
		return fmt.Sprintf("%.1f ms", p.P50)
	}
	return fmt.Sprintf("%.1f ms", p.P99)
}

// known formats a figure, if it is known.
func known(v *float64, show func(float64) string) string {
	if v == nil {
		return notKnown
	}
	return show(*v)
}

// plural returns "1 webhook" or "2 webhooks".
func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return text.Number(float64(n)) + " " + what
}

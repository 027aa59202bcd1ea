package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The figures that are read of a process: metrics of the server by their names, and fields of /proc on Linux.
const (
	cpuSeconds    = "process_cpu_seconds_total"
	openFiles     = "process_open_fds"
	goroutines    = "go_goroutines"
	heapBytes     = "go_memstats_heap_inuse_bytes"
	databaseBytes = "hookbolt_storage_size_bytes"
	commits       = "hookbolt_storage_commit_operations_count"
	operations    = "hookbolt_storage_commit_operations_sum"
	peakMemory    = "VmHWM"       // bytes
	anonymous     = "RssAnon"     // bytes
	writtenBytes  = "write_bytes" // to the disk
)

// reading has the figures of a process at one time, by name. Figures that are not known are not in it.
type reading map[string]float64

// get returns a figure; nil if it is not known.
func (r reading) get(name string) *float64 {
	if v, ok := r[name]; ok {
		return &v
	}
	return nil
}

// since returns how much a figure has grown since an earlier reading; nil if it is not known.
func (r reading) since(earlier reading, name string) *float64 {
	now, before := r.get(name), earlier.get(name)
	if now == nil || before == nil {
		return nil
	}
	return new(*now - *before)
}

// ratio divides a figure by a number. It returns nil if the figure is not known, or if by is 0.
func ratio(v *float64, by float64) *float64 {
	if v == nil || by == 0 {
		return nil
	}
	return new(*v / by)
}

// subject is what is measured: the processes of a server, or the bare relay.
type subject struct {
	processes []*process // none for a server that the run has not started
	apis      []*api     // of each process; none for the relay
}

// api is that of the first process.
func (s *subject) api() *api { return s.apis[0] }

// urls are the addresses of all processes.
func (s *subject) urls() (all []string) {
	for _, a := range s.apis {
		all = append(all, a.url)
	}
	return all
}

// whileRunning returns a context that ends when a process ends.
func (s *subject) whileRunning(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	for _, p := range s.processes {
		go func() {
			select {
			case <-p.exited:
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	return ctx, cancel
}

// ended returns an error if a process has ended by itself.
func (s *subject) ended() error {
	for _, p := range s.processes {
		if !p.running() {
			return fmt.Errorf("%s has ended by itself: %s", p.cmd.Args[1], p.log)
		}
	}
	return nil
}

// end ends all processes, each by how.
func (s *subject) end(how func(*process)) {
	for _, a := range s.apis {
		a.client.CloseIdleConnections()
	}
	for _, p := range s.processes {
		how(p)
	}
	s.processes, s.apis = nil, nil
}

// read reads the figures of the subject: the sums over its processes, but for the size of the database, which they share.
func (s *subject) read(ctx context.Context) reading {
	all := make(reading)
	for i := range max(len(s.processes), len(s.apis)) {
		var p *process
		var a *api
		if i < len(s.processes) {
			p = s.processes[i]
		}
		if i < len(s.apis) {
			a = s.apis[i]
		}
		for name, v := range readOne(ctx, p, a) {
			if name == databaseBytes {
				all[name] = v
			} else {
				all[name] += v
			}
		}
	}
	return all
}

// readOne reads the figures of a process and its API, as far as there are.
func readOne(ctx context.Context, p *process, a *api) reading {
	r := make(reading)
	if p != nil {
		readProc(r, p.cmd.Process.Pid)
	}
	if a != nil {
		if text, err := a.call(ctx, http.MethodGet, "/metrics", nil); err == nil {
			for line := range strings.Lines(string(text)) {
				// Only metrics without labels are used.
				if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
					if v, err := strconv.ParseFloat(value, 64); err == nil {
						r[name] = v
					}
				}
			}
		}
	}
	return r
}

// readProc reads the figures of a process from /proc. It reads nothing on other systems than Linux.
func readProc(r reading, pid int) {
	folder := filepath.Join("/proc", strconv.Itoa(pid))
	for _, file := range []string{"status", "io"} {
		text, _ := os.ReadFile(filepath.Join(folder, file))
		for line := range strings.Lines(string(text)) {
			name, rest, _ := strings.Cut(line, ":")
			fields := strings.Fields(rest)
			switch name {
			case peakMemory, anonymous, writtenBytes:
				v, err := strconv.ParseFloat(fields[0], 64)
				if err != nil {
					continue
				}
				if len(fields) > 1 { // kB
					v *= 1024
				}
				r[name] = v
			}
		}
	}
	// The second field, the name, may contain spaces. The times after it are in ticks of 10 ms.
	stat, _ := os.ReadFile(filepath.Join(folder, "stat"))
	if _, rest, ok := bytes.Cut(stat, []byte(") ")); ok {
		fields := strings.Fields(string(rest))
		user, err1 := strconv.ParseFloat(fields[11], 64)
		system, err2 := strconv.ParseFloat(fields[12], 64)
		if err1 == nil && err2 == nil {
			r[cpuSeconds] = (user + system) / 100
		}
	}
}

// api calls the server's HTTP API.
type api struct {
	url, token string
	client     *http.Client
}

// call makes a call and returns the response body. in is sent as JSON unless it is nil. A status other than 2xx is an error.
func (a *api) call(ctx context.Context, method, path string, in any) ([]byte, error) {
	var text []byte
	if in != nil {
		var err error
		if text, err = json.Marshal(in); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, a.url+path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	if a.token != "" {
		req.Header.Set("Authorization", "Bearer "+a.token)
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		return nil, &responseError{method + " " + path, resp.Status, body}
	}
	return body, nil
}

// createWebhook creates a webhook and returns its id.
func (a *api) createWebhook(ctx context.Context, settings map[string]any) (int64, error) {
	answer, err := a.call(ctx, http.MethodPost, "/v1/webhooks", settings)
	if err != nil {
		return 0, err
	}
	var created struct {
		ID int64 `json:"id"`
	}
	if err := json.Unmarshal(answer, &created); err != nil {
		return 0, fmt.Errorf("POST /v1/webhooks: %w", err)
	}
	return created.ID, nil
}

// readyTimeout is how long a server that accepts connections may take to become ready.
const readyTimeout = 10 * time.Second

// awaitReady waits until the server is ready.
func (a *api) awaitReady(ctx context.Context) error {
	waiting, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		_, err := a.call(waiting, http.MethodGet, "/readyz", nil)
		if _, answered := errors.AsType[*responseError](err); !answered {
			return err // it is ready, or cannot be reached
		}
		if !sleep(waiting, time.Millisecond) {
			return err
		}
	}
}

package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"time"

	"hookbolt/internal/loopback"
)

// maxProfileConnections bounds the connections for profiles. They are for a person or two.
const maxProfileConnections = 2 * fewConnections

// CheckProfilesAddress returns an error unless an address can be reached from this machine only. Other machines must
// not read them: a profile takes CPU time, and a heap dump contains the data of visitors.
func CheckProfilesAddress(address string) error {
	if !loopback.IsAddress(address) {
		return fmt.Errorf(`must be an address of this machine only, such as "127.0.0.1:6060" (got %q)`, address)
	}
	return nil
}

// StartProfiles serves the profiles of net/http/pprof on an address that CheckProfilesAddress accepts. The returned function stops it.
func StartProfiles(address string, log *slog.Logger) (url string, stop func() error, err error) {
	if err := CheckProfilesAddress(address); err != nil {
		return "", nil, err
	}
	listener, err := listen(address, maxProfileConnections, log)
	if err != nil {
		return "", nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	server := &http.Server{Handler: loopbackOnly(mux), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	listener.limit(server)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	stop = func() error {
		server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve profiles: %w", err)
		}
		return nil
	}
	return "http://" + listener.Addr().String() + "/debug/pprof/", stop, nil
}

// loopbackOnly refuses requests whose Host is another machine. Otherwise a web page could let its own name resolve to this machine, and
// read the responses in the browser of whoever works on it (DNS rebinding). It also refuses what a page of another origin requests: such a
// page could not read a profile, but have one made.
func loopbackOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !loopback.IsHost(r.Host) {
			http.Error(w, "profiles are served to this machine only: use localhost or a loopback address", http.StatusForbidden)
			return
		}
		if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
			http.Error(w, "profiles are not for web pages of other origins: type the address", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}

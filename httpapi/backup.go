package httpapi

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/julienschmidt/httprouter"

	"hookbolt/engine"
)

// Snapshot is a copy of the database at one moment. It can be read once, from the beginning.
type Snapshot interface {
	io.ReadCloser
	Size() int64
}

func (a *API) getBackup(r *http.Request, _ httprouter.Params) (any, error) {
	if a.noBackup != "" {
		return nil, fmt.Errorf("%w: %s", engine.ErrConflict, a.noBackup)
	}
	if a.backup == nil {
		return nil, errNoSuchPath
	}
	if r.Method == http.MethodHead { // do not make a backup for that
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { backupHeader(w.Header()) }), nil
	}
	s, err := a.backup(r.Context())
	if errors.Is(err, engine.ErrFull) {
		return nil, &problem{Status: http.StatusInsufficientStorage, Detail: err.Error()}
	}
	if err != nil {
		return nil, err
	}
	return a.sendBackup(s), nil
}

func backupHeader(h http.Header) {
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", `attachment; filename="hookbolt-`+time.Now().UTC().Format("20060102T150405Z")+`.db"`)
}

// backupStep is how much of a backup a client must read within writeTimeout. A client that keeps reading gets all of it, however large it
// is.
const backupStep = 256 << 10

// sendBackup sends a snapshot and closes it.
func (a *API) sendBackup(s Snapshot) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		defer s.Close()
		backupHeader(w.Header())
		w.Header().Set("Content-Length", strconv.FormatInt(s.Size(), 10))
		limit := http.NewResponseController(w)
		for {
			limit.SetWriteDeadline(time.Now().Add(writeTimeout))
			if _, err := io.CopyN(w, s, backupStep); err != nil {
				return // at the end, or too early: then the client gets less than Content-Length
			}
		}
	})
}

package server

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"

	"hookbolt/internal/config"
)

// NewLog returns a logger for valid settings, and the variable that sets its level.
func NewLog(c config.Log, w io.Writer) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	level.Set(logLevel(c))
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options)), level
	}
	return slog.New(slog.NewTextHandler(w, options)), level
}

func logLevel(c config.Log) (level slog.Level) {
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		panic(err) // Validate refuses it
	}
	return level
}

// memberLog has each line name the process that wrote it, where several share a database: by its number among them at that moment.
type memberLog struct {
	slog.Handler
	id *atomic.Pointer[func() int64] // nil until the process is a member
}

// newMemberLog returns a logger that names no process yet, and the function that has it name them.
func newMemberLog(log *slog.Logger) (*slog.Logger, func(id func() int64)) {
	h := memberLog{log.Handler(), new(atomic.Pointer[func() int64])}
	return slog.New(h), func(id func() int64) { h.id.Store(&id) }
}

// Handle implements slog.Handler.
func (h memberLog) Handle(ctx context.Context, r slog.Record) error {
	if id := h.id.Load(); id != nil {
		r = r.Clone()
		r.AddAttrs(slog.Int64("member", (*id)()))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h memberLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return memberLog{h.Handler.WithAttrs(attrs), h.id}
}

// WithGroup implements slog.Handler.
func (h memberLog) WithGroup(name string) slog.Handler {
	return memberLog{h.Handler.WithGroup(name), h.id}
}

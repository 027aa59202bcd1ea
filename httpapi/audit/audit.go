// Package audit carries what a handler knows of a change to the line in the log that is written about it. Package httpapi writes the line
// for every change; a handler only adds what the route does not say: which webhook was created, and which settings were changed. It never
// adds values.
package audit

import "context"

// Change is what a handler says of the change that it makes.
type Change struct {
	// Webhook is the id of the webhook; 0 if the handler has named none.
	Webhook uint32
	// Settings are the names of the settings that are changed.
	Settings []string
	// Repeated means that the request was carried out before, and has changed nothing now.
	Repeated bool
}

type key struct{}

// NewContext returns a context in which Record sets c.
func NewContext(ctx context.Context, c *Change) context.Context {
	return context.WithValue(ctx, key{}, c)
}

// Record names the webhook and the settings of the change that a request makes. It does nothing if nobody is to be told of the request.
func Record(ctx context.Context, webhook uint32, settings []string) {
	if c, ok := ctx.Value(key{}).(*Change); ok {
		c.Webhook, c.Settings = webhook, settings
	}
}

// Repeat says that a request was carried out before, and changes nothing now.
func Repeat(ctx context.Context) {
	if c, ok := ctx.Value(key{}).(*Change); ok {
		c.Repeated = true
	}
}

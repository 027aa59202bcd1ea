package httpapi

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"hookbolt/engine"
)

// reply is a response with header fields of its own. Its value is what a handler would return otherwise.
type reply struct {
	value  any
	header map[string]string
}

// showTagged returns the response that shows a webhook, with its ETag.
//
// The tag names the settings, which are what If-Match protects. It is sent as a strong one, because If-Match compares no others (RFC 9110,
// section 13.1.1). A response also has what is measured, such as the health and the counts of deliveries, and these change without the tag. So
// the tag is not for caches: responses are not to be stored, there are no ranges, and If-None-Match is not heeded.
func showTagged(value any, w *engine.Webhook) reply {
	return reply{value, map[string]string{"ETag": `"` + w.Tag() + `"`}}
}

// condition is the If-Match of a request.
type condition struct {
	// tags are the strong tags, without their quotes; nil for no condition, or for "*", which any webhook fulfils.
	tags []string
	// weak are the weak tags, which are equal to none.
	weak []string
}

// errMalformedIfMatch names the form, which is easy to miss: shells remove quotes.
var errMalformedIfMatch = &problem{Status: http.StatusBadRequest, Detail: `If-Match must be *, or tags as an ETag has them, with their quotes and with commas between, ` +
	`such as If-Match: "3-dgk2p0x8a7w1". In a shell, put single quotes around the whole header`}

// ifMatch reads the If-Match of a request (RFC 9110, sections 8.8.3 and 13.1.1).
func ifMatch(r *http.Request) (condition, error) {
	lines := r.Header.Values("If-Match")
	if len(lines) == 0 {
		return condition{}, nil
	}
	list := strings.Trim(strings.Join(lines, ","), " \t")
	if list == "*" {
		return condition{}, nil
	}
	c := condition{tags: []string{}}
	for list != "" {
		if list[0] == ',' || list[0] == ' ' || list[0] == '\t' { // an empty element means nothing
			list = list[1:]
			continue
		}
		rest, weak := strings.CutPrefix(list, "W/")
		rest, quoted := strings.CutPrefix(rest, `"`)
		tag, rest, closed := strings.Cut(rest, `"`)
		rest = strings.TrimLeft(rest, " \t")
		if !quoted || !closed || strings.ContainsFunc(tag, func(c rune) bool { return c <= ' ' || c == 0x7f }) || rest != "" && rest[0] != ',' {
			return condition{}, errMalformedIfMatch
		}
		if list = rest; weak {
			c.weak = append(c.weak, tag)
		} else {
			c.tags = append(c.tags, tag)
		}
	}
	if len(c.tags)+len(c.weak) == 0 {
		return condition{}, errMalformedIfMatch
	}
	return c, nil
}

// errChanged is the problem for a condition that is not fulfilled.
var errChanged = &problem{Status: http.StatusPreconditionFailed, Detail: "the webhook was changed since the ETag of If-Match was read, and this request has changed nothing: " +
	"GET the webhook again, and send the change with the ETag that it has now"}

// errProxyTag is errChanged where the webhook was not changed.
var errProxyTag = &problem{Status: http.StatusPreconditionFailed, Detail: "the webhook was not changed, but the ETag of If-Match is not as hookbolt has sent it: a proxy that " +
	"compresses responses has put W/ before it, or something behind it. If-Match compares only tags that are the same in full (RFC 9110, section 13.1.1). " +
	"Send the tag without what was added, or have the proxy not compress these responses"}

// explain returns an error of the engine, with the reason if it is the condition's.
func (a *API) explain(err error, id uint32, c condition) error {
	if !errors.Is(err, engine.ErrPrecondition) {
		return err
	}
	w, notFound := a.engine.Webhook(id)
	if notFound == nil && (slices.Contains(c.weak, w.Tag()) || slices.ContainsFunc(slices.Concat(c.tags, c.weak), func(tag string) bool {
		return strings.HasPrefix(tag, w.Tag()+"-") || strings.HasPrefix(tag, w.Tag()+";")
	})) {
		return errProxyTag
	}
	return errChanged
}

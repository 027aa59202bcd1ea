package engine

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"hookbolt/engine/jsonread"
)

// WebhookPatch is a change of settings, or the settings of a new webhook.
type WebhookPatch struct {
	changes []settingChange
	// revision is the one that the change was made for; nil means any. tags are those of IfTag.
	revision *uint64
	tags     []string
	once     *Once
}

// settingChange is the change of one setting: set replaces its value, merge changes members of it. One of the two is nil.
type settingChange struct {
	name  string // "" for a change of the engine's own
	set   func(*Webhook)
	merge *membersPatch
}

// ParseWebhookPatch reads settings from a JSON object. Each takes the place of what is set, as a whole. A null sets the default again. The
// error is an InputErrors that names each setting that is wrong.
func ParseWebhookPatch(body []byte) (WebhookPatch, error) {
	return parsePatch(body, func(s *Setting, r *jsonread.Reader) settingChange {
		return settingChange{name: s.Name, set: s.parse(r)}
	})
}

// ParseMergePatch is ParseWebhookPatch for the change of a webhook, with one difference: settings that are objects are merged with what is
// set, member by member, as RFC 7396 has it. Errors that show only then, such as a member that is missing, are those of UpdateWebhook.
func ParseMergePatch(body []byte) (WebhookPatch, error) {
	return parsePatch(body, func(s *Setting, r *jsonread.Reader) settingChange {
		if s.value.members == nil || r.Peek() == 'n' {
			return settingChange{name: s.Name, set: s.parse(r)}
		}
		return settingChange{name: s.Name, merge: readMembers(s, r)}
	})
}

func parsePatch(body []byte, read func(*Setting, *jsonread.Reader) settingChange) (WebhookPatch, error) {
	var patch WebhookPatch
	err := parseObject(body, func(r *jsonread.Reader, key []byte) bool {
		s := SettingNamed(string(key))
		if s != nil {
			patch.changes = append(patch.changes, read(s, r))
		}
		return s != nil
	})
	if err != nil {
		return WebhookPatch{}, err
	}
	return patch, nil
}

// ownPatch returns a change of the engine's own.
func ownPatch(set func(*Webhook)) WebhookPatch {
	return WebhookPatch{changes: []settingChange{{set: set}}}
}

// IfRevision returns the change for a webhook of that revision only: who has seen another one does not know what he overwrites.
func (p WebhookPatch) IfRevision(revision uint64) WebhookPatch {
	p.revision = &revision
	return p
}

// IfTag is IfRevision by Webhook.Tag: the change is for a webhook with one of these tags. Nil means any. The error of another one is
// ErrPrecondition.
func (p WebhookPatch) IfTag(tags []string) WebhookPatch {
	p.tags = tags
	return p
}

// Once returns the settings of a new webhook, which is created for a request with a key; see Engine.BeginOnce.
func (p WebhookPatch) Once(o *Once) WebhookPatch {
	p.once = o
	return p
}

// fits returns an error if the change was made for another state of the webhook.
func (p WebhookPatch) fits(w *Webhook) error {
	if p.revision != nil && *p.revision != w.Revision {
		return fmt.Errorf("%w: webhook %d was changed meanwhile", ErrConflict, w.ID)
	}
	return w.fitsTag(p.tags)
}

// Changes returns the names of the settings that the patch changes in a webhook, in the order of the patch, and then those that are dropped.
// A patch that is refused changes nothing.
func (p WebhookPatch) Changes(w *Webhook) (names []string) {
	after := *w
	dropped, err := p.applyTo(&after)
	if err != nil {
		return nil
	}
	for _, c := range p.changes {
		alone := *w
		if c.set != nil {
			c.set(&alone)
		} else if _, err := c.merge.applyTo(&alone, movesHost(w, &after)); err != nil {
			continue
		}
		if !alone.equals(w) {
			names = append(names, c.name)
		}
	}
	for _, path := range dropped {
		if name, _, _ := strings.Cut(path, "."); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// movesHost reports whether a webhook sends to another host after a change.
func movesHost(before, after *Webhook) bool {
	return before.URL != "" && before.URL != after.URL && !SameHost(before.URL, after.URL)
}

// applyTo changes a webhook. The error is an InputErrors if the settings do not fit what is set.
//
// A webhook that moves to another host does not take along what was meant for the host before: whoever may change a URL would else have the
// credentials sent to himself, which answers never show. Credentials that the patch gives are those of the new host. dropped are the paths
// of what was removed, such as "headers.X-Api-Key". The secret that signs stays: a signature does not reveal it.
func (p WebhookPatch) applyTo(w *Webhook) (dropped []string, err error) {
	before := *w
	given := make(map[string]*membersPatch)
	for _, c := range p.changes {
		if c.set != nil {
			c.set(w)
		}
		given[c.name] = c.merge
	}
	moves := movesHost(&before, w)
	var bad InputErrors
	for i := range Settings {
		s := &Settings[i]
		merge, named := given[s.Name]
		switch {
		case merge != nil:
			lost, wrong := merge.applyTo(w, moves)
			dropped, bad = append(dropped, lost...), append(bad, wrong...)
		case moves && s.OfHost && !named:
			dropped = append(dropped, s.leave(w)...)
		}
	}
	if bad != nil {
		return nil, bad
	}
	return dropped, nil
}

// leave removes what is meant for the host that a webhook has left, and returns the paths of that.
func (s *Setting) leave(w *Webhook) (dropped []string) {
	if s.value.leave != nil {
		return s.value.leave(w)
	}
	dropped = s.setPaths(w)
	s.value.preset(w)
	return dropped
}

// setPaths returns the paths of what is set of a Secret setting: its name, or, if it is an object of the caller's own names, those.
func (s *Setting) setPaths(w *Webhook) (paths []string) {
	switch shown := s.Get(w).(type) {
	case map[string]bool:
		for _, name := range slices.Sorted(maps.Keys(shown)) {
			paths = append(paths, s.Name+"."+name)
		}
	case *bool:
		if shown != nil {
			paths = append(paths, s.Name)
		}
	}
	return paths
}

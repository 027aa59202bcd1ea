package engine

import (
	"maps"
	"slices"

	"hookbolt/engine/jsonread"
)

// WebhookPatch is a change of settings, or the settings of a new webhook.
type WebhookPatch struct {
	apply []func(*Webhook)
	// names are the settings that apply sets, one for each, a null included. A patch of the engine's own has none.
	names []string
	// revision is the one that the change was made for; nil means any.
	revision *uint64
}

// ParseWebhookPatch reads settings from a JSON object. A null sets the default again. The error is an InputErrors that names each setting
// that is wrong.
func ParseWebhookPatch(body []byte) (WebhookPatch, error) {
	var patch WebhookPatch
	err := parseObject(body, func(r *jsonread.Reader, key []byte) bool {
		s := SettingNamed(string(key))
		if s != nil {
			patch.apply, patch.names = append(patch.apply, s.parse(r)), append(patch.names, s.Name)
		}
		return s != nil
	})
	if err != nil {
		return WebhookPatch{}, err
	}
	return patch, nil
}

// IfRevision returns the change for a webhook of that revision only: who has seen another one does not know what he overwrites.
func (p WebhookPatch) IfRevision(revision uint64) WebhookPatch {
	p.revision = &revision
	return p
}

// Changes returns the names of the settings that the patch changes in a webhook, in the order of the patch.
func (p WebhookPatch) Changes(w *Webhook) (names []string) {
	after := *w
	for i, name := range p.names {
		before := after
		if p.apply[i](&after); !after.equals(&before) {
			names = append(names, name)
		}
	}
	return names
}

func (p WebhookPatch) applyTo(w *Webhook) {
	for _, apply := range p.apply {
		apply(w)
	}
}

// dropCredentials keeps a webhook that moves to another host from taking along what was meant for the host before: whoever may change a URL
// would else have the credentials sent to himself, which answers never show. Credentials that the patch gives are those of the new host.
// It returns the paths of what it removed, such as "headers.X-Api-Key". The secret that signs stays: a signature does not reveal it.
func (p WebhookPatch) dropCredentials(w, before *Webhook) []string {
	var dropped []string
	if before.URL == w.URL || SameHost(before.URL, w.URL) {
		return dropped
	}
	for i := range Settings {
		s := &Settings[i]
		if !s.OfHost || slices.Contains(p.names, s.Name) {
			continue
		}
		dropped = append(dropped, s.setPaths(w)...)
		s.value.preset(w)
	}
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

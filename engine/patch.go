package engine

import "hookbolt/engine/jsonread"

// WebhookPatch is a change of settings, or the settings of a new webhook.
type WebhookPatch struct {
	apply []func(*Webhook)
	// names are the settings that apply sets, one for each. A patch of the engine's own has none.
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

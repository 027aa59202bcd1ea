package engine

import "hookbolt/engine/jsonread"

// WebhookPatch is a change of settings, or the settings of a new webhook.
type WebhookPatch struct {
	apply []func(*Webhook)
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
			patch.apply = append(patch.apply, s.parse(r))
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

func (p WebhookPatch) applyTo(w *Webhook) {
	for _, apply := range p.apply {
		apply(w)
	}
}

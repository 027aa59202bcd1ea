package engine

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/google/uuid"
)

// WebhookSet is all webhooks, and the cancellations that are not carried out yet, at one moment. It is immutable. Its lists are sorted, so that
// a set with one change is made by copies of them: with thousands of webhooks, maps took most of the time of a change.
type WebhookSet struct {
	all        []*Webhook // by id
	ids        []uint32   // of all
	complete   matching   // active webhooks
	incomplete matching   // those that also want incomplete sessions
	operations *Webhook
	cancels    map[uint32][]Cancellation
}

// matching finds webhooks by content.
type matching struct {
	byContent []*Webhook // for one content, by content and id
	forAll    []*Webhook // for every content, by id
}

// NewWebhookSet returns a set of the given webhooks, which must not be changed any more.
func NewWebhookSet(hooks []*Webhook, cancels []Cancellation) *WebhookSet {
	s := &WebhookSet{all: slices.SortedFunc(slices.Values(hooks), byID)}
	for _, w := range s.all {
		s.ids = append(s.ids, w.ID)
		if w.Operations {
			s.operations = w
		}
		for _, m := range s.wantedBy(w) {
			list := m.list(w)
			*list = append(*list, w)
		}
	}
	slices.SortStableFunc(s.complete.byContent, byContent)
	slices.SortStableFunc(s.incomplete.byContent, byContent)
	return s.WithCancellations(cancels)
}

// With returns the set after a webhook was created or changed.
func (s *WebhookSet) With(w *Webhook) *WebhookSet {
	after := s.Without(w.ID)
	after.all = inserted(after.all, w, byID)
	at, _ := slices.BinarySearch(after.ids, w.ID)
	after.ids = slices.Insert(slices.Clone(after.ids), at, w.ID)
	if w.Operations {
		after.operations = w
	}
	for _, m := range after.wantedBy(w) {
		list := m.list(w)
		*list = inserted(*list, w, byContent)
	}
	return after
}

// Without returns the set after a webhook was deleted.
func (s *WebhookSet) Without(id uint32) *WebhookSet {
	after := *s
	w := s.Get(id)
	if w == nil {
		return &after
	}
	after.all = removed(s.all, w, byID)
	at, _ := slices.BinarySearch(s.ids, id)
	after.ids = slices.Concat(s.ids[:at], s.ids[at+1:])
	if w == s.operations {
		after.operations = nil
	}
	for _, m := range after.wantedBy(w) {
		list := m.list(w)
		*list = removed(*list, w, byContent)
	}
	return &after
}

// WithCancellations returns the set with the given cancellations in place of its own.
func (s *WebhookSet) WithCancellations(cancels []Cancellation) *WebhookSet {
	after := *s
	after.cancels = make(map[uint32][]Cancellation)
	for _, c := range cancels {
		after.cancels[c.WebhookID] = append(after.cancels[c.WebhookID], c)
	}
	return &after
}

// wantedBy returns the indexes of the set that a webhook stands in.
func (s *WebhookSet) wantedBy(w *Webhook) []*matching {
	switch {
	case w.Operations || !w.Active:
		return nil
	case !w.SendIncomplete:
		return []*matching{&s.complete}
	}
	return []*matching{&s.complete, &s.incomplete}
}

// list returns the list that a webhook stands in.
func (m *matching) list(w *Webhook) *[]*Webhook {
	if w.ContentID == nil {
		return &m.forAll
	}
	return &m.byContent
}

func byID(a, b *Webhook) int { return cmp.Compare(a.ID, b.ID) }

// byContent orders the webhooks of one list of a matching.
func byContent(a, b *Webhook) int {
	if a.ContentID == nil || b.ContentID == nil {
		return byID(a, b)
	}
	return cmp.Or(bytes.Compare(a.ContentID[:], b.ContentID[:]), byID(a, b))
}

// inserted and removed return a sorted list with a webhook more, or less. The list stays as it is.
func inserted(list []*Webhook, w *Webhook, order func(a, b *Webhook) int) []*Webhook {
	at, _ := slices.BinarySearchFunc(list, w, order)
	return slices.Concat(list[:at], []*Webhook{w}, list[at:])
}

func removed(list []*Webhook, w *Webhook, order func(a, b *Webhook) int) []*Webhook {
	at, _ := slices.BinarySearchFunc(list, w, order)
	return slices.Concat(list[:at], list[at+1:])
}

// All returns the webhooks in the order of their ids. The result must not be changed.
func (s *WebhookSet) All() []*Webhook { return s.all }

// Get returns the webhook with that id, nil if there is none.
func (s *WebhookSet) Get(id uint32) *Webhook {
	if at, found := slices.BinarySearch(s.ids, id); found {
		return s.all[at]
	}
	return nil
}

// Operations returns the webhook for system events, nil if there is none.
func (s *WebhookSet) Operations() *Webhook { return s.operations }

// matching returns the active webhooks that get sessions of a content: those for this content, and those for all, each in the order of the
// ids. With unfinished, they are only those that want incomplete sessions.
func (s *WebhookSet) matching(contentID uuid.UUID, unfinished bool) [2][]*Webhook {
	m := &s.complete
	if unfinished {
		m = &s.incomplete
	}
	return [2][]*Webhook{m.of(contentID), m.forAll}
}

// of returns the webhooks for one content.
func (m *matching) of(contentID uuid.UUID) []*Webhook {
	from, _ := slices.BinarySearchFunc(m.byContent, contentID, func(w *Webhook, id uuid.UUID) int { return bytes.Compare(w.ContentID[:], id[:]) })
	list := m.byContent[from:]
	to, _ := slices.BinarySearchFunc(list, contentID, func(w *Webhook, id uuid.UUID) int {
		if *w.ContentID == id {
			return -1
		}
		return 1
	})
	return list[:to]
}

// mostTriggers returns how many triggers a fan-out may lead to in a session of a content, without a look at the webhooks.
func (s *WebhookSet) mostTriggers(contentID uuid.UUID, f FanOut) (n int) {
	if !f.StartedAt.IsZero() {
		n += len(s.incomplete.of(contentID)) + len(s.incomplete.forAll)
	}
	if !f.FinishedAt.IsZero() || !f.Late.IsZero() {
		n += len(s.complete.of(contentID)) + len(s.complete.forAll)
	}
	return n
}

// Cancellations returns the cancellations of a webhook that are not carried out yet.
func (s *WebhookSet) Cancellations(webhookID uint32) []Cancellation { return s.cancels[webhookID] }

// Covered reports whether a cancellation covers a waiting delivery.
func (s *WebhookSet) Covered(d *Delivery) bool {
	for i := range s.cancels[d.WebhookID] {
		if s.cancels[d.WebhookID][i].Covers(d) {
			return true
		}
	}
	return false
}

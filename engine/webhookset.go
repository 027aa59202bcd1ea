package engine

import (
	"cmp"
	"slices"

	"github.com/google/uuid"
)

// WebhookSet is all webhooks, and the cancellations that are not carried out yet, at one moment. It is immutable.
type WebhookSet struct {
	all        []*Webhook // by id
	byID       map[uint32]*Webhook
	byContent  map[uuid.UUID][]*Webhook // active webhooks for one content
	forAll     []*Webhook               // active webhooks for every content
	operations *Webhook
	cancels    map[uint32][]Cancellation
}

// NewWebhookSet returns a set of the given webhooks, which must not be changed any more.
func NewWebhookSet(hooks []*Webhook, cancels []Cancellation) *WebhookSet {
	s := &WebhookSet{
		all:       slices.SortedFunc(slices.Values(hooks), func(a, b *Webhook) int { return cmp.Compare(a.ID, b.ID) }),
		byID:      make(map[uint32]*Webhook, len(hooks)),
		byContent: make(map[uuid.UUID][]*Webhook),
		cancels:   make(map[uint32][]Cancellation),
	}
	for _, w := range s.all {
		s.byID[w.ID] = w
		switch {
		case w.Operations:
			s.operations = w
		case !w.Active:
		case w.ContentID == nil:
			s.forAll = append(s.forAll, w)
		default:
			s.byContent[*w.ContentID] = append(s.byContent[*w.ContentID], w)
		}
	}
	for _, c := range cancels {
		s.cancels[c.WebhookID] = append(s.cancels[c.WebhookID], c)
	}
	return s
}

// All returns the webhooks in the order of their ids. The result must not be changed.
func (s *WebhookSet) All() []*Webhook { return s.all }

// Get returns the webhook with that id, nil if there is none.
func (s *WebhookSet) Get(id uint32) *Webhook { return s.byID[id] }

// Operations returns the webhook for system events, nil if there is none.
func (s *WebhookSet) Operations() *Webhook { return s.operations }

// EachMatching calls f for each active webhook that gets sessions of that content.
func (s *WebhookSet) EachMatching(contentID uuid.UUID, f func(*Webhook)) {
	for _, w := range s.byContent[contentID] {
		f(w)
	}
	for _, w := range s.forAll {
		f(w)
	}
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

package receiver

// The limits of what is read, shown and counted.
const (
	MaxReceivedBody = maxReceivedBody
	MaxIndented     = maxIndented
	MaxCounted      = maxCounted
)

// Count is count.
func (rec *Receiver) Count(id string) int { return rec.count(id) }

// Counted is of how many deliveries the attempts are counted.
func (rec *Receiver) Counted() int { return len(rec.attempts) }

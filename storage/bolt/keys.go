package bolt

import (
	"bytes"
	"encoding/binary"
	"slices"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// The buckets. The package comment describes their keys and values.
var (
	bucketMeta           = []byte("meta")
	bucketWebhooks       = []byte("webhooks")
	bucketSessionNumbers = []byte("session_numbers")
	bucketSessions       = []byte("sessions")
	bucketEvents         = []byte("events")
	bucketDeliveries     = []byte("deliveries")
	bucketAttempts       = []byte("attempts")
	bucketPayloads       = []byte("payloads")
	bucketQueue          = []byte("queue")
	bucketByWebhook      = []byte("by_webhook")
	bucketUndelivered    = []byte("exceptions")
	bucketExpiry         = []byte("expiry")
	bucketJobs           = []byte("jobs")
	bucketCounts         = []byte("counts")
	bucketHealth         = []byte("health")
	bucketMarks          = []byte("marks")
	bucketFanOuts        = []byte("fan_outs")
	bucketRequestKeys    = []byte("request_keys")
	bucketRequestTimes   = []byte("request_times")
	bucketDeliveryIDs    = []byte("delivery_ids")
)

var allBuckets = [][]byte{bucketMeta, bucketWebhooks, bucketSessionNumbers, bucketSessions, bucketEvents, bucketDeliveries,
	bucketAttempts, bucketPayloads, bucketQueue, bucketByWebhook, bucketUndelivered, bucketExpiry, bucketJobs, bucketCounts, bucketHealth,
	bucketMarks, bucketFanOuts, bucketRequestKeys, bucketRequestTimes, bucketDeliveryIDs}

// addedBuckets are those that a file of the present layout may lack until it is opened for writing. Versions before them do not look for
// them, and may open the file all the same.
var addedBuckets = [][]byte{bucketRequestKeys, bucketRequestTimes}

// lacksBucket reports whether a bucket is missing that a file of the present layout must have.
func lacksBucket(tx *bbolt.Tx, name []byte) bool {
	return tx.Bucket(name) == nil && !slices.ContainsFunc(addedBuckets, func(added []byte) bool { return bytes.Equal(added, name) })
}

var (
	keySchema = []byte("schema")
	keyNonce  = []byte("nonce")
	keyProbe  = []byte("probe")
	// keyNumbered holds the highest number up to which sessions have their entry in session_numbers; see numbers.
	keyNumbered = []byte("numbered")
)

func u64key(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
func u32key(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// itemKey is the key of the n-th part of a record: number(8) n(4).
func itemKey(number uint64, n uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(make([]byte, 0, 12), number), n)
}

// instant is a time as it stands in keys and records: Unix nanoseconds, 0 for the zero time.
func instant(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(max(1, t.UnixNano())) // a clock before 1970 still sorts
}

func fromInstant(n uint64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(n)).UTC()
}

// Keys of the queue: webhook(4) class(1) due(8) D(8).
const (
	lanePrefixLen = 5
	queueKeyLen   = lanePrefixLen + 16
)

// lanePrefix is the prefix of a lane's keys.
func lanePrefix(l engine.Lane) []byte {
	class := byte(0)
	if l.Test {
		class = 1
	}
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, queueKeyLen), l.WebhookID), class)
}

func queueKey(r *deliveryRecord) []byte {
	k := binary.BigEndian.AppendUint64(lanePrefix(r.Lane()), instant(r.NextAttemptAt))
	return binary.BigEndian.AppendUint64(k, r.number)
}

// queueKeyWebhook, queueKeyIsTest, queueKeyDue and queueKeyNumber read a queue key.
func queueKeyWebhook(k []byte) uint32 { return binary.BigEndian.Uint32(k) }
func queueKeyIsTest(k []byte) bool    { return k[4] == 1 }
func queueKeyDue(k []byte) uint64     { return binary.BigEndian.Uint64(k[lanePrefixLen:]) }
func queueKeyNumber(k []byte) uint64  { return binary.BigEndian.Uint64(k[lanePrefixLen+8:]) }

func byWebhookKey(r *deliveryRecord) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(make([]byte, 0, 12), r.WebhookID), r.number)
}

// undeliveredPrefix is the prefix of the keys of a webhook's failed, cancelled or filtered deliveries.
func undeliveredPrefix(webhookID uint32, s engine.Status) []byte {
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, 13), webhookID), byte(s))
}

func undeliveredKey(r *deliveryRecord) []byte {
	return binary.BigEndian.AppendUint64(undeliveredPrefix(r.WebhookID, r.Status), r.number)
}

// Kinds of expiry keys.
const (
	expirySession  byte = 1
	expiryDelivery byte = 2
)

const expiryKeyLen = 1 + 8 + 8

func expiryKey(kind byte, at time.Time, number uint64) []byte {
	k := append(make([]byte, 0, expiryKeyLen), kind)
	k = binary.BigEndian.AppendUint64(k, instant(at))
	return binary.BigEndian.AppendUint64(k, number)
}

// Parts of a delivery's public id, a UUIDv7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then, in the 74 free bits,
// 26 bits of a nonce that tells databases apart and 48 bits of D. Ids sort by creation.
const (
	numberBits = 48
	maxNumber  = 1<<numberBits - 1
	nonceBits  = 26
)

func deliveryID(created time.Time, nonce uint32, number uint64) uuid.UUID {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[0:], uint64(created.UnixMilli())<<16|0x7000|uint64(nonce>>14)&0xfff)
	binary.BigEndian.PutUint64(id[8:], 1<<63|uint64(nonce&0x3fff)<<numberBits|number&maxNumber)
	return id
}

// idMilli returns the time in an id, in Unix milliseconds.
func idMilli(id uuid.UUID) int64 { return int64(binary.BigEndian.Uint64(id[:]) >> 16) }

// deliveryNumber returns D of an id that this database made. For any other id the number means nothing; the record shows which.
func deliveryNumber(id uuid.UUID) uint64 {
	return binary.BigEndian.Uint64(id[8:]) & maxNumber
}

package postgres

import "time"

// AwaitMember returns when a process knows of another one, or has been closed.
func AwaitMember(s, other *Store) {
	for !s.ended.Load() && !s.fleet.isMember(other.memberID.Load()) {
		time.Sleep(time.Millisecond)
	}
}

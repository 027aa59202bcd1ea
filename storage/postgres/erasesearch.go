package postgres

import (
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
)

// eraseSearch is the search of one step of an erasure: it walks from a place on, as far as the step may go. There is no index of persons: it would cost each
// commit pages for addresses that nobody looks up.
type eraseSearch struct {
	s    *Store
	q    querying
	what *engine.Erasure

	at         erasePlace    // it moves
	more       bool          // something of the phase is left
	sessions   []*sessionRow // to erase
	deliveries uuids         // to erase
	damaged    []error       // about rows that could not be read
}

func (e *eraseSearch) isEmpty() bool { return len(e.sessions)+len(e.deliveries) == 0 }

// next returns where the erasure goes on; "" at its end.
func (e *eraseSearch) next(dry bool) string {
	if e.more {
		return e.at.String()
	}
	if next, ok := e.at.after(dry); ok {
		return next.String()
	}
	return ""
}

func (e *eraseSearch) look() error {
	person, ok := e.what.Person()
	switch isSession := !ok; {
	case e.at.phase == eraseDeliveries && isSession:
		return e.lookForLeftOf()
	case e.at.phase == eraseDeliveries:
		return e.lookAtDeliveries(&person)
	case isSession:
		return e.lookForSession()
	}
	return e.lookAtSessions(&person)
}

// lookForSession finds a session by its id. The end of the table stands for where it has looked.
func (e *eraseSearch) lookForSession() error {
	err := e.q.query(func(found pgx.Rows) error {
		r, err := scanSession(found)
		switch {
		case r == nil:
			return err
		case err != nil:
			e.damaged = append(e.damaged, err)
		default:
			e.sessions = append(e.sessions, r)
		}
		return nil
	}, "SELECT "+sessionColumns+" FROM @.sessions WHERE id = $1", pgID(e.what.SessionID))
	return err
}

// lookAtSessions looks for sessions in which a person occurs.
func (e *eraseSearch) lookAtSessions(p *engine.Person) error {
	list, err := e.someSessions()
	if err != nil {
		return err
	}
	found, unreadable, err := e.inEvents(p, list)
	if err != nil {
		return err
	}
	for _, r := range list {
		if len(e.sessions) == eraseFinds {
			e.more = true
			return nil
		}
		if !found[r.no] && unreadable[r.no] != nil {
			if found[r.no], err = e.inPayloads(p, r); err != nil {
				return err
			}
			if !found[r.no] {
				e.damaged = append(e.damaged, unreadable[r.no])
			}
		}
		if e.at.session = r.no; found[r.no] {
			e.sessions = append(e.sessions, r)
		}
	}
	return nil
}

// someSessions reads the next sessions, of which one step may read the events. It leaves damaged ones out.
func (e *eraseSearch) someSessions() (list []*sessionRow, err error) {
	looks, bytes := 0, int64(0)
	err = e.q.query(func(found pgx.Rows) error {
		r, err := scanSession(found)
		if r == nil {
			return err
		}
		if looks++; looks > eraseLooks || looks > 1 && bytes+r.Bytes > eraseBytes {
			looks, e.more = eraseLooks, true
			return nil
		}
		bytes += r.Bytes
		if err != nil {
			e.damaged = append(e.damaged, err)
			e.at.session = max(e.at.session, r.no)
			return nil
		}
		list = append(list, r)
		return nil
	}, "SELECT "+sessionColumns+" FROM @.sessions WHERE no > $1 ORDER BY no LIMIT $2", e.at.session, eraseLooks+1)
	return list, err
}

// inEvents looks for a person in the events of sessions. Events that cannot be read do not hide others of their session.
func (e *eraseSearch) inEvents(p *engine.Person, list []*sessionRow) (found map[int64]bool, unreadable map[int64]error, err error) {
	found, unreadable = make(map[int64]bool), make(map[int64]error)
	var nos []int64
	for _, r := range list {
		if id := r.Identity.PoltioUserID; p.Visitor != nil && id != nil && *id == *p.Visitor {
			found[r.no] = true
		} else {
			nos = append(nos, r.no)
		}
	}
	if len(nos) == 0 {
		return found, unreadable, nil
	}
	err = e.q.query(func(rows pgx.Rows) error {
		var no int64
		var n int
		var body []byte
		if err := rows.Scan(&no, &n, &body); err != nil || found[no] {
			return err
		}
		var err error
		if found[no], err = p.InEvents(body); err != nil {
			unreadable[no] = damage("events", fmt.Sprintf("%d of session %d", n, no)) // the parser's error may quote them
		}
		return nil
	}, "SELECT session_no, n, body FROM @.events WHERE session_no = ANY($1)", nos)
	return found, unreadable, err
}

// inPayloads looks for a person in the payloads of a session's deliveries: what they have was in its events.
func (e *eraseSearch) inPayloads(p *engine.Person, r *sessionRow) (found bool, err error) {
	ids := make(uuids, len(r.Deliveries))
	for i := range r.Deliveries {
		ids[i] = r.Deliveries[i].ID
	}
	err = e.q.query(func(rows pgx.Rows) error {
		var body []byte
		d, err := scanDelivery(rows, &body)
		if d == nil {
			return err
		}
		if err == nil && !found { // else the error about the events is returned
			found, _ = p.InDelivery(&d.Delivery, body)
		}
		return nil
	}, "SELECT "+deliveryColumns+", p.body FROM @.deliveries "+withPayload+" WHERE id = ANY($1 || ARRAY(SELECT delivery_id FROM @.marks WHERE session_no = $2))", ids, r.no)
	return found, err
}

// leftDelivery is a delivery that may be left of a session.
type leftDelivery struct {
	*deliveryRow
	damaged bool // only its keys are known
	size    int  // of its payload
	found   bool
}

// lookAtDeliveries looks for deliveries that are left of sessions in which a person occurred. What is known of him is in the payload, if there is one; the row
// has the visitor of its session, too.
func (e *eraseSearch) lookAtDeliveries(p *engine.Person) error {
	list, err := e.someDeliveries()
	if err != nil {
		return err
	}
	readable, err := e.readableSessions(list)
	if err != nil {
		return err
	}
	var ask uuids
	bytes, reached := 0, e.at.delivery
	for i := range list {
		d := &list[i]
		switch {
		case d.damaged || !d.Kind.OfSession() || readable[d.sessionNo]: // erasing the session also erases its deliveries
		case p.Visitor != nil && d.visitor != nil && *d.visitor == *p.Visitor:
			d.found = true
		case len(ask) > 0 && bytes+d.size > eraseBytes:
			list, e.more = list[:i], true
		default:
			bytes += d.size
			ask = append(ask, d.ID)
		}
		if len(list) == i {
			break
		}
		reached = d.ID
	}
	asked, err := e.inBodies(p, ask)
	if err != nil {
		return err
	}
	for i := range list {
		if len(e.deliveries) == eraseFinds {
			e.more = true
			return nil
		}
		if e.at.delivery = list[i].ID; list[i].found || asked[list[i].ID] {
			e.deliveries = append(e.deliveries, list[i].ID)
		}
	}
	e.at.delivery = reached
	return nil
}

// someDeliveries reads the next deliveries.
func (e *eraseSearch) someDeliveries() (list []leftDelivery, err error) {
	looks := 0
	err = e.q.query(func(found pgx.Rows) error {
		var size int
		d, err := scanDelivery(found, &size)
		if d == nil {
			return err
		}
		if looks++; looks > eraseLooks {
			e.more = true
			return nil
		}
		if err != nil {
			e.damaged = append(e.damaged, err)
		}
		list = append(list, leftDelivery{deliveryRow: d, damaged: err != nil, size: size})
		return nil
	}, "SELECT "+deliveryColumns+", COALESCE((SELECT length(body) FROM @.payloads WHERE delivery_id = id), 0) FROM @.deliveries WHERE id > $1 ORDER BY id LIMIT $2",
		pgID(e.at.delivery), eraseLooks+1)
	return list, err
}

// readableSessions returns which of the deliveries' sessions are stored, and can be read.
func (e *eraseSearch) readableSessions(list []leftDelivery) (readable map[int64]bool, err error) {
	readable = make(map[int64]bool)
	var nos []int64
	for i := range list {
		if list[i].sessionNo != 0 {
			nos = append(nos, list[i].sessionNo)
		}
	}
	if len(nos) == 0 {
		return readable, nil
	}
	err = e.q.query(func(found pgx.Rows) error {
		r, err := scanSession(found)
		if r == nil {
			return err
		}
		readable[r.no] = err == nil
		return nil
	}, "SELECT "+sessionColumns+" FROM @.sessions WHERE no = ANY($1)", nos)
	return readable, err
}

// inBodies looks for a person in deliveries, and in their payloads.
func (e *eraseSearch) inBodies(p *engine.Person, ids uuids) (found map[uuid.UUID]bool, err error) {
	found = make(map[uuid.UUID]bool)
	if len(ids) == 0 {
		return found, nil
	}
	err = e.q.query(func(rows pgx.Rows) error {
		var body []byte
		d, err := scanDelivery(rows, &body)
		if d == nil {
			return err
		}
		if err == nil {
			found[d.ID], err = p.InDelivery(&d.Delivery, body)
		}
		if err != nil || d.hasPayload && body == nil && !found[d.ID] {
			e.damaged = append(e.damaged, damage("payload", d.ID)) // the parser's error may quote it
		}
		return nil
	}, "SELECT "+deliveryColumns+", p.body FROM @.deliveries "+withPayload+" WHERE id = ANY($1)", ids)
	return found, err
}

// lookForLeftOf looks for deliveries that are left of a session, by its id. A dry run has counted those of a session that is stored.
func (e *eraseSearch) lookForLeftOf() error {
	var end uuid.UUID
	err := e.q.query(func(found pgx.Rows) error {
		e.more = true
		return found.Scan((*[16]byte)(&end))
	}, "SELECT id FROM @.deliveries WHERE id > $1 ORDER BY id OFFSET $2 LIMIT 1", pgID(e.at.delivery), eraseIDLooks-1)
	if err != nil {
		return err
	}
	if !e.more {
		end = uuid.Max
	}
	var list []leftDelivery
	err = e.q.query(func(found pgx.Rows) error {
		d, err := scanDelivery(found)
		if d == nil {
			return err
		}
		if err != nil {
			e.damaged = append(e.damaged, err)
		}
		list = append(list, leftDelivery{deliveryRow: d, damaged: err != nil})
		return nil
	}, "SELECT "+deliveryColumns+" FROM @.deliveries WHERE id > $1 AND id <= $2 AND session_id = $3 ORDER BY id LIMIT $4", pgID(e.at.delivery), pgID(end), pgID(e.what.SessionID), eraseFinds)
	if err != nil {
		return err
	}
	readable, err := e.readableSessions(list)
	if err != nil {
		return err
	}
	for _, d := range list {
		if !d.damaged && d.Kind.OfSession() && !(e.what.DryRun && readable[d.sessionNo]) {
			e.deliveries = append(e.deliveries, d.ID)
		}
	}
	if len(list) == eraseFinds { // there may be more before the end
		e.more, end = true, list[len(list)-1].ID
	}
	e.at.delivery = end
	return nil
}

// count counts what is stored of what was found.
func (e *eraseSearch) count(step *engine.ErasedStep) error {
	ids := e.deliveries
	var nos []int64
	for _, r := range e.sessions {
		step.Erased.Sessions++
		step.Erased.Events += int64(r.Events)
		for _, ref := range r.Deliveries {
			ids = append(ids, ref.ID)
		}
		nos = append(nos, r.no)
	}
	add := func(found pgx.Rows) error {
		d, err := scanDelivery(found)
		switch {
		case d == nil:
			return err
		case err != nil:
			step.Damaged = append(step.Damaged, err)
		default:
			step.Erased.Deliveries++
			step.Erased.Attempts += int64(d.Attempts)
		}
		return nil
	}
	if len(ids) > 0 {
		if err := e.q.query(add, "SELECT "+deliveryColumns+" FROM @.deliveries WHERE id = ANY($1)", ids); err != nil {
			return err
		}
	}
	if len(nos) == 0 {
		return nil
	}
	return e.q.query(add, "SELECT "+deliveryColumns+" FROM @.deliveries WHERE id = ANY(ARRAY(SELECT delivery_id FROM @.marks WHERE session_no = ANY($1)))", nos)
}

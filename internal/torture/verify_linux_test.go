package torture

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"hookbolt/engine"
	"hookbolt/storage/bolt"
)

func init() { children["verify"] = verifyChild }

// item is what must be in a database: a session with at least so many events, or a delivery that is delivered.
type item struct {
	ID        uuid.UUID
	Events    int
	Delivered bool
	From      int // the stamp from which on it must be there
	Until     int // the stamp from which on it may be gone; 0 for never
}

// question asks whether a database is whole.
type question struct {
	Dir    string // where hookbolt.db is
	Ledger string // the path of a list of items as JSON; "" for none
	Stamp  int
	Create bool // a database that is absent is to be made, as a start does
}

// judgement answers it.
type judgement struct {
	Absent bool     // there is no database
	Errors []string // why it cannot be opened, or what Store.Check finds
	Lost   []uuid.UUID
}

// whole tells whether nothing is wrong.
func (v *judgement) whole() bool { return len(v.Errors) == 0 && len(v.Lost) == 0 }

func (v *judgement) String() string {
	return fmt.Sprintf("%d lost %v, %d errors %.3q", len(v.Lost), v.Lost[:min(3, len(v.Lost))], len(v.Errors), v.Errors[:min(3, len(v.Errors))])
}

// verifier judges databases one after the other in a child process, which a damaged one may end.
type verifier struct {
	t       *testing.T
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	answers *json.Decoder
}

func newVerifier(t *testing.T) *verifier {
	v := &verifier{t: t}
	t.Cleanup(v.end)
	return v
}

func (v *verifier) end() {
	if v.cmd != nil {
		v.stdin.Close()
		v.cmd.Wait()
		v.cmd = nil
	}
}

// judge judges one database. That it ends the child is an error of the judgement.
func (v *verifier) judge(q question) judgement {
	if v.cmd == nil {
		v.cmd = exec.Command(os.Args[0])
		v.cmd.Env = append(os.Environ(), childEnv+"=verify")
		var err error
		if v.stdin, err = v.cmd.StdinPipe(); err != nil {
			v.t.Fatal(err)
		}
		stdout, err := v.cmd.StdoutPipe()
		if err != nil {
			v.t.Fatal(err)
		}
		if err := v.cmd.Start(); err != nil {
			v.t.Fatal(err)
		}
		v.answers = json.NewDecoder(bufio.NewReader(stdout))
	}
	var a judgement
	err := json.NewEncoder(v.stdin).Encode(q)
	if err == nil {
		err = v.answers.Decode(&a)
	}
	if err != nil {
		v.stdin.Close()
		a = judgement{Errors: []string{fmt.Sprintf("looking at it ended the process: %v", v.cmd.Wait())}}
		v.cmd = nil
	}
	return a
}

// writeLedger writes a list of items for a question.
func writeLedger(t *testing.T, path string, items []item) {
	t.Helper()
	raw, err := json.Marshal(items)
	if err == nil {
		err = os.WriteFile(path, raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func verifyChild(_ string, stdout io.Writer) error {
	var ledger string // the path of the last one, and what it has
	var items []item
	out := json.NewEncoder(stdout)
	for in := json.NewDecoder(bufio.NewReader(os.Stdin)); ; {
		var q question
		if err := in.Decode(&q); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if q.Ledger != ledger {
			raw, err := os.ReadFile(q.Ledger)
			if err == nil {
				items = nil
				err = json.Unmarshal(raw, &items)
			}
			if err != nil {
				return err
			}
			ledger = q.Ledger
		}
		must := make(map[uuid.UUID]item)
		for _, i := range items {
			if i.From <= q.Stamp && (i.Until == 0 || q.Stamp < i.Until) && i.Events >= must[i.ID].Events {
				must[i.ID] = i
			}
		}
		if err := out.Encode(judge(q, must)); err != nil {
			return err
		}
	}
}

func judge(q question, must map[uuid.UUID]item) (a judgement) {
	path := filepath.Join(q.Dir, "hookbolt.db")
	_, err := os.Stat(path)
	if a.Absent = errors.Is(err, fs.ErrNotExist); a.Absent && !q.Create {
		for id := range must {
			a.Lost = append(a.Lost, id)
		}
		return a
	}
	s, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		return judgement{Errors: []string{err.Error()}}
	}
	for _, err := range s.Check() {
		a.Errors = append(a.Errors, err.Error())
	}
	for id, i := range must {
		if !holds(s, id, i) {
			a.Lost = append(a.Lost, id)
		}
	}
	if err := s.Close(); err != nil {
		a.Errors = append(a.Errors, err.Error())
	}
	return a
}

func holds(s *bolt.Store, id uuid.UUID, i item) bool {
	if i.Delivered {
		d, _, _, err := s.Delivery(context.Background(), id)
		return err == nil && d.Status == engine.StatusDelivered
	}
	record, _, err := s.Session(context.Background(), id)
	return err == nil && record.Head.Events >= i.Events
}

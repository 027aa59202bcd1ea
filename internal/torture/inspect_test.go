package torture

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
	"hookbolt/storage/bolt"
)

// childEnv names what the test binary does as a child of itself, on what childArg names: looking at a database that may be damaged
// would end the harness otherwise.
const (
	childEnv = "HOOKBOLT_TORTURE_CHILD"
	childArg = "HOOKBOLT_TORTURE_ARG"
)

var children = map[string]func(arg string, out io.Writer) error{"inspect": inspectChild, "read": readChild}

func runChild(name string) int {
	if err := children[name](os.Getenv(childArg), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// inspection is what a database holds.
type inspection struct {
	Violations []string // of Store.Check
	Deliveries []delivery
	Sessions   map[uuid.UUID]int // how many events each has
}

// delivery is a delivery as it is stored.
type delivery struct {
	ID        uuid.UUID
	WebhookID uint32
	Session   uuid.UUID
	Kind      engine.Kind
	Status    engine.Status
	Attempts  int
	// Repeats is how many requests were sent once more, because the endpoint had closed the kept connection: the first one may not
	// have arrived at all.
	Repeats int
}

// inspect copies a database that no process has open, opens the copy, checks it and reads its deliveries. The file itself stays
// untouched. An error means that the copy cannot be used.
func inspect(ctx context.Context, database, scratch string) (inspection, error) {
	var found inspection
	duplicate := filepath.Join(scratch, "inspected.db")
	defer os.Remove(duplicate)
	defer os.Remove(duplicate + ".lock")
	if err := copyFile(duplicate, database); err != nil {
		return found, err
	}
	out, err := child(ctx, "inspect", duplicate)
	if err != nil {
		return found, fmt.Errorf("look at the database: %w", err)
	}
	return found, gob.NewDecoder(bytes.NewReader(out)).Decode(&found)
}

// child runs the test binary as a child of itself and returns what it prints.
func child(ctx context.Context, name, arg string) ([]byte, error) {
	return childOf(ctx, os.Args[0], name, arg)
}

// childOf is child with another binary of these tests, such as a mutant.
func childOf(ctx context.Context, binary, name, arg string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary)
	cmd.Env = append(os.Environ(), childEnv+"="+name, childArg+"="+arg)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, firstLines(stderr.String(), 20))
	}
	return out.Bytes(), nil
}

func inspectChild(path string, out io.Writer) error {
	s, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	var found inspection
	for _, v := range s.Check() {
		found.Violations = append(found.Violations, v.Error())
	}
	if err := found.read(context.Background(), s, func(d *engine.Delivery) bool { return d.Attempts > 0 }); err != nil {
		return err
	}
	return gob.NewEncoder(out).Encode(found)
}

// read reads what a store holds. It looks at the attempts of deliveries only where repeats says that some of them may have sent a request once more.
func (found *inspection) read(ctx context.Context, s engine.Store, repeats func(*engine.Delivery) bool) error {
	var all []engine.Delivery
	if err := eachDelivery(s, func(d *engine.Delivery) { all = append(all, *d) }); err != nil {
		return err
	}
	for i := range all {
		d := &all[i]
		stored := delivery{d.ID, d.WebhookID, d.SessionID, d.Kind, d.Status, d.Attempts, 0}
		if repeats(d) {
			_, _, attempts, err := s.Delivery(ctx, d.ID)
			if err != nil {
				found.Violations = append(found.Violations, err.Error())
			}
			for _, a := range attempts {
				if a.Repeated != "" {
					stored.Repeats++
				}
			}
		}
		found.Deliveries = append(found.Deliveries, stored)
	}
	found.Sessions = make(map[uuid.UUID]int)
	for q := (engine.SessionQuery{Limit: 5000}); ; {
		page, err := s.Sessions(ctx, q)
		if err != nil {
			return err
		}
		for i := range page.Items {
			found.Sessions[page.Items[i].ID] = page.Items[i].Events
		}
		if q.Cursor = page.NextCursor; q.Cursor == "" {
			return nil
		}
	}
}

// eachDelivery walks all deliveries of a database.
func eachDelivery(s engine.Store, f func(*engine.Delivery)) error {
	q := engine.DeliveryQuery{Limit: 5000}
	for {
		page, err := s.Deliveries(context.Background(), q)
		if err != nil {
			return err
		}
		for i := range page.Items {
			f(&page.Items[i])
		}
		if q.Cursor = page.NextCursor; q.Cursor == "" {
			return nil
		}
	}
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// firstLines cuts a text.
func firstLines(text string, n int) string {
	end := 0
	for range n {
		next := bytes.IndexByte([]byte(text[end:]), '\n')
		if next < 0 {
			return text
		}
		end += next + 1
	}
	return text[:end] + "…"
}

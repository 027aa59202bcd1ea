package postgres

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

// endedProcess is one that ran on this machine and has ended.
func endedProcess(t *testing.T) process {
	t.Helper()
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	p := thisProcess()
	p.PID = cmd.Process.Pid
	stat, err := statOf(p.PID)
	if err != nil {
		t.Fatal(err)
	}
	p.Start = stat.start
	if p.hasEnded(thisProcess()) {
		t.Error("a process that runs has ended")
	}
	in.Close()
	for end := time.Now().Add(10 * time.Second); !p.hasEnded(thisProcess()); time.Sleep(time.Millisecond) { // nobody has asked yet how it has ended
		if time.Now().After(end) {
			t.Fatal("it does not count as ended")
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return p
}

// A process has ended if its number is not there any more, or is another one's now. Nothing is known of one on another machine, or of one in a container, whose
// numbers are its own.
func TestHasEnded(t *testing.T) {
	this, ended := thisProcess(), endedProcess(t)
	if this.System == "" || this.PID != os.Getpid() || this.Start == "" {
		t.Fatalf("this process is %+v", this)
	}
	again, elsewhere := this, ended
	again.Start += "1"
	elsewhere.System += "x"
	for _, test := range []struct {
		name string
		p    process
		want bool
	}{
		{"this one", this, false},
		{"one that has ended", ended, true},
		{"one before with the same number", again, true},
		{"on another machine", elsewhere, false},
		{"unknown", process{}, false},
		{"without a number", process{System: this.System}, false},
	} {
		if got := test.p.hasEnded(this); got != test.want {
			t.Errorf("%s: %t, want %t", test.name, got, test.want)
		}
		if test.p.hasEnded(process{}) {
			t.Errorf("%s: it has ended for somebody who does not know where he runs", test.name)
		}
	}
}

// Nobody waits for the beats of a process that has ended on the same machine.
func TestEndedOnSameMachine(t *testing.T) {
	ended := about{Process: endedProcess(t)}
	inBubble(t, func(t *testing.T, schema string) {
		all := fleetOf(t, schema, 2)
		hooks := hooksOf(t, all)
		a, b := all[0], all[1]
		a.line.cut()
		sqlOf(t, b.Store, "UPDATE @.members SET about = '"+string(ended.encode())+"' WHERE id = (SELECT min(id) FROM @.members) RETURNING 'done'")
		time.Sleep(1500 * time.Millisecond) // one beat in which the other one has the first place for the lanes, and a poll
		for _, w := range hooks[0] {
			if !b.Mine(w.ID) {
				t.Errorf("webhook %d was not taken over", w.ID)
			}
		}
		a.line.mend()
	})
}

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestBOM makes the bill of materials of hookbolt twice: it has each linked module, with a licence whose text is in the notices, and the
// same bytes both times.
func TestBOM(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "hookbolt")
	if out, err := exec.Command("go", "build", "-o", binary, "hookbolt").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var boms, notices [2][]byte
	for i := range boms {
		bom, notice := filepath.Join(dir, "bom"), filepath.Join(dir, "notices")
		err := run(binary, bom, notice)
		if err == nil {
			boms[i], err = os.ReadFile(bom)
		}
		if err == nil {
			notices[i], err = os.ReadFile(notice)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(boms[0], boms[1]) || !bytes.Equal(notices[0], notices[1]) {
		t.Error("the second time, the bytes are others")
	}
	var d document
	dec := json.NewDecoder(bytes.NewReader(boms[0]))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		t.Fatal(err)
	}
	if d.Format != "CycloneDX" || !strings.HasPrefix(d.SerialNumber, "urn:uuid:") || d.Metadata.Component.Name != "hookbolt" {
		t.Errorf("it is %+v", d)
	}
	out, err := exec.Command("go", "version", "-m", binary).Output()
	if err != nil {
		t.Fatal(err)
	}
	linked := 1 // the standard library
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[0] != "dep" {
			continue
		}
		linked++
		url := "pkg:golang/" + fields[1] + "@" + fields[2]
		if !bytes.Contains(boms[0], []byte(`"purl": "`+url+`"`)) || !bytes.Contains(notices[0], []byte("\n"+fields[1]+" "+fields[2]+" (")) {
			t.Errorf("%s is not among the components, or not in the notices", url)
		}
	}
	if len(d.Components) != linked || len(d.Dependencies) != 1 || len(d.Dependencies[0].DependsOn) != linked {
		t.Errorf("%d components, %d linked", len(d.Components), linked)
	}
	for _, c := range d.Components {
		if len(c.Licenses) != 1 || c.Licenses[0].License.ID == "" || c.Name != "std" && len(c.Hashes) != 1 {
			t.Errorf("%s has no licence, or no hash: %+v", c.Name, c)
		}
	}
	if !bytes.Contains(notices[0], []byte("Copyright")) {
		t.Error("the notices have no text")
	}
}

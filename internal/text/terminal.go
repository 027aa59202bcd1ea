package text

import (
	"io"
	"os"
)

// IsTerminal reports whether what is written to w is shown on a terminal, where a line can be drawn again.
func IsTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

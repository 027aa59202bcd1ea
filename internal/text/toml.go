package text

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"github.com/BurntSushi/toml"
)

// quotedText is what the decoder repeats of a file. It is not shown: a value without its quotes may be a secret. A single character, of
// which the decoder says that it expected another one, is not a secret. Large numbers are repeated without quotes.
var quotedText = regexp.MustCompile(`"[^"]{2,}.*"|\b[0-9]\w{7,}\b`)

// TOMLSyntax returns a syntax error of TOML as one line that names the place and shows no value of the file. Other errors are returned as
// they are.
func TOMLSyntax(err error) error {
	pe, ok := errors.AsType[toml.ParseError](err)
	if !ok {
		return err
	}
	message := strings.Map(func(r rune) rune { // it may quote the file
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, pe.Message)
	return fmt.Errorf("line %d, column %d: %s", pe.Position.Line, pe.Position.Col, quotedText.ReplaceAllString(message, "…"))
}

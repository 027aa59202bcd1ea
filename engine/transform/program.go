package transform

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/itchyny/gojq"
)

// compile compiles a program. The error is an *Error.
func compile(name, source string) (*gojq.Code, error) {
	if len(source) > MaxProgramBytes {
		return nil, &Error{Program: name, Detail: fmt.Sprintf("the program has %d bytes, but at most %d are allowed", len(source), MaxProgramBytes)}
	}
	if !utf8.ValidString(source) {
		return nil, &Error{Program: name, Detail: "the program is not valid UTF-8"}
	}
	query, err := gojq.Parse(source)
	if err != nil {
		return nil, parseError(name, source, err)
	}
	code, err := gojq.Compile(query, options...)
	if err != nil {
		return nil, compileError(name, source, err)
	}
	return code, nil
}

// prelude has what jq or hookbolt has and gojq has not, or has in another way.
const prelude = `
def localtime: gmtime;
def strflocaltime(f): strftime(f);
def debug: .;
def debug(f): .;
def stderr: .;
def keys_unsorted: keys;
def fromdateiso8601: _fromdate;
def fromdate: _fromdate;
def toarray: if type == "array" then . else [.] end;
`

// options are those of all compilations.
var options = []gojq.CompilerOption{
	gojq.WithModuleLoader(preludeLoader{}),
	gojq.WithFunction("sha256", 0, 0, digest("sha256", sha256.New)),
	gojq.WithFunction("sha1", 0, 0, digest("sha1", sha1.New)),
	gojq.WithFunction("md5", 0, 0, digest("md5", md5.New)),
	gojq.WithFunction("hmac_sha256", 1, 1, hmacSHA256),
	gojq.WithFunction("downcase", 0, 0, mapped("downcase", strings.ToLower)),
	gojq.WithFunction("_fromdate", 0, 0, fromDate),
	gojq.WithFunction("upcase", 0, 0, mapped("upcase", strings.ToUpper)),
}

// preludeLoader is a loader that has no modules, only the prelude.
type preludeLoader struct{}

// errNoModules is what import and include get.
var errNoModules = errors.New("there are no modules to import or include: write the functions into the program")

// LoadModule is called by gojq for import and include, and LoadJSON for an import of data.
func (preludeLoader) LoadModule(string) (*gojq.Query, error) { return nil, errNoModules }
func (preludeLoader) LoadJSON(string) (any, error)           { return nil, errNoModules }

var parsedPrelude = sync.OnceValues(func() (*gojq.Query, error) { return gojq.Parse(prelude + ".") })

// LoadInitModules is called by gojq before each compilation.
func (preludeLoader) LoadInitModules() ([]*gojq.Query, error) {
	query, err := parsedPrelude()
	return []*gojq.Query{query}, err
}

// digest returns a function of jq that gives the hash of a string in hexadecimal digits.
func digest(name string, algorithm func() hash.Hash) func(any, []any) any {
	return func(v any, _ []any) any {
		s, ok := v.(string)
		if !ok {
			return needsString(name, v)
		}
		h := algorithm()
		h.Write([]byte(s))
		return hex.EncodeToString(h.Sum(nil))
	}
}

// hmacSHA256 is hmac_sha256(key) of jq.
func hmacSHA256(v any, args []any) any {
	s, ok := v.(string)
	if !ok {
		return needsString("hmac_sha256", v)
	}
	key, ok := args[0].(string)
	if !ok {
		return fmt.Errorf("the key of hmac_sha256 must be a string, but is %s", kind(args[0]))
	}
	h := hmac.New(sha256.New, []byte(key))
	h.Write([]byte(s))
	return hex.EncodeToString(h.Sum(nil))
}

// mapped returns a function of jq that maps a string.
func mapped(name string, f func(string) string) func(any, []any) any {
	return func(v any, _ []any) any {
		s, ok := v.(string)
		if !ok {
			return needsString(name, v)
		}
		return f(s)
	}
}

// fromDate is fromdate of jq: the Unix seconds of a time in RFC 3339. jq's refuses fractions of a second, which all times of a payload have.
func fromDate(v any, _ []any) any {
	s, ok := v.(string)
	if !ok {
		return needsString("fromdate", v)
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return fmt.Errorf("fromdate cannot be applied to %s: it is no time such as 2026-01-15T10:00:00Z", gojq.Preview(v))
	}
	return int(t.Unix())
}

// needsString is the error of a function that works on strings only, in gojq's words.
func needsString(name string, v any) error {
	if v == nil {
		return fmt.Errorf("%s cannot be applied to: null", name)
	}
	return fmt.Errorf("%s cannot be applied to: %s (%s)", name, gojq.TypeOf(v), gojq.Preview(v))
}

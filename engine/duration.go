package engine

import (
	"fmt"
	"strings"
	"time"
)

// Duration is a time.Duration that is written as in "15s" or "2h45m" in JSON and TOML.
type Duration time.Duration

// MarshalText writes the duration without the zero units that time.Duration would add: "5m", not "5m0s".
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// UnmarshalText parses what time.ParseDuration parses.
func (d *Duration) UnmarshalText(text []byte) error {
	span, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf(`must be a duration, such as "15s", "5m" or "2h" (got %q)`, Excerpt(string(text)))
	}
	*d = Duration(span)
	return nil
}

// seconds returns a duration of n seconds.
func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }

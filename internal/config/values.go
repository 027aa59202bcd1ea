package config

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"

	"hookbolt/engine"
)

// Size is a number of bytes. It is written with a unit, such as "512KiB", "1MiB" or "1GiB", or plain.
type Size int64

var sizeUnits = []struct {
	name  string
	bytes int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"", 1}}

func (s Size) String() string {
	for _, u := range sizeUnits {
		if n := int64(s); n != 0 && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return "0"
}

// UnmarshalText parses what String writes, and any other integer with a unit.
func (s *Size) UnmarshalText(text []byte) error {
	for _, u := range sizeUnits {
		number, ok := strings.CutSuffix(string(text), u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/u.bytes {
			break
		}
		*s = Size(n * u.bytes)
		return nil
	}
	return fmt.Errorf(`must be a size, such as "512KiB", "1MiB" or "1GiB" (got %.40q)`, text)
}

// Network is a range of addresses, such as "10.0.0.0/8". An address alone is a range of one.
type Network netip.Prefix

func (n Network) String() string { return netip.Prefix(n).String() }

// UnmarshalText parses a range or an address.
func (n *Network) UnmarshalText(text []byte) error {
	p, err := engine.ParseNetwork(string(text))
	if err != nil {
		return err
	}
	*n = Network(p)
	return nil
}

// Package jsonobject writes JSON objects whose members are known at run time only, in a fixed order.
package jsonobject

import (
	"bytes"
	"encoding/json"
)

// Member is a name in an object and its value: what json.Marshal can write.
type Member struct {
	Name  string
	Value any
}

// Object is a JSON object. Its members keep their order. A name may stand twice; whoever reads the object says what is wrong with that.
type Object []Member

// Add puts a member at the end.
func (o *Object) Add(name string, value any) { *o = append(*o, Member{name, value}) }

// MarshalJSON writes the object, and text in it without the escapes of HTML.
func (o Object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := enc.Encode(m.Name); err != nil {
			return nil, err
		}
		b.WriteByte(':')
		if err := enc.Encode(m.Value); err != nil {
			return nil, err
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

package engine

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/textproto"
	"slices"
	"strings"

	"hookbolt/engine/jsonread"
	"hookbolt/engine/send"
)

// members are the members of a JSON object, by name. A value that is null removes a member where they are a change.
type members map[string]json.RawMessage

// membersPatch changes members of a setting that is an object: those that are given take the place of what is set, those that are null are
// removed, all others stay (RFC 7396). It works on the JSON that the setting is read from, so that the reader of the setting checks the
// result, whatever the members are.
type membersPatch struct {
	setting *Setting
	given   members
	// headers are the members of the member of that name, which is an object of the caller's own names; nil if it is not given as one.
	headers members
}

// isNull reports whether a member is to be removed.
func isNull(value json.RawMessage) bool { return string(value) == "null" }

// readMembers reads a change of a setting that is an object. What is wrong with a value is found where it is merged.
func readMembers(s *Setting, r *jsonread.Reader) *membersPatch {
	p := &membersPatch{setting: s, given: make(members)}
	ofCaller := s.value.ofCaller
	r.Object(func(key []byte) bool {
		if !ofCaller && string(key) == "headers" && r.Peek() == '{' {
			p.headers = make(members)
			r.Object(p.headers.readHeader(r))
			return true
		}
		if ofCaller {
			return p.given.readHeader(r)(key)
		}
		p.given[string(key)] = bytes.Clone(r.Raw())
		return true
	})
	return p
}

// readHeader returns a function that reads a member of an object of headers, whose names are the same in any case.
func (m members) readHeader(r *jsonread.Reader) func(key []byte) bool {
	return func(key []byte) bool {
		name := textproto.CanonicalMIMEHeaderKey(string(key))
		if _, twice := m[name]; twice {
			r.Fail("the header stands twice; its name is the same in any case")
		}
		m[name] = bytes.Clone(r.Raw())
		return true
	}
}

// applyTo changes the webhook's setting. If the webhook moves to another host, or the setting's own token endpoint does, nothing that is set
// is kept: headers that are not given are dropped, and lost has their paths; parts of other credentials have to be given again, all of them.
func (p *membersPatch) applyTo(w *Webhook, moves bool) (lost []string, bad InputErrors) {
	s := p.setting
	present := s.value.members(w)
	p.replaceOther(present)
	if moves && s.value.leave != nil {
		for _, path := range s.value.leave(w) {
			if name := strings.TrimPrefix(path, s.Name+"."); present[name] != nil && !p.gives(name) {
				lost = append(lost, path)
			}
		}
		present = s.value.members(w)
		p.replaceOther(present)
	} else if moves && s.OfHost || p.movesToken(present) {
		for _, name := range slices.Sorted(maps.Keys(present)) {
			switch {
			case p.gives(name):
			case s.value.ofCaller:
				lost = append(lost, s.Name+"."+name)
			default:
				bad = append(bad, InputError{Field: s.Name + "." + name, Detail: "must be given again, or null: what is set is for another host"})
			}
		}
		if bad != nil {
			return nil, bad
		}
		present = members{}
	}
	after := maps.Clone(present)
	after.merge(p.given)
	if isNull(p.given[newKeyMember]) && s.Name == "signature" {
		after[newKeyMember] = p.given[newKeyMember] // which makes a new key pair: without it the present one stays
	}
	if p.headers != nil {
		headers := members{}
		if kept := present["headers"]; kept != nil {
			if err := json.Unmarshal(kept, &headers); err != nil {
				panic(err) // cannot be: it was just written
			}
		}
		headers.merge(p.headers)
		after["headers"] = headers.object()
	}
	err := parseObject(members{s.Name: after.object()}.object(), func(r *jsonread.Reader, _ []byte) bool {
		s.value.read(r)(w)
		return true
	})
	bad, _ = err.(InputErrors)
	return lost, bad
}

// gives reports whether the change names a member.
func (p *membersPatch) gives(name string) bool {
	_, given := p.given[name]
	return given || name == "headers" && p.headers != nil
}

// oauth2Standard are the members of oauth2 that make the standard token request. They and body take the place of each other.
var oauth2Standard = []string{"client_id", "client_secret", "scopes"}

// newKeyMember is the member of signature that has no default by itself: null makes another key pair.
const newKeyMember = "secret_key"

// ofSignatureHeader are the members of signature that go with its header.
var ofSignatureHeader = []string{"prefix", "encoding", "secret"}

// replaceOther removes from what is set of oauth2 the one way to ask for a token if the other one is given, and from signature what belongs
// to a header that is removed.
func (p *membersPatch) replaceOther(present members) {
	if p.setting.value.ofCaller {
		return
	}
	if p.setting.Name == "signature" {
		if isNull(p.given["header"]) {
			for _, name := range ofSignatureHeader {
				delete(present, name)
			}
		}
		return
	}
	set := func(name string) bool { return p.given[name] != nil && !isNull(p.given[name]) }
	for _, pair := range tlsInPlace { // names that no other setting has
		for i, name := range pair {
			if set(name) {
				delete(present, pair[1-i])
			}
		}
	}
	if slices.ContainsFunc(oauth2Standard, set) {
		delete(present, "body")
	}
	if set("body") {
		for _, name := range oauth2Standard {
			delete(present, name)
		}
		delete(present, "auth_style")
	}
}

// movesToken reports whether the change leads to a token endpoint on another host. Whoever may change its URL would else have the client's
// secret sent to himself.
func (p *membersPatch) movesToken(present members) bool {
	var before, after string
	if p.setting.value.ofCaller || json.Unmarshal(present["token_url"], &before) != nil || json.Unmarshal(p.given["token_url"], &after) != nil {
		return false
	}
	canonical, err := send.CanonicalURL(after) // what is no URL is refused as such
	return err == nil && !SameHost(before, canonical)
}

// merge changes the members as a change has them.
func (m members) merge(change members) {
	for name, value := range change {
		if isNull(value) {
			delete(m, name)
		} else {
			m[name] = value
		}
	}
}

// object returns the members as JSON. The values stay as they are, to the byte: a token request is sent as it was given.
func (m members) object() json.RawMessage {
	if len(m) == 0 {
		return json.RawMessage("{}")
	}
	var b bytes.Buffer
	separator := byte('{')
	for _, name := range slices.Sorted(maps.Keys(m)) {
		b.WriteByte(separator)
		separator = ','
		key, err := json.Marshal(name)
		if err != nil {
			panic(err) // cannot be: a string
		}
		b.Write(key)
		b.WriteByte(':')
		b.Write(m[name])
	}
	b.WriteByte('}')
	return b.Bytes()
}

// headerMembers, basicAuthMembers and oauth2Members return what is set, as it is read.
func headerMembers(w *Webhook) members { return membersOf(w.Headers) }

func basicAuthMembers(w *Webhook) members {
	if w.BasicAuth == nil {
		return members{}
	}
	return membersOf(w.BasicAuth)
}

func oauth2Members(w *Webhook) members {
	if w.OAuth2 == nil {
		return members{}
	}
	return OAuth2Setting(w.OAuth2)
}

// membersOf returns the members of what is stored in the form in which it is read.
func membersOf(stored any) members {
	text, err := json.Marshal(stored)
	if err != nil {
		panic(err) // cannot be: strings
	}
	found := members{}
	if err := json.Unmarshal(text, &found); err != nil {
		panic(err) // cannot be: it was just written
	}
	if found == nil { // null
		found = members{}
	}
	return found
}

package transform

import (
	"context"
	"strconv"

	"github.com/itchyny/gojq"
)

// locate finds where a program fails on a payload. gojq does not say it, and its syntax trees have no places. So the program runs once more,
// with a try around each part that may fail, whose catch says which part it is. The parts get their places from the tokens: a walk through
// the tree meets names and operators in the order in which they are written.
//
// The program may have caught errors itself, and the run may end otherwise than the first. Then there is no place.
func locate(ctx context.Context, source string, payload any) (at token, ok bool) {
	query, err := gojq.Parse(source)
	if err != nil {
		return token{}, false
	}
	tokens, _ := tokenize(source)
	m := marker{tokens: tokens}
	m.query(query)
	code, err := gojq.Compile(query, markedOptions...)
	if err != nil {
		return token{}, false
	}
	v, _ := code.RunWithContext(ctx, payload).Next()
	failed, ok := v.(*markedError)
	if !ok || failed.part >= len(m.parts) {
		return token{}, false
	}
	return m.parts[failed.part], true
}

// markFunction is called by the catches that a marker puts in. No program can call it: the name is no identifier.
const markFunction = "mark function"

// markedOptions are options with markFunction. It does not change the mark of an error that has one.
var markedOptions = append(options[:len(options):len(options)], gojq.WithFunction(markFunction, 1, 1, func(v any, args []any) any {
	if failed, ok := v.(map[string]any); ok {
		if part, ok := failed[markFunction].(int); ok {
			return &markedError{part}
		}
	}
	part, _ := gojq.ToInt(args[0])
	return &markedError{part}
}))

// markedError is an error of a part of a program.
type markedError struct{ part int }

func (e *markedError) Error() string { return markFunction }

// Value is what a catch gets.
func (e *markedError) Value() any { return map[string]any{markFunction: e.part} }

// marker puts a try around each part of a program that may fail.
type marker struct {
	tokens []token
	next   int     // the first token that was not met
	parts  []token // by their number
}

// take returns the next token that has a text, and goes on behind it. If there is none, it returns the one where it is.
func (m *marker) take(text string) token {
	for i := m.next; i < len(m.tokens); i++ {
		if m.tokens[i].text == text {
			m.next = i + 1
			return m.tokens[i]
		}
	}
	return m.tokens[min(m.next, len(m.tokens)-1)]
}

// mark returns a term that does what another one does, and marks its errors with a token.
func (m *marker) mark(t *gojq.Term, at token) *gojq.Term {
	number := &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeNumber, Number: strconv.Itoa(len(m.parts))}}
	m.parts = append(m.parts, at)
	call := &gojq.Func{Name: markFunction, Args: []*gojq.Query{number}}
	return &gojq.Term{Type: gojq.TermTypeTry, Try: &gojq.Try{
		Body:  &gojq.Query{Term: t},
		Catch: &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeFunc, Func: call}},
	}}
}

func (m *marker) query(q *gojq.Query) {
	if q == nil {
		return
	}
	for _, f := range q.FuncDefs {
		m.take("def")
		m.take(f.Name)
		for _, argument := range f.Args {
			m.take(argument)
		}
		m.query(f.Body)
	}
	if q.Term != nil {
		q.Term = m.term(q.Term)
		return
	}
	if q.Left == nil {
		return
	}
	m.query(q.Left)
	if len(q.Patterns) > 0 {
		m.take("as")
		m.patterns(q.Patterns)
	}
	operator := m.take(q.Op.String())
	m.query(q.Right)
	switch q.Op {
	case gojq.OpPipe, gojq.OpComma, gojq.OpAlt, gojq.OpAnd, gojq.OpOr:
		return // these do not fail
	}
	operation := *q
	operation.FuncDefs = nil
	*q = gojq.Query{Meta: q.Meta, Imports: q.Imports, FuncDefs: q.FuncDefs,
		Term: m.mark(&gojq.Term{Type: gojq.TermTypeQuery, Query: &operation}, operator)}
}

// patterns passes the variables of a destructuring.
func (m *marker) patterns(patterns []*gojq.Pattern) {
	for _, p := range patterns {
		if p.Name != "" {
			m.take(p.Name)
		}
		m.patterns(p.Array)
		for _, member := range p.Object {
			if member.Key != "" {
				m.take(member.Key)
			}
			m.text(member.KeyString)
			m.query(member.KeyQuery)
			if member.Val != nil {
				m.patterns([]*gojq.Pattern{member.Val})
			}
		}
	}
}

// term marks a term and each of its suffixes.
func (m *marker) term(t *gojq.Term) *gojq.Term {
	suffixes := t.SuffixList
	t.SuffixList = nil
	at, fails := m.base(t)
	for {
		optional := len(suffixes) > 0 && suffixes[0].Optional
		for len(suffixes) > 0 && suffixes[0].Optional {
			t.SuffixList = append(t.SuffixList, suffixes[0])
			suffixes = suffixes[1:]
		}
		if fails && !optional {
			t = m.mark(t, at)
		}
		if len(suffixes) == 0 {
			return t
		}
		s := suffixes[0]
		suffixes = suffixes[1:]
		t = &gojq.Term{Type: gojq.TermTypeQuery, Query: &gojq.Query{Term: t}, SuffixList: []*gojq.Suffix{s}}
		if fails = true; s.Index != nil {
			at = m.index(s.Index)
		} else {
			at = m.take("[")
		}
	}
}

// base passes a term without its suffixes, and returns its token and whether it may fail.
func (m *marker) base(t *gojq.Term) (at token, fails bool) {
	switch {
	case t.Index != nil:
		return m.index(t.Index), true
	case t.Func != nil:
		at = m.take(t.Func.Name)
		for _, argument := range t.Func.Args {
			m.query(argument)
		}
		return at, t.Func.Name[0] != '$'
	case t.Object != nil:
		at = m.take("{")
		for _, member := range t.Object.KeyVals {
			if member.Key != "" {
				m.take(member.Key)
			}
			m.text(member.KeyString)
			m.query(member.KeyQuery)
			m.query(member.Val)
		}
		return at, true
	case t.Array != nil:
		m.take("[")
		m.query(t.Array.Query)
	case t.Unary != nil:
		at = m.take(t.Unary.Op.String())
		t.Unary.Term = m.term(t.Unary.Term)
		return at, true
	case t.Format != "":
		at = m.take(t.Format)
		m.text(t.Str)
		return at, true
	case t.Str != nil:
		m.text(t.Str)
	case t.Query != nil:
		m.take("(")
		m.query(t.Query)
	default:
		m.control(t)
	}
	return token{}, false
}

// control passes a term that is a control structure.
func (m *marker) control(t *gojq.Term) {
	switch {
	case t.If != nil:
		m.take("if")
		m.query(t.If.Cond)
		m.query(t.If.Then)
		for _, branch := range t.If.Elif {
			m.query(branch.Cond)
			m.query(branch.Then)
		}
		m.query(t.If.Else)
		m.take("end")
	case t.Try != nil:
		m.take("try")
		m.query(t.Try.Body)
		m.query(t.Try.Catch)
	case t.Reduce != nil:
		m.take("reduce")
		m.query(t.Reduce.Query)
		m.patterns(t.Reduce.Patterns)
		m.query(t.Reduce.Start)
		m.query(t.Reduce.Update)
	case t.Foreach != nil:
		m.take("foreach")
		m.query(t.Foreach.Query)
		m.patterns(t.Foreach.Patterns)
		m.query(t.Foreach.Start)
		m.query(t.Foreach.Update)
		m.query(t.Foreach.Extract)
	case t.Label != nil:
		m.take("label")
		m.query(t.Label.Body)
	}
}

// index passes an index and returns its token.
func (m *marker) index(i *gojq.Index) token {
	switch {
	case i.Name != "":
		return m.take("." + i.Name)
	case i.Str != nil:
		return m.text(i.Str)
	}
	at := m.take("[")
	m.query(i.Start)
	m.query(i.End)
	return at
}

// text passes a string and returns its token.
func (m *marker) text(s *gojq.String) token {
	if s == nil {
		return token{}
	}
	at := m.take(`"`)
	for _, part := range s.Queries {
		if part.Term != nil && part.Term.Type == gojq.TermTypeString && part.Term.Str.Queries == nil && len(part.Term.SuffixList) == 0 {
			continue // what stands between the values
		}
		m.query(part)
	}
	m.take(`"`)
	return at
}

package ui

// input is a field of a form: the part "input" shows it.
type input struct {
	// Name is its name in the form, and its id.
	Name, Label, Help string
	Kind              inputKind
	Placeholder       string
	// Value is what stands in it, Checked whether a box is. Credentials stand in none.
	Value   string
	Checked bool
	// Error says what is wrong with it.
	Error string
}

type inputKind string

const (
	textInput   inputKind = "text"
	urlInput    inputKind = "url"
	numberInput inputKind = "number"
	checkInput  inputKind = "check"
	areaInput   inputKind = "area"
	secretInput inputKind = "secret" // a credential: it is never shown
)

package ui

// input is a field of a form: the part "input" shows it.
type input struct {
	// Name is its name in the form, and its id.
	Name, Label, Help string
	// Unit stands beside the label.
	Unit        string
	Kind        inputKind
	Placeholder string
	// Value is what stands in it, Checked whether a box is. Credentials stand in none.
	Value   string
	Checked bool
	// Hidden tells that it takes a credential, which is not shown again, Set that there is one already, which stays if nothing is typed.
	Hidden, Set bool
	// Error says what is wrong with it.
	Error string
	// Allow is the network that would have to be allowed for the address that was refused; "" if none was.
	Allow string
}

type inputKind string

const (
	textInput   inputKind = "text"
	urlInput    inputKind = "url"
	numberInput inputKind = "number"
	checkInput  inputKind = "check"
	areaInput   inputKind = "area"   // a list, one on a line
	listInput   inputKind = "list"   // a list with commas between
	secretInput inputKind = "secret" // a credential: it is never shown
)

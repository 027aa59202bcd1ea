package ui

// input is a field of a form. The template part "input" shows it.
type input struct {
	// Name is its name in the form, and its id.
	Name, Label, Help string
	// Unit stands beside the label.
	Unit        string
	Kind        inputKind
	Placeholder string
	// Value is the field's text, Checked the state of a box. Fields of credentials are always empty.
	Value   string
	Checked bool
	// Hidden means that the field takes a credential, which is not shown again. Set means that there is one already; an empty field
	// keeps it.
	Hidden, Set bool
	// Error says what is wrong with it. Caret shows where in a program: the line, and a mark below the column; "" for another input.
	Error, Caret string
	// Previewed means that the preview tells at once what is wrong with it.
	Previewed bool
	// Blanks say what of the text is a placeholder of a recipe.
	Blanks []RecipeBlank
	// Allow is the network to allow for the address that was refused; "" if none was.
	Allow string
}

type inputKind string

const (
	textInput    inputKind = "text"
	urlInput     inputKind = "url"
	numberInput  inputKind = "number"
	checkInput   inputKind = "check"
	areaInput    inputKind = "area"    // a list, one on a line
	programInput inputKind = "program" // a text of several lines
	listInput    inputKind = "list"    // a list with commas between
	secretInput  inputKind = "secret"  // a credential: it is never shown
)

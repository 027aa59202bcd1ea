package httpapi

import (
	_ "embed"
	"net/http"

	"github.com/julienschmidt/httprouter"
)

// openapi describes the whole API, in OpenAPI 3.1, and payloadSchema what an endpoint gets, in JSON Schema 2020-12. The description has
// the payload's schema once more, so that the file is of use on its own; a test holds both equal, and everything else in it against the
// routes, the parsers and real exchanges.
var (
	//go:embed openapi.yaml
	openapi []byte
	//go:embed payload.schema.json
	payloadSchema []byte
)

// document makes a handler that answers with a text that is always the same.
func document(contentType string, text []byte) handler {
	return func(*http.Request, httprouter.Params) (any, error) {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.Write(text) // an error means that the client has gone
		}), nil
	}
}

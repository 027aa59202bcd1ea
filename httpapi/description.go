package httpapi

import (
	_ "embed"
	"net/http"

	"github.com/julienschmidt/httprouter"
)

// openapi describes the whole API in OpenAPI 3.1, and payloadSchema the payload in JSON Schema 2020-12. openapi repeats the payload's
// schema, so that the file can be used alone. A test checks that both are equal. Other tests compare openapi with the routes, the
// parsers and real exchanges.
var (
	//go:embed openapi.yaml
	openapi []byte
	//go:embed payload.schema.json
	payloadSchema []byte
)

// document makes a handler that serves a constant text.
func document(contentType string, text []byte) handler {
	return func(*http.Request, httprouter.Params) (any, error) {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.Write(text) // an error means that the client has disconnected
		}), nil
	}
}

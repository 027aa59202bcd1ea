package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"
)

// TestPersonInShapedBody: a person is found in a body of any shape, and not because his address is a part of another one.
func TestPersonInShapedBody(t *testing.T) {
	sum := sha256.Sum256([]byte("ada@example.com"))
	ada, phone, visitor := Person{Email: "ada@example.com"}, Person{Phone: "4915112345678"}, Person{Visitor: new(int64(9007199254740993))}
	for _, tc := range []struct {
		who                     Person
		contentType, body, urls string
		want                    bool
	}{
		{ada, "", `{"text":"*Ada* (Ada@Example.COM) got 5"}`, "", true},
		{ada, "", `{"text":"mailto:ada@example.com"}`, "", true},
		{ada, "", `{"text":"canada@example.com"}`, "", false},
		{ada, "", `{"text":"x.ada@example.com"}`, "", false},
		{ada, "", `{"text":"ada@example.com.au"}`, "", true}, // too much rather than too little
		{ada, "", `{"text":"ada@example.community"}`, "", false},
		{ada, "", `{"ada@example.com":1}`, "", true},
		{ada, "", `[{"em":["` + hex.EncodeToString(sum[:]) + `"]}]`, "", true},
		{ada, "", `{"text":"ada\u0040example.com"}`, "", true},
		{ada, "application/x-www-form-urlencoded", `a=1&email=ada%40example.com`, "", true},
		{ada, "application/x-www-form-urlencoded", `a=1&email=bob%40example.com`, "", false},
		{ada, "text/plain", "Lead:\nada@example.com\n", "", true},
		{ada, "text/plain", "Lead:\nbob@example.com\n", "", false},
		{ada, "", `{}`, "who=ada%40example.com", true},
		{phone, "", `{"fields":["*Phone*\n+49 (0)151 1234-5678"]}`, "", true},
		{phone, "", `{"fields":["4915112345678"]}`, "", true},
		{phone, "", `{"n":4915112345678}`, "", true},
		{phone, "", `{"n":49151123456789}`, "", false},
		{visitor, "", `{"external_id":9007199254740993}`, "", true},
		{visitor, "", `{"external_id":"9007199254740993"}`, "", true},
		{visitor, "", `{"external_id":9007199254740992}`, "", false},
		{visitor, "text/plain", `visitor 9007199254740993`, "", false}, // the record of the delivery has the visitor
	} {
		got, err := tc.who.InDelivery(&Delivery{Shaped: true, ContentType: tc.contentType, URLValues: URLValues(tc.urls)}, []byte(tc.body))
		if got != tc.want || err != nil {
			t.Errorf("%+v in %q and %q: %t, %v", tc.who, tc.body, tc.urls, got, err)
		}
	}
	if got, err := ada.InDelivery(&Delivery{}, []byte(`{"leads":[{"email":"ada@example.com"}],"answers":[]}`)); !got || err != nil {
		t.Errorf("in a payload: %t, %v", got, err)
	}
}

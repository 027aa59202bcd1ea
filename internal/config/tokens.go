package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"hookbolt/internal/loopback"
)

// minTokenBytes is the length below which a token is refused: it could be guessed.
const minTokenBytes = 16

// tokenName is the form of a name in front of a token. Names are in logs, so they are short and need no quotes.
var tokenName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,39}$`)

// tokenList is one of the lists of tokens.
type tokenList struct {
	key     string // of the list, or of its file if there is one
	entries []string
}

func (c *HTTP) tokenLists() []tokenList {
	lists := []tokenList{{"http.admin_tokens", c.AdminTokens}, {"http.read_tokens", c.ReadTokens}, {"http.ingest_tokens", c.IngestTokens}, {"http.metrics_tokens", c.MetricsTokens}}
	for i, file := range []string{c.AdminTokensFile, c.ReadTokensFile, c.IngestTokensFile, c.MetricsTokensFile} {
		if file != "" {
			lists[i].key += "_file"
		}
	}
	return lists
}

// SplitToken splits an entry of a list of tokens, which is a token or "NAME TOKEN". A token has no white space, so the form of an entry is
// never in doubt. The name is "" if there is none.
func SplitToken(entry string) (name, token string) {
	if at := strings.IndexAny(entry, " \t"); at >= 0 {
		return entry[:at], strings.TrimLeft(entry[at:], " \t")
	}
	return "", entry
}

// Tokens returns the tokens of a list of entries, and their names by token, for those that have one.
func Tokens(entries ...string) (tokens []string, names map[string]string) {
	names = make(map[string]string)
	for _, entry := range entries {
		name, token := SplitToken(entry)
		tokens = append(tokens, token)
		if name != "" {
			names[token] = name
		}
	}
	return tokens, names
}

// checkTokens checks the tokens, and whether one is needed. Its errors show none of them.
func (c *HTTP) checkTokens() error {
	seen := make(map[string]string)
	for _, list := range c.tokenLists() {
		for i, entry := range list.entries {
			if err := checkToken(entry); err != nil {
				return fmt.Errorf("%s: %w (number %d%s)", list.key, err.error, i+1, err.found)
			}
			_, token := SplitToken(entry)
			if first, ok := seen[token]; ok {
				return fmt.Errorf("%s: every token must be another one (number %d is in %s already)", list.key, i+1, first)
			}
			seen[token] = list.key
		}
	}
	switch {
	case len(c.AdminTokens) > 0:
	// Whoever sets one of these expects that callers without it are refused.
	case len(c.ReadTokens) > 0:
		return errors.New("http.read_tokens: no token is asked for without an admin token: set http.admin_tokens, too")
	case len(c.IngestTokens) > 0:
		return errors.New("http.ingest_tokens: no token is asked for without an admin token: set http.admin_tokens, too")
	case len(c.MetricsTokens) > 0:
		return errors.New("http.metrics_tokens: no token is asked for without an admin token: set http.admin_tokens, too")
	case !loopback.IsAddress(c.Listen):
		return fmt.Errorf("http.listen: %s can be reached from other machines, which takes a token: set http.admin_tokens, "+
			`for example to the output of "openssl rand -hex 16" (or listen on 127.0.0.1)`, c.Listen)
	}
	return nil
}

// tokenError is what is wrong with an entry, and what was found, which must not reveal the token.
type tokenError struct {
	error
	found string
}

func checkToken(entry string) *tokenError {
	name, token := SplitToken(entry)
	// Other characters in an Authorization header may be changed on the way.
	wrong := strings.IndexFunc(token, func(r rune) bool { return r <= ' ' || r > '~' })
	switch {
	case len(token) < minTokenBytes:
		found := fmt.Sprintf(" has %d", len(token))
		if name != "" {
			found += " after its name"
		}
		return &tokenError{fmt.Errorf("each token must have at least %d characters", minTokenBytes), found}
	case wrong >= 0:
		return &tokenError{errors.New("tokens must be letters, digits and punctuation of ASCII, without white space"),
			fmt.Sprintf(" has something else at character %d", utf8.RuneCountInString(token[:wrong])+1)}
	case name != "" && !tokenName.MatchString(name), name == "" && token != entry:
		return &tokenError{errors.New(`a name in front of a token must have 1 to 40 letters, digits and ".", "_", "-" or "@"`), ""}
	}
	return nil
}

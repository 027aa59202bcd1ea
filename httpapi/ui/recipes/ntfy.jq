# A notification by ntfy, published as JSON to the server's root.
def clean: if test("[\\x00-\\x08\\x0b-\\x1f\\x7f\\x{202a}-\\x{202e}\\x{2066}-\\x{2069}]") then
  [explode[] | select((. > 31 and . != 127 or . == 10) and (. < 8234 or . > 8238) and (. < 8294 or . > 8297))] | implode else . end;
def cut(n): if length > n then .[:n - 1] + "…" else . end;
def filled: select(. != null) | .[:300] | clean | select(trim != "");
# Of several lead forms the last value that there is.
def lead(f): last(.leads[]? | f | filled);
def asked: .question // "Question \(.question_id)";
def chosen: [limit(50; .answers[]) | .answer // "answer \(.answer_id)"] | join(", ");

{
  topic: "CHANGE-ME", # whoever knows the topic can read it: take a long word that nobody guesses
  # ntfy replaces a notification that has the same one: a retry shows none twice.
  sequence_id: .session_id,
  title: (first(.result.result_title | filled) // if .complete_session then "No result" else "Not finished" end | cut(100)),
  # ntfy takes 4,096 bytes, and a character has up to four.
  message: ([(lead(.name), lead(.email), lead(.phone), lead(.comment)),
             (limit(50; .answers[]?) | "\(asked | .[:100]): \(chosen)" | filled)]
            | join("\n") | if . == "" then "No lead, no answers" else . end | cut(1000)),
  tags: ["clipboard"]
}

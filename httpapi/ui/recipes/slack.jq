# A Slack message: who, which result, how to reach them, what they answered.
# Slack reads <!channel> and links in a text, so &, < and > are escaped. Most texts have nothing of the kind: that is looked up first.
def esc: .[:3000] | if @html == . and @json == "\"\(.)\"" then . else
  gsub("[\\x00-\\x08\\x0b-\\x1f\\x7f]"; "") | gsub("&"; "&amp;") | gsub("<"; "&lt;") | gsub(">"; "&gt;") end;
# Slack refuses a text that is too long. It may count an emoji as two. A cut leaves no half of an escape.
def units: length + (explode | map(select(. > 65535)) | length);
def cut(n): if utf8bytelength <= n or (length <= n and units <= n) then . else
  .[:n - 1] | until(units < n; .[:length - 1 - ((units - n) / 2 | floor)]) | sub("&[a-z]{0,3}$"; "") + "…" end;
def line: .[:200] | split("\n") | join(" ") | esc | cut(200);
def filled: select(. != null and trim != "");
# Of several lead forms the last value that there is.
def lead(f): last(.leads[]? | f | filled) // null;
def asked: .question // "Question \(.question_id)";
def chosen: [limit(50; .answers[]) | .answer // "answer \(.answer_id)"] | join(", ");
def section: {type: "section"} + .;
def mrkdwn(n): {type: "mrkdwn", text: cut(n), verbatim: true};

(lead(.name) // lead(.email) // lead(.phone) // "A visitor" | line) as $who
| (first(.result.result_title | filled) // if .complete_session then "no result" else "not finished" end | line) as $result
| [["E-mail", lead(.email)], ["Phone", lead(.phone)], ["Comment", lead(.comment)] | select(.[1])] as $fields
| [limit(100; .answers[]?) | "*\(asked | line)*\n\(chosen | esc | cut(1000))"] as $answers
| {
    text: "\($who): \($result)",
    blocks: [
      ({text: ("*\($who)*: \($result)" | mrkdwn(3000))} | section),
      ($fields | select(. != []) | {fields: map("*\(.[0])*\n\(.[1] | esc)" | mrkdwn(2000))} | section),
      ($answers | select(. != []) | {text: (join("\n") | mrkdwn(3000))} | section)
    ]
  }

# A Slack message: who, which result, how to reach them, what they answered.
def clean: if test("[\\x00-\\x08\\x0b-\\x1f\\x7f]") then [explode[] | select(. > 31 and . != 127 or . == 10)] | implode else . end;
# Slack reads <!channel> and links in a text: & < > are escaped.
def esc: if @html == . and @json == "\"\(.)\"" then . else
  clean | split("&") | join("&amp;") | split("<") | join("&lt;") | split(">") | join("&gt;") end;
# Slack refuses a text that is too long. It may count an emoji as two: null is the other half. A cut leaves no half of an escape.
def cut(n): if utf8bytelength <= n then . else [.[:n + 1] | explode[] | (select(. > 65535) | null), .] as $units
  | if ($units | length) <= n then . else $units[:n - 1] | map(values) | implode | sub("&[a-z]{0,3}$"; "") + "…" end end;
def start(n): if length > n then .[:n] + "…" else . end;
def line: .[:201] | split("\n") | join(" ") | esc | cut(200);
def filled: select(. != null and trim != "");
# Of several lead forms the last value that there is.
def lead(f): last(.leads[]? | f | filled) // null;
def asked: .question // "Question \(.question_id)" | .[:200] | split("\n") | join(" ");
def chosen: [limit(50; .answers[]) | .answer // "answer \(.answer_id)"] | join(", ") | start(1000);
def section: {type: "section"} + .;
def mrkdwn(n): {type: "mrkdwn", text: cut(n), verbatim: true};

(lead(.name) // lead(.email) // lead(.phone) // "A visitor" | line) as $who
| (first(.result.result_title | filled) // if .complete_session then "no result" else "not finished" end | line) as $result
| [["E-mail", lead(.email)], ["Phone", lead(.phone)], ["Comment", lead(.comment)] | select(.[1])] as $fields
| [limit(100; .answers[]?) | "*\(asked)*\n\(chosen)"] as $answers
| {
    text: "\($who): \($result)",
    blocks: [
      ({text: ("*\($who)*: \($result)" | mrkdwn(3000))} | section),
      ($fields | select(. != []) | {fields: map("*\(.[0])*\n\(.[1] | start(1000) | esc)" | mrkdwn(2000))} | section),
      ($answers | select(. != []) | {text: (join("\n") | start(2900) | esc | mrkdwn(3000))} | section)
    ]
  }

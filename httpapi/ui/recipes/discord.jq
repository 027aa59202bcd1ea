# A Discord message with one embed: the result, the answers, the contact details.
# What visitors wrote stays text: no markdown, no links behind other words, no mentions, nothing unseen that turns the text around.
def clean: if test("[\\x00-\\x08\\x0b-\\x1f\\x7f\\x{202a}-\\x{202e}\\x{2066}-\\x{2069}]") then
  [explode[] | select((. > 31 and . != 127 or . == 10) and (. < 8234 or . > 8238) and (. < 8294 or . > 8297))] | implode else . end;
def plain: clean | reduce ("\\*_~`|<>()#[]-" / "")[] as $c (.; split($c) | join("\\" + $c));
def start(n): if length > n then .[:n] + "…" else . end;
# Discord refuses a text that is too long. It may count an emoji as two: null is the other half. A cut leaves no half of an escape.
def cut(n): if utf8bytelength <= n then . else [.[:n + 1] | explode[] | (select(. > 65535) | null), .] as $units
  | if ($units | length) <= n then . else $units[:n - 1] | map(values) | implode | sub("\\\\+$"; "") + "…" end end;
# Discord refuses a text in which nothing can be seen.
def text(n): .[:n + 1] | plain | cut(n) | if test("[\\p{L}\\p{N}\\p{P}\\p{S}]") then . else "–" end;
# Of several lead forms the last value that there is.
def lead(f): last(.leads[]? | f | select(. != null and trim != "")) // null;
def asked: .question // "Question \(.question_id)" | start(100) | plain;
def chosen: [limit(50; .answers[]) | .answer // "answer \(.answer_id)"] | join(", ") | start(300) | plain;

# All texts together may have 6,000 characters: here at most 200 + 3,000 + 4 × 610 + 60.
{
  allowed_mentions: {parse: []},
  embeds: [{
    title: (.result.result_title // (if .complete_session then "No result" else "Not finished" end) | text(200)),
    description: ([limit(30; .answers[]?) | "**\(asked)**\n\(chosen)"] | join("\n") | cut(3000)),
    timestamp: (.session_end_date // .session_start_date),
    fields: [["Name", lead(.name)], ["E-mail", lead(.email)], ["Phone", lead(.phone)], ["Comment", lead(.comment)] | select(.[1])
             | {name: .[0], value: (.[1] | text(600)), inline: (.[0] != "Comment")}],
    footer: {text: "\(.content_type) \(.content_id)"}
  }]
}

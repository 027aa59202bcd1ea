# A Discord message with one embed: the result, the answers, the contact details.
# What visitors wrote stays text: no markdown, no links behind other words, no mentions, nothing unseen that turns the text around.
def plain: .[:3000] | gsub("[\\x00-\\x08\\x0b-\\x1f\\x7f\\x{202a}-\\x{202e}\\x{2066}-\\x{2069}]"; "")
  | gsub("(?<c>[\\\\*_~`|<>()#\\[\\]-])"; "\\\(.c)");
# Discord refuses a text that is too long. It may count an emoji as two. A cut leaves no half of an escape.
def units: length + (explode | map(select(. > 65535)) | length);
def cut(n): if utf8bytelength <= n or (length <= n and units <= n) then . else
  .[:n - 1] | until(units < n; .[:length - 1 - ((units - n) / 2 | floor)]) | sub("\\\\+$"; "") + "…" end;
# Discord refuses a text in which nothing can be seen.
def text(n): plain | cut(n) | if test("[\\p{L}\\p{N}\\p{P}\\p{S}]") then . else "–" end;
# Of several lead forms the last value that there is.
def lead(f): last(.leads[]? | f | select(. != null and trim != "")) // null;
def asked: .question // "Question \(.question_id)";
def chosen: [limit(50; .answers[]) | .answer // "answer \(.answer_id)"] | join(", ");

# All texts together may have 6,000 characters: here at most 200 + 3,000 + 4 × 610 + 60.
{
  allowed_mentions: {parse: []},
  embeds: [{
    title: (.result.result_title // (if .complete_session then "No result" else "Not finished" end) | text(200)),
    description: ([limit(100; .answers[]?) | "**\(asked | text(200))**\n\(chosen | text(1000))"] | join("\n") | cut(3000)),
    timestamp: (.session_end_date // .session_start_date),
    fields: [["Name", lead(.name)], ["E-mail", lead(.email)], ["Phone", lead(.phone)], ["Comment", lead(.comment)] | select(.[1])
             | {name: .[0], value: (.[1] | text(600)), inline: (.[0] != "Comment")}],
    footer: {text: "\(.content_type) \(.content_id)"}
  }]
}

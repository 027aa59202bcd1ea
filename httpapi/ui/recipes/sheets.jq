# A row of a Google sheet: a column for each of these names, and one for each question. The script adds columns that are not there yet.
def clean(n): .[:n] | if test("[\\x00-\\x08\\x0b-\\x1f\\x7f]") then [explode[] | select(. > 31 and . != 127 or . == 10)] | implode else . end;
# A cell that begins like a formula is one. An apostrophe before it makes it text, and is not shown.
def cell: clean(1000) | if test("^\\s*[=+@-]") then "'" + . else . end;
# Of several lead forms the last value that there is.
def lead(f): last(.leads[]? | f | select(. != null and trim != "")) // null;
# The id comes first: so no title is taken for a formula, a number or another column.
def column: "q\(.question_id) \(.question // "" | clean(100) | [splits("\\s+")] | join(" "))" | trim;
def chosen: [limit(50; .answers[]) | .answer // "answer \(.answer_id)"] | join(", ");

{
  session: .session_id,
  complete: .complete_session,
  started: .session_start_date,
  finished: .session_end_date,
  result: .result.result_title,
  score: (.result.calculator_result // .result.right_answer),
  name: lead(.name), email: lead(.email), phone: lead(.phone), comment: lead(.comment),
  consent: ([.leads[]?.tc_checked | values] | last)
}
# A sheet has no room for thousands of columns.
+ ([limit(100; .answers[]?) | {key: column, value: chosen}] | from_entries)
+ (if (.answers | length) > 100 then {more: "\((.answers | length) - 100) more answers"} else {} end)
| map_values(if type == "string" then cell else . end)

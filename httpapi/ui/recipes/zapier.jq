# One flat object, for Zapier, Make and n8n: every value is a text, a number, true, false or null.
# Ids are texts: these services count with floating point, which has no room for long ones.
def id: if . == null then . else tostring end;
def clean: .[:700] | if test("[\\x00-\\x08\\x0b-\\x1f\\x7f]") then [explode[] | select(. > 31 and . != 127 or . == 10)] | implode else . end;
# Of several lead forms the last value that there is.
def lead(f): last(.leads[]? | f | select(. != null and trim != "")) // null;
def chosen: [limit(50; .answers[]) | .answer // "answer \(.answer_id)"] | join("; ");

{
  session_id, content_id, content_type, publisher_uuid, custom_id,
  visitor: (.poltio_user_id | id),
  complete: .complete_session, started: .session_start_date, finished: .session_end_date,
  result_id: (.result.result_id | id), result: .result.result_title,
  right_answers: .result.right_answer, score: .result.calculator_result,
  seconds: (.result.time_spent | if . == null then . else . / 1000 end),
  name: lead(.name), email: lead(.email), phone: lead(.phone), comment: lead(.comment),
  consent: ([.leads[]?.tc_checked | values] | last)
}
# q7 is the answer to the question with the id 7, q7_title what was asked.
+ ([limit(100; .answers[]?) | {key: "q\(.question_id)", value: chosen}, {key: "q\(.question_id)_title", value: .question}] | from_entries)
| map_values(if type == "string" then clean else . end)

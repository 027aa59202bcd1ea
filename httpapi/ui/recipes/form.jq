# The fields of a form. hookbolt sends name=value pairs: a list becomes several with the same name, null becomes none.
def clean(n): . // "" | .[:n] | if test("[\\x00-\\x08\\x0b-\\x1f\\x7f]") then [explode[] | select(. > 31 and . != 127 or . == 10)] | implode else . end | if . == "" then null else . end;
# Of several lead forms the last value that there is.
def lead(f): last(.leads[]? | f | select(. != null and trim != "")) // null;
def asked: .question // "Question \(.question_id)";
def chosen: [limit(50; .answers[]) | .answer // "answer \(.answer_id)"] | join(", ");

{
  session: .session_id,
  complete: .complete_session,
  result: (.result.result_title | clean(300)),
  name: (lead(.name) | clean(300)),
  email: (lead(.email) | clean(300)),
  phone: (lead(.phone) | clean(50)),
  comment: (lead(.comment) | clean(1000)),
  consent: ([.leads[]?.tc_checked | values] | last),
  answer: [limit(100; .answers[]?) | "\(asked | .[:100]): \(chosen | .[:300])" | clean(500)]
}

# A HubSpot contact, made or updated by its address. A session without an address is not sent.
# HubSpot refuses properties that it does not know: make quiz_result and quiz_answers there first, or take their lines out.
def address: (. // "" | .[:300] | trim) | select(length <= 254 and test("^[!-?A-~]{1,64}@[A-Za-z0-9-]+([.][A-Za-z0-9-]+)*[.][A-Za-z]{2,}$"));
def clean(n): . // "" | .[:n] | if test("[\\x00-\\x08\\x0b-\\x1f\\x7f]") then [explode[] | select(. > 31 and . != 127 or . == 10)] | implode else . end | trim;
def asked: .question // "Question \(.question_id)";
def chosen: [limit(50; .answers[]) | .answer // "answer \(.answer_id)"] | join(", ");

# The last form that has an address: its name goes with it.
first((.leads // [] | reverse)[] | (.email | address) as $email | . + {email: $email}) as $lead
| ($lead.name | clean(200) | [splits("\\s+")]) as $names
| {
    inputs: [{
      idProperty: "email",
      id: $lead.email,
      properties: ({
        email: $lead.email,
        firstname: $names[0],
        lastname: ($names[1:] | join(" ")),
        phone: ($lead.phone | clean(50)),
        quiz_result: (.result.result_title | clean(1000)),
        # HubSpot takes 65,536 characters.
        quiz_answers: ([limit(100; .answers[]?) | "\(asked | .[:200]): \(chosen | .[:400])"] | join("\n") | clean(65000))
      } | map_values(select(. != "")))
    }]
  }

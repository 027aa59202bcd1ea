# A Klaviyo event of a profile, found or made by its address. Who has not agreed, or left no address, is not sent.
def address: (. // "" | .[:300] | trim) | select(length <= 254 and test("^[!-?A-~]{1,64}@[A-Za-z0-9-]+([.][A-Za-z0-9-]+)*[.][A-Za-z]{2,}$"));
def clean(n): . // "" | .[:n] | if test("[\\x00-\\x08\\x0b-\\x1f\\x7f]") then [explode[] | select(. > 31 and . != 127 or . == 10)] | implode else . end | trim;
def filled: map_values(select(. != null and . != ""));
def chosen: [limit(50; .answers[]) | .answer // "answer \(.answer_id)"] | join(", ");

# The last form with an address whose terms were accepted.
first((.leads // [] | reverse)[] | select(.tc_checked) | (.email | address) as $email | . + {email: $email}) as $lead
| ($lead.name | clean(100) | [splits("\\s+")]) as $names
| {
    data: {
      type: "event",
      attributes: {
        metric: {data: {type: "metric", attributes: {name: "Finished quiz"}}},
        profile: {data: {type: "profile", attributes: ({email: $lead.email, first_name: $names[0], last_name: ($names[1:] | join(" "))} | filled)}},
        time: (.session_end_date // .session_start_date),
        # Klaviyo records an event once for each profile, metric and unique_id.
        unique_id: .session_id,
        properties: ({
          session_id, content_id, content_type,
          result: (.result.result_title | clean(300)),
          score: (.result.calculator_result // .result.right_answer | if type == "string" then clean(100) else . end),
          # Klaviyo refuses an event whose profile has a phone number that it finds wrong. Here it is only a text.
          phone: ($lead.phone | clean(50))
        } + ([limit(50; .answers[]?) | {key: "q\(.question_id) \(.question | clean(60))" | trim, value: (chosen | clean(300))}] | from_entries) | filled)
      }
    }
  }

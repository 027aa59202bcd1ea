# A Salesforce Web-to-Lead form. A session without an address and without a phone number is not sent.
def address: (. // "" | .[:100] | trim) | select(length <= 80 and test("^[!-?A-~]{1,64}@[A-Za-z0-9-]+([.][A-Za-z0-9-]+)*[.][A-Za-z]{2,}$"));
def clean(n): . // "" | .[:n] | if test("[\\x00-\\x08\\x0b-\\x1f\\x7f]") then [explode[] | select(. > 31 and . != 127 or . == 10)] | implode else . end | trim;
def asked: .question // "Question \(.question_id)";
def chosen: [limit(50; .answers[]) | .answer // "answer \(.answer_id)"] | join(", ");

# The last form with an address or a phone number.
first((.leads // [] | reverse)[] | . + {email: (first(.email | address) // null), phone: (.phone | clean(40))} | select(.email or .phone != "")) as $lead
| ($lead.name | clean(120) | [splits("\\s+")]) as $names
| {
    oid: "00DXXXXXXXXXXXX", # the id of your organization
    # Salesforce makes no lead without a last name and a company.
    last_name: ($names[-1] | if . == "" then "Visitor" else .[:80] end),
    company: "not given",
    first_name: ($names[:-1] | join(" ") | .[:40]),
    email: $lead.email,
    phone: $lead.phone,
    lead_source: "Web",
    # 32,000 characters at most.
    description: ([
        "Result: \(.result.result_title // "none" | clean(300))",
        "Comment: \($lead.comment | clean(5000))",
        (limit(50; .answers[]?) | "\(asked | clean(100)): \(chosen | clean(300))"),
        "Session: \(.session_id)"
      ] | join("\n"))
  }
| map_values(select(. != null and . != ""))

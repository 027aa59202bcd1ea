# A member of a Mailchimp audience. Who has not agreed, or left no address, is not sent.
# "pending" asks newcomers by e-mail to confirm. Members that are there keep their status. QUIZ has to be a text field of the audience.
def address: (. // "" | .[:300] | trim) | select(length <= 254 and test("^[!-?A-~]{1,64}@[A-Za-z0-9-]+([.][A-Za-z0-9-]+)*[.][A-Za-z]{2,}$"));
def clean: . // "" | .[:255] | if test("[\\x00-\\x1f\\x7f]") then [explode[] | if . > 31 and . != 127 then . else 32 end] | implode else . end | trim;
# A text field takes 255 bytes, and a character has up to four.
def field: until(utf8bytelength <= 255; .[:length - 1 - ((utf8bytelength - 255) / 4 | floor)]);

# The last form with an address whose terms were accepted.
first((.leads // [] | reverse)[] | select(.tc_checked) | (.email | address) as $email | . + {email: $email}) as $lead
| ($lead.name | clean | [splits("\\s+")]) as $names
| {
    email_address: $lead.email,
    status_if_new: "pending",
    merge_fields: ({FNAME: $names[0], LNAME: ($names[1:] | join(" ")), QUIZ: (.result.result_title | clean)} | map_values(field | select(. != "")))
  }

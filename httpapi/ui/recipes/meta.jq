# A lead event for Meta's Conversions API. Who has not agreed, or left neither an address nor a phone number, is not sent.
# Meta takes SHA-256 of the address in lower case, and of the phone number as digits that begin with the country's.
def address: (. // "" | .[:300] | trim) | select(length <= 254 and test("^[!-?A-~]{1,64}@[A-Za-z0-9-]+([.][A-Za-z0-9-]+)*[.][A-Za-z]{2,}$"));
def digits: (. // "" | .[:50] | trim) | select(test("^([+]|00)")) | [explode[] | select(. > 47 and . < 58)] | implode | sub("^0+"; "") | select(test("^[0-9]{7,15}$"));

first((.leads // [] | reverse)[] | select(.tc_checked)
     | {em: [.email | address | ascii_downcase | sha256], ph: [.phone | digits | sha256]} | map_values(select(. != [])) | select(. != {})) as $user
| ([(.session_end_date // .session_start_date | .[:19] + "Z" | fromdateiso8601), .event_time] | min) as $time
# Meta refuses an event that is more than 7 days old: one that is nearly so would be, before the last retry.
| select(.event_time - $time < 6 * 86400)
| {
    data: [{
      event_name: "Lead",
      event_time: $time,
      # Meta counts an event once for each name and id, also beside the pixel's.
      event_id: .session_id,
      action_source: "system_generated",
      user_data: $user,
      custom_data: {content_ids: [.content_id], content_category: .content_type}
    }]
  }

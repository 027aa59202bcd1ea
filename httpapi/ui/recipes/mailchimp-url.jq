# Mailchimp names a member by the MD5 of the address in lower case: so the address is in no log of URLs.
def address: (. // "" | .[:300] | trim) | select(length <= 254 and test("^[!-?A-~]{1,64}@[A-Za-z0-9-]+([.][A-Za-z0-9-]+)*[.][A-Za-z]{2,}$"));
{subscriber: first((.leads // [] | reverse)[] | select(.tc_checked) | .email | address) | ascii_downcase | md5}

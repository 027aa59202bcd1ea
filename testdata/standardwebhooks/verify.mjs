// Asks the JavaScript reference library of Standard Webhooks about requests. A line of stdin is one, as JSON: its headers, its body in
// base64, and the secret that it is held against. A line of stdout is the verdict: "accepted", or "refused: " and the library's reason.
// Any other error is no verdict, and ends the process.
import { readFileSync } from "node:fs";
import { Webhook, WebhookVerificationError } from "standardwebhooks";

for (const line of readFileSync(0, "utf8").split("\n")) {
  if (line === "") continue;
  const { secret, headers, body } = JSON.parse(line);
  const webhook = new Webhook(secret);
  let verdict = "accepted";
  try {
    webhook.verify(Buffer.from(body, "base64"), headers);
  } catch (err) {
    if (!(err instanceof WebhookVerificationError)) throw err;
    verdict = "refused: " + err.message;
  }
  console.log(verdict);
}

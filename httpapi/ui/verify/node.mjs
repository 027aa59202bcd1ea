// An endpoint that accepts only requests that hookbolt has signed.
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const secret = {{secret}};
const endpoint = new URL({{url}}); // the URL that hookbolt posts to

const key = Buffer.from(secret.slice("whsec_".length), "base64");
const tolerance = 5 * 60; // seconds
const maxBody = 10 << 20; // bytes

// verify reports whether a request is genuine and recent. Pass the raw body: the signature does not match parsed and re-encoded JSON.
function verify(headers, body) {
  const id = headers["webhook-id"];
  const timestamp = headers["webhook-timestamp"];
  const signatures = headers["webhook-signature"];
  if (!id || !signatures || !/^\d+$/.test(timestamp ?? "")) return false;
  if (Math.abs(Date.now() / 1000 - Number(timestamp)) > tolerance) return false;
  const want = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest();
  // After a rotation there are several signatures. One of them must match.
  return signatures.split(" ").some((signature) => {
    const [version, value] = signature.split(",");
    const got = Buffer.from(value ?? "", "base64");
    return version === "v1" && got.length === want.length && timingSafeEqual(got, want);
  });
}

// parse is JSON.parse, but an integer beyond 2^53 becomes a string of its digits: JavaScript would round the number.
function parse(json) {
  const tokens = /"(?:[^"\\]+|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?/g;
  const isRounded = (token) => /^-?\d+$/.test(token) && !Number.isSafeInteger(Number(token));
  return JSON.parse(json.replace(tokens, (token) => (isRounded(token) ? `"${token}"` : token)));
}

const server = createServer(async (request, response) => {
  const answer = (status) => response.writeHead(status).end();
  try {
    const parts = [];
    let size = 0;
    for await (const part of request) {
      size += part.length;
      if (size > maxBody) return answer(413);
      parts.push(part);
    }
    const body = Buffer.concat(parts);
    if (request.method !== "POST" || !verify(request.headers, body)) return answer(401);
    const webhook = parse(body.toString());
    // Handle the webhook here. It may arrive more than once, with the same webhook-id.
    console.log(request.headers["webhook-id"], webhook.session_id);
    answer(204);
  } catch {
    answer(400);
  }
});

// Behind a reverse proxy, the URL has the proxy's port: listen on another port, and let the proxy forward to it.
const port = Number(endpoint.port) || 9000;
server.listen(port, "127.0.0.1", () => console.log(`listening on 127.0.0.1:${port} for ${endpoint}`));

// verify reports whether a request is genuine, by the HMAC of its body. Pass the raw body.
import { createHmac, timingSafeEqual } from "node:crypto";

const secret = {{secret}};
const header = {{header}};
const prefix = {{prefix}};
const encoding = {{encoding}};

export function verify(headers, body) {
  const want = Buffer.from(prefix + createHmac("sha256", secret).update(body).digest(encoding));
  const got = Buffer.from(headers[header.toLowerCase()] ?? "");
  return got.length === want.length && timingSafeEqual(got, want);
}

// verify reports whether a request is genuine and recent, by its signature v1a. Pass the raw body.
import { createPublicKey, verify as verifyEd25519 } from "node:crypto";

const publicKey = {{key}};

const x = Buffer.from(publicKey.slice("whpk_".length), "base64").toString("base64url");
const key = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" });
const tolerance = 5 * 60; // seconds

export function verify(headers, body) {
  const id = headers["webhook-id"];
  const timestamp = headers["webhook-timestamp"];
  const signatures = headers["webhook-signature"];
  if (!id || !signatures || !/^\d+$/.test(timestamp ?? "")) return false;
  if (Math.abs(Date.now() / 1000 - Number(timestamp)) > tolerance) return false;
  const content = Buffer.concat([Buffer.from(`${id}.${timestamp}.`), body]);
  // There are signatures of other kinds, and after a rotation several of this kind. One of them must match.
  return signatures.split(" ").some((signature) => {
    const [version, value] = signature.split(",");
    return version === "v1a" && verifyEd25519(null, content, key, Buffer.from(value ?? "", "base64"));
  });
}

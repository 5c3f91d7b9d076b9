import { createHmac, randomUUID } from "node:crypto";
import { tokenRequest } from "./context.js";
import { request, textOf } from "./http.js";
import { type Options, environment, firstOf } from "./options.js";
import { Problem } from "./problem.js";

/** How a request shows that it comes from a CI job. `hint` says what to check when it is refused. */
export interface Proof {
  hint: string;
  headers(body: string): Record<string, string>;
}

/** Picks the proof: token, then signing key, then what the CI system offers. */
export async function findProof(options: Options, signal: AbortSignal): Promise<Proof> {
  const env = environment(options);
  const token = firstOf(options.token, env.SPANHOOK_TOKEN);
  if (token) return bearer(token, "check SPANHOOK_TOKEN (or the token option)");

  const key = firstOf(options.signingKey, env.SPANHOOK_SIGNING_KEY);
  if (key) return signature(key);

  const circleci = firstOf(env.CIRCLE_OIDC_TOKEN_V2);
  if (circleci) return bearer(circleci, "does the endpoint accept this CircleCI organisation's OIDC tokens?");

  const audience = firstOf(options.audience, env.SPANHOOK_AUDIENCE);
  if (audience) return bearer(await requestedToken(options, audience, signal), "check SPANHOOK_AUDIENCE");

  return { hint: "set SPANHOOK_TOKEN, SPANHOOK_SIGNING_KEY or, where a job asks for its OIDC token, SPANHOOK_AUDIENCE", headers: () => ({}) };
}

/** The headers of Standard Webhooks. */
export function signedHeaders(key: string, id: string, timestamp: number, body: string): Record<string, string> {
  const mac = createHmac("sha256", secretOf(key)).update(`${id}.${timestamp}.${body}`).digest("base64");
  return { "webhook-id": id, "webhook-timestamp": String(timestamp), "webhook-signature": `v1,${mac}` };
}

function bearer(token: string, hint: string): Proof {
  // A header cannot hold it, and nobody knows what an error text of the network layer quotes.
  if (!/^[\x21-\x7e]+$/.test(token)) throw new Problem("the token has characters that no header may have: check SPANHOOK_TOKEN");
  return { hint, headers: () => ({ authorization: `Bearer ${token}` }) };
}

function signature(key: string): Proof {
  secretOf(key);
  return {
    hint: "check SPANHOOK_SIGNING_KEY and this machine's clock",
    headers: (body) => signedHeaders(key, `msg_${randomUUID()}`, Math.floor(Date.now() / 1000), body),
  };
}

function secretOf(key: string): Buffer {
  // Buffer.from skips what is not base64, so a mistyped key would sign with half a secret.
  const encoded = /^whsec_([A-Za-z0-9+/]+={0,2})$/.exec(key)?.[1];
  if (!encoded) throw new Problem("SPANHOOK_SIGNING_KEY is not whsec_ and base64: copy it again");
  return Buffer.from(encoded, "base64");
}

async function requestedToken(options: Options, audience: string, signal: AbortSignal): Promise<string> {
  const env = environment(options);
  const { missing } = tokenRequest;
  const address = firstOf(env[tokenRequest.address]);
  const secret = firstOf(env[tokenRequest.secret]);
  if (!address || !secret) throw new Problem(missing);
  const url = new URL(address);
  url.searchParams.set("audience", audience);
  const answer = await request(url, { method: "GET", headers: { authorization: `Bearer ${secret}` } }, signal);
  const text = await textOf(answer);
  if (answer.statusCode !== 200) throw new Problem(`${missing} (answer ${answer.statusCode})`);
  const value = /"value"\s*:\s*"([^"\\]+)"/.exec(text)?.[1];
  if (!value) throw new Problem(missing);
  return value;
}

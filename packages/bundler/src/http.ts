import { Resolver } from "node:dns/promises";
import * as http from "node:http";
import * as https from "node:https";
import { isIP } from "node:net";
import { Problem } from "./problem.js";

export interface Request {
  method: "GET" | "POST";
  headers: Record<string, string>;
  body?: string;
}

/**
 * One request, without redirects. Not `fetch`: when its limit is over it goes on connecting to a host that drops
 * packets, and keeps the build process alive for ten seconds. This closes the socket.
 */
export function request(url: URL, { method, headers, body }: Request, signal: AbortSignal): Promise<http.IncomingMessage> {
  const open = url.protocol === "https:" ? https.request : http.request;
  return new Promise((resolve, reject) => {
    open(url, { method, headers: { ...headers, connection: "close" }, signal }, resolve).on("error", reject).end(body);
  });
}

export async function textOf(answer: http.IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of answer) parts.push(part as Buffer);
  return Buffer.concat(parts).toString();
}

/**
 * The system's name look-up cannot be stopped either: with silent name servers the build process would wait for its
 * end. So we ask the name servers in a way that can be stopped. What they answer does not matter.
 */
export async function checkNameServers(
  host: string,
  signal: AbortSignal,
  resolver = new Resolver({ timeout: 1000, tries: 2 }),
): Promise<void> {
  if (isIP(host.replace(/^\[|\]$/g, "")) || host === "localhost") return;
  const stop = () => resolver.cancel();
  signal.addEventListener("abort", stop);
  try {
    await resolver.resolve4(host);
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === "ETIMEOUT" || code === "ECANCELLED") {
      throw new Problem(`no name server answered: does this job reach one that knows ${host}?`);
    }
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

import { correlationId } from "./context.js";
import { type Build, makeEvent, serialize } from "./event.js";
import { checkNameServers, request } from "./http.js";
import { type Options, environment, firstOf } from "./options.js";
import { Problem } from "./problem.js";
import { findProof } from "./proof.js";

/**
 * Posts one event. Never throws unless `strict` is set, and never takes longer than the limit.
 * `describe` is only called when there is somewhere to send to: statistics cost time.
 */
export async function report(describe: () => Build, options: Options): Promise<void> {
  const env = environment(options);
  const endpoint = firstOf(options.endpoint, env.SPANHOOK_ENDPOINT);
  if (!endpoint) return debug(options, "no SPANHOOK_ENDPOINT, nothing is sent");
  const id = correlationId(options);
  // A laptop has no run to join; only in CI a missing id is a mistake.
  if (!id && !env.CI) return debug(options, "no correlation id outside CI, nothing is sent");

  let failed = false;
  try {
    const build = describe();
    failed = build.status === "failed";
    if (!id) throw new Problem("no id of this CI run: set CORRELATION_ID");
    const status = await post(urlOf(endpoint), serialize(makeEvent(build, id, options)), options);
    debug(options, `build event sent (answer ${status})`);
  } catch (error) {
    const problem = error instanceof Problem ? error : new Problem(`unexpected ${nameOf(error)}: please report it`);
    // A build that failed anyway must show its own error, not ours.
    if (options.strict && !failed) throw problem;
    warn(options, `spanhook: build event not sent: ${problem.message}`);
  }
}

async function post(url: URL, body: string, options: Options): Promise<number> {
  const limit = options.timeoutMs ?? 3000;
  // One signal for the token request and the post: the limit holds for both together.
  const signal = AbortSignal.timeout(limit);
  let status: number;
  let hint: string;
  try {
    // Behind a proxy it is the proxy that knows names.
    if (!environment(options).NODE_USE_ENV_PROXY) await checkNameServers(url.hostname, signal);
    const proof = await findProof(options, signal);
    hint = proof.hint;
    const headers = { "content-type": "application/json", "user-agent": "spanhook-bundler", ...proof.headers(body) };
    const answer = await request(url, { method: "POST", headers, body }, signal);
    status = answer.statusCode ?? 0;
    // The status is all we need: a slow body must not hold the build.
    answer.destroy();
  } catch (error) {
    if (error instanceof Problem) throw error;
    if (signal.aborted) throw new Problem(`no answer within ${limit} ms: can this job reach ${url.host}?`);
    throw new Problem(`no connection (${nameOf(error)}): check SPANHOOK_ENDPOINT, and that this job can reach ${url.host}`);
  }
  if (status < 200 || status > 299) throw new Problem(`${url.host} answered ${status}: ${advice(status, hint)}`);
  return status;
}

function urlOf(endpoint: string): URL {
  let url: URL;
  try {
    url = new URL(endpoint);
  } catch {
    throw new Problem("SPANHOOK_ENDPOINT is not a URL: it looks like https://spanhook.example.com");
  }
  if (!/^https?:$/.test(url.protocol)) throw new Problem("SPANHOOK_ENDPOINT must start with https:// or http://");
  if (url.username || url.password) throw new Problem("SPANHOOK_ENDPOINT holds a password: use SPANHOOK_TOKEN instead");
  const path = url.pathname.replace(/\/+$/, "");
  url.pathname = path.endsWith("/build-events") ? path : `${path}/build-events`;
  return url;
}

function advice(status: number, hint: string): string {
  if (status === 401 || status === 403) return hint;
  if (status === 404 || status === 405) return "check the path of SPANHOOK_ENDPOINT";
  if (status >= 300 && status < 400) return "set SPANHOOK_ENDPOINT to the address it redirects to";
  if (status === 429 || status >= 500) return "the build is fine; see the logs of the endpoint";
  return "do the versions of the endpoint and of @spanhook/bundler fit?";
}

/** Only codes and class names: a message may quote a URL or a header. */
function nameOf(error: unknown): string {
  if (!(error instanceof Error)) return "error";
  const { code } = error as { code?: unknown };
  return typeof code === "string" ? code : error.name;
}

function warn(options: Options, line: string): void {
  (options.warn ?? console.warn)(line);
}

function debug(options: Options, line: string): void {
  const names = environment(options).DEBUG?.split(/[\s,]+/) ?? [];
  if (names.includes("spanhook") || names.includes("*")) warn(options, `spanhook: ${line}`);
}

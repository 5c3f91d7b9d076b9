import { type Environment, type Options, environment, firstOf } from "./options.js";

/** Where a build ran. No field names a person. */
export interface Context {
  provider?: "circleci" | "gitlab" | "github";
  host?: string;
  run_id?: string;
  job_id?: string;
  attempt?: string;
  project?: string;
  ref?: string;
  revision?: string;
  root_id?: string;
  traceparent?: string;
}

/** Reads the variables that CircleCI, GitLab and GitHub set by themselves. */
export function readContext(env: Environment): Context {
  const context = env.GITLAB_CI ? gitlab(env) : env.CIRCLECI ? circleci(env) : env.GITHUB_ACTIONS ? github(env) : {};
  const traceparent = firstOf(env.TRACEPARENT);
  return definedOnly({ ...context, traceparent });
}

/** The id that joins build events and webhook spans; undefined outside CI. */
export function correlationId(options: Options): string | undefined {
  const env = environment(options);
  const runs = [env.CI_PIPELINE_ID, env.CIRCLE_WORKFLOW_ID, env.GITHUB_RUN_ID];
  return firstOf(options.correlationId, env.CORRELATION_ID, env.BUILD_CORRELATION_ID, ...runs);
}

function circleci(env: Environment): Context {
  return {
    provider: "circleci",
    host: circleciHost(env.CIRCLE_BUILD_URL),
    run_id: firstOf(env.CIRCLE_WORKFLOW_ID),
    job_id: firstOf(env.CIRCLE_WORKFLOW_JOB_ID),
    project: joined(env.CIRCLE_PROJECT_USERNAME, env.CIRCLE_PROJECT_REPONAME),
    ref: firstOf(env.CIRCLE_BRANCH, env.CIRCLE_TAG),
    revision: firstOf(env.CIRCLE_SHA1),
  };
}

function gitlab(env: Environment): Context {
  return {
    provider: "gitlab",
    host: gitlabHost(env),
    run_id: firstOf(env.CI_PIPELINE_ID),
    job_id: firstOf(env.CI_JOB_ID),
    project: firstOf(env.CI_PROJECT_PATH),
    ref: firstOf(env.CI_COMMIT_REF_NAME),
    revision: firstOf(env.CI_COMMIT_SHA),
    root_id: gitlabRoot(env.CI_TRACEPARENT),
  };
}

function github(env: Environment): Context {
  return {
    provider: "github",
    host: hostOf(env.GITHUB_SERVER_URL) ?? "github.com",
    run_id: firstOf(env.GITHUB_RUN_ID),
    // GITHUB_JOB is a name of the workflow file. The number of the job is only in the context `job`,
    // so a step has to pass it on; runners may come to do so under the second name.
    job_id: firstOf(env.SPANHOOK_JOB_ID, env.JOB_CHECK_RUN_ID),
    attempt: firstOf(env.GITHUB_RUN_ATTEMPT),
    project: firstOf(env.GITHUB_REPOSITORY),
    // On a pull request GITHUB_REF_NAME is "12/merge"; the branch has its own variable.
    ref: firstOf(env.GITHUB_HEAD_REF, env.GITHUB_REF_NAME),
    revision: firstOf(env.GITHUB_SHA),
  };
}

/**
 * Where a GitHub job asks for a token, and what it needs to get one.
 * https://docs.github.com/actions/reference/security/oidc#methods-for-requesting-the-oidc-token
 */
export const tokenRequest = {
  address: "ACTIONS_ID_TOKEN_REQUEST_URL",
  secret: "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
  missing: "GitHub gave no OIDC token: the job needs `permissions: id-token: write`, and pull requests from forks get none",
};

/** The cloud has many host names (app., www.) but is one instance; a server's jobs know it by the build URL only. */
function circleciHost(buildUrl: string | undefined): string {
  const host = hostOf(buildUrl);
  return host && !/(^|\.)circleci\.com$/.test(host) ? host : "circleci.com";
}

function gitlabHost(env: Environment): string | undefined {
  const host = firstOf(env.CI_SERVER_HOST)?.toLowerCase();
  const port = firstOf(env.CI_SERVER_PORT);
  const defaultPort = env.CI_SERVER_PROTOCOL === "http" ? "80" : "443";
  return host && port && port !== defaultPort ? `${host}:${port}` : host;
}

/** GitLab's own trace id is the root pipeline's id as 32 hex digits: no other variable tells a child its root. */
function gitlabRoot(traceparent: string | undefined): string | undefined {
  const trace = /^00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}$/.exec(traceparent ?? "")?.[1];
  const root = trace ? BigInt(`0x${trace}`) : 0n;
  // A pipeline's id has 64 bits; a trace id with more is somebody else's.
  return root > 0n && root < 1n << 64n ? root.toString() : undefined;
}

function hostOf(url: string | undefined): string | undefined {
  try {
    return url ? new URL(url).host.toLowerCase() : undefined;
  } catch {
    return undefined;
  }
}

function joined(owner: string | undefined, name: string | undefined): string | undefined {
  return owner && name ? `${owner}/${name}` : firstOf(name);
}

function definedOnly(context: Context): Context {
  return Object.fromEntries(Object.entries(context).filter(([, value]) => value !== undefined));
}

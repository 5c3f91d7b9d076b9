/** Environment variables, `process.env` unless a test gives its own. */
export type Environment = Record<string, string | undefined>;

/** Every setting is optional: in CI the environment is enough. */
export interface Options {
  /** Base URL of spanhook. Else `SPANHOOK_ENDPOINT`. Without it the plugin does nothing. */
  endpoint?: string;
  /** Joins the event to a run. Else `CORRELATION_ID` or `BUILD_CORRELATION_ID`, else the CI run id. */
  correlationId?: string;
  /** Name of what is built. Else `SPANHOOK_PROJECT`, else the CI project path. */
  project?: string;
  /** Tells several builds of one run apart. Else webpack's `name`, or Vite's environment (`ssr`). */
  name?: string;
  /** Bearer or OIDC token. Else `SPANHOOK_TOKEN`. */
  token?: string;
  /** `whsec_…` key of Standard Webhooks. Else `SPANHOOK_SIGNING_KEY`. */
  signingKey?: string;
  /** GitHub: ask for an OIDC token with this audience. Else `SPANHOOK_AUDIENCE`. */
  audience?: string;
  /** Limit for everything that goes over the network, in milliseconds. Default 3000. */
  timeoutMs?: number;
  /** Throw when the event could not be sent, instead of a warning. Default false. */
  strict?: boolean;
  /** Send every build of watch mode, not only the first. Default false. */
  watch?: boolean;
  /** Where the warning line goes. Default standard error. */
  warn?: (line: string) => void;
  /** Read settings from here. Default `process.env`. */
  env?: Environment;
}

export function environment(options: Options): Environment {
  return options.env ?? process.env;
}

/** An empty variable counts as not set: CI systems like to leave `NAME=""`. */
export function firstOf(...values: (string | undefined)[]): string | undefined {
  return values.map((value) => value?.trim()).find((value) => value);
}

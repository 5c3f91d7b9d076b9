import { type Context, readContext } from "./context.js";
import { type Options, environment, firstOf } from "./options.js";
import type { Bundler, Details, Metrics, Reduced } from "./reduce.js";

/** What a plugin knows when its bundler is done. */
export interface Build extends Reduced {
  bundler: Bundler;
  bundlerVersion?: string;
  /** Tells the builds of one run apart: webpack's configuration name, Vite's environment. */
  name?: string;
}

/** The body of the request. */
export interface BuildEvent {
  timestamp: string;
  type: "webpack_build_stats";
  correlation_id: string;
  project?: string;
  name?: string;
  bundler: Bundler;
  bundler_version?: string;
  job_status: "success" | "failed";
  errors_count: number;
  warnings_count: number;
  metrics: Metrics;
  details: Details;
  context: Context;
}

const MAX_BYTES = 200_000;
const MAX_TEXT = 256;

export function makeEvent(build: Build, correlationId: string, options: Options): BuildEvent {
  const env = environment(options);
  const context = readContext(env);
  return {
    timestamp: new Date().toISOString(),
    type: "webpack_build_stats",
    correlation_id: correlationId,
    project: firstOf(options.project, env.SPANHOOK_PROJECT, context.project),
    name: firstOf(options.name, build.name),
    bundler: build.bundler,
    bundler_version: build.bundlerVersion,
    job_status: build.status,
    errors_count: build.errors_count,
    warnings_count: build.warnings_count,
    metrics: build.metrics,
    details: build.details,
    context,
  };
}

/** JSON below 200 KB: long texts are cut, then the smallest chunks and assets go. The metrics stay exact. */
export function serialize(event: BuildEvent): string {
  const chunks = [...event.details.chunks];
  const largest_assets = [...event.details.largest_assets];
  for (;;) {
    const body = JSON.stringify({ ...event, details: { largest_assets, chunks } }, cut);
    if (Buffer.byteLength(body) < MAX_BYTES) return body;
    if (chunks.pop() === undefined && largest_assets.pop() === undefined) return body;
  }
}

function cut(_key: string, value: unknown): unknown {
  return typeof value === "string" && value.length > MAX_TEXT ? `${value.slice(0, MAX_TEXT - 1)}…` : value;
}

import { correlationId } from "./context.js";
import type { Options } from "./options.js";

/**
 * Constants for webpack's DefinePlugin, or `define` of Vite and esbuild, so that the shipped app
 * knows its build (`app.build_id`). Outside CI the id is "local".
 */
export function define(options: Options = {}): { __BUILD_ID__: string } {
  return { __BUILD_ID__: JSON.stringify(correlationId(options) ?? "local") };
}

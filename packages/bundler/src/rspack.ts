import type { Options } from "./options.js";
import { type WebpackPlugin, pluginFor } from "./webpack.js";

/** For `plugins` of rspack and rsbuild's `tools.rspack`. */
export function rspackPlugin(options: Options = {}): WebpackPlugin {
  return pluginFor("rspack", options);
}

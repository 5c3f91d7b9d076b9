import type { Options } from "./options.js";
import { type RollupPlugin, pluginFor } from "./rollup.js";

export interface VitePlugin extends RollupPlugin {
  apply: "build";
  enforce: "post";
}

/** For `plugins` of Vite; the development server is left alone. */
export function vitePlugin(options: Options = {}): VitePlugin {
  return { ...pluginFor("vite", options), apply: "build", enforce: "post" };
}

import { relative, resolve } from "node:path";
import type { Options } from "./options.js";
import { type Metafile, reduce } from "./reduce.js";
import { report } from "./send.js";

/** The part of esbuild's plugin interface that is used here. */
export interface PluginBuild {
  initialOptions: { metafile?: boolean; outdir?: string; outfile?: string; absWorkingDir?: string };
  esbuild: { version: string };
  onStart(started: () => void): void;
  onEnd(ended: (result: Result) => Promise<void>): void;
}

export interface Result {
  errors: unknown[];
  warnings: unknown[];
  metafile?: Metafile;
}

export interface EsbuildPlugin {
  name: string;
  setup(build: PluginBuild): void;
}

/** For `plugins` of esbuild. Put it last: then the other plugins' work is in the compile time. */
export function esbuildPlugin(options: Options = {}): EsbuildPlugin {
  return {
    name: "spanhook",
    setup(build) {
      const initial = build.initialOptions;
      // Only the metafile tells sizes; asking for it writes no file.
      initial.metafile = true;
      let started = Date.now();
      let sent = false;
      build.onStart(() => {
        started = Date.now();
      });
      build.onEnd(async ({ errors, warnings, metafile }) => {
        // esbuild does not tell a plugin of watch mode, so every later end is a rebuild.
        if (sent && !options.watch) return;
        sent = true;
        const compileTimeMs = Date.now() - started;
        await report(() => {
          const measured = { compileTimeMs, errors: errors.length, warnings: warnings.length, outdir: outputFolder(initial) };
          return { ...reduce(metafile ?? {}, "esbuild", measured), bundler: "esbuild", bundlerVersion: build.esbuild.version };
        }, options);
      });
    },
  };
}

/** The output folder as the metafile writes it: relative to the working directory. */
function outputFolder({ outdir, outfile, absWorkingDir }: PluginBuild["initialOptions"]): string {
  const base = absWorkingDir ?? process.cwd();
  const folder = outdir ?? outfile?.replace(/[^/\\]*$/, "") ?? "";
  return relative(base, resolve(base, folder));
}

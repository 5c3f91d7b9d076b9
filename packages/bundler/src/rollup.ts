import type { Options } from "./options.js";
import { type Bundler, type RollupBundle, type RollupOutput, outputSize, reduce } from "./reduce.js";
import { report } from "./send.js";

/** The part of the plugin context of rollup, rolldown and Vite that is used here. */
export interface PluginContext {
  meta: { rollupVersion?: string; rolldownVersion?: string; viteVersion?: string; watchMode?: boolean };
  environment?: { name: string };
}

export interface RollupPlugin {
  name: string;
  buildStart(): void;
  onLog(level: string): void;
  writeBundle: { order: "post"; handler(output: object, bundle: object): void };
  buildEnd: { order: "post"; handler(this: PluginContext, error?: Error): Promise<void> };
  renderError: { order: "post"; handler(this: PluginContext): Promise<void> };
  closeBundle: { order: "post"; sequential: true; handler(this: PluginContext, error?: Error): Promise<void> };
}

/** For `plugins` of rollup 4 and rolldown. */
export function rollupPlugin(options: Options = {}): RollupPlugin {
  return pluginFor("rollup", options);
}

export function pluginFor(bundler: Bundler, options: Options): RollupPlugin {
  let started = 0;
  let warnings = 0;
  let bundles: RollupBundle[] = [];
  let open = false;
  let sentBefore = false;

  async function finish({ meta, environment }: PluginContext, failed: boolean): Promise<void> {
    // A failed build ends in two hooks or in one: that depends on the bundler and on what failed.
    if (!open) return;
    open = false;
    if (meta.watchMode && sentBefore && !options.watch) return;
    sentBefore = true;
    const compileTimeMs = Date.now() - started;
    // Nothing written is a failure that no hook was told of.
    const errors = failed || bundles.length === 0 ? 1 : 0;
    await report(() => {
      const rollup = meta.rolldownVersion ? `rolldown ${meta.rolldownVersion}` : meta.rollupVersion;
      return {
        ...reduce(bundles, "vite", { compileTimeMs, errors, warnings }),
        bundler,
        bundlerVersion: bundler === "vite" ? meta.viteVersion : rollup,
        // "client" is what a build without environments is called, too.
        name: environment?.name === "client" ? undefined : environment?.name,
      };
    }, options);
  }

  return {
    name: "spanhook",
    buildStart() {
      started = Date.now();
      warnings = 0;
      bundles = [];
      open = true;
    },
    onLog(level) {
      if (level === "warn") warnings += 1;
    },
    writeBundle: {
      // Last, so that what is measured is what lies on the disk. Called once for each output.
      order: "post",
      handler(_output, bundle) {
        bundles.push(withoutCode(bundle as RollupBundle));
      },
    },
    buildEnd: {
      order: "post",
      async handler(error) {
        if (error) await finish(this, true);
      },
    },
    renderError: {
      order: "post",
      async handler() {
        await finish(this, true);
      },
    },
    closeBundle: {
      order: "post",
      sequential: true,
      async handler(error) {
        await finish(this, error !== undefined);
      },
    },
  };
}

/** The code would be kept in memory until the end, and rolldown may have freed it by then. */
function withoutCode(bundle: RollupBundle): RollupBundle {
  return Object.fromEntries(
    Object.entries(bundle).map(([file, output]): [string, RollupOutput] => {
      const { type, name, isEntry, imports, viteMetadata } = output;
      return [file, { type, name, isEntry, imports, viteMetadata, size: outputSize(output) }];
    }),
  );
}

import type { Options } from "./options.js";
import { type Bundler, type RollupBundle, type RollupOutput, outputSize, reduce } from "./reduce.js";
import { report } from "./send.js";

/** The part of the plugin context of rollup, rolldown and Vite that is used here. */
export interface PluginContext {
  meta: { rollupVersion?: string; rolldownVersion?: string; viteVersion?: string; watchMode?: boolean };
  environment?: { name: string };
}

/** A hook that runs after the other plugins' ones. */
interface Last<Arguments extends unknown[], Result> {
  order: "post";
  sequential: true;
  handler(this: PluginContext, ...args: Arguments): Result;
}

export interface RollupPlugin {
  name: string;
  buildStart: { order: "pre"; handler(this: PluginContext): void };
  onLog(this: PluginContext, level: string): void;
  generateBundle: { order: "post"; handler(this: PluginContext, output: object, bundle: object, isWrite: boolean): void };
  writeBundle: Last<[output: object, bundle: object], void>;
  buildEnd: Last<[error?: Error], Promise<void>>;
  renderError: Last<[error?: Error], Promise<void>>;
  closeBundle: Last<[error?: Error], Promise<void>>;
}

/** One build from its start to its end. */
interface Run {
  started: number;
  warnings: number;
  /** Outputs that are still to be written. */
  unwritten: number;
  bundles: RollupBundle[];
}

/** For `plugins` of rollup 4 and rolldown. */
export function rollupPlugin(options: Options = {}): RollupPlugin {
  return pluginFor("rollup", options);
}

export function pluginFor(bundler: Bundler, options: Options): RollupPlugin {
  // By environment: Vite may build several at once with one plugin object.
  const runs = new Map<string, Run>();
  const sentBefore = new Set<string>();
  const keyOf = ({ environment }: PluginContext) => environment?.name ?? "";

  async function finish(context: PluginContext, failed: boolean): Promise<void> {
    const key = keyOf(context);
    const run = runs.get(key);
    // A failed build ends in two hooks or in one: that depends on the bundler and on what failed.
    if (!run) return;
    runs.delete(key);
    const { meta } = context;
    if (meta.watchMode && sentBefore.has(key) && !options.watch) return;
    sentBefore.add(key);
    const compileTimeMs = Date.now() - run.started;
    // A file that could not be written, or no output at all, is a failure that no hook is told of.
    const errors = failed || run.unwritten > 0 || run.bundles.length === 0 ? 1 : 0;
    await report(() => {
      const rollup = meta.rolldownVersion ? `rolldown ${meta.rolldownVersion}` : meta.rollupVersion;
      return {
        ...reduce(run.bundles, "vite", { compileTimeMs, errors, warnings: run.warnings }),
        bundler,
        bundlerVersion: bundler === "vite" ? meta.viteVersion : rollup,
        // "client" is what a build without environments is called, too.
        name: key === "client" ? undefined : key,
      };
    }, options);
  }

  return {
    name: "spanhook",
    buildStart: {
      order: "pre",
      handler() {
        const key = keyOf(this);
        // rolldown starts again for each output of one build; they end together.
        if (!runs.has(key)) runs.set(key, { started: Date.now(), warnings: 0, unwritten: 0, bundles: [] });
      },
    },
    onLog(level) {
      const run = runs.get(keyOf(this));
      if (run && level === "warn") run.warnings += 1;
    },
    generateBundle: {
      order: "post",
      handler(_output, bundle, isWrite) {
        const run = runs.get(keyOf(this));
        if (isWrite && run) run.unwritten += 1;
        // With `write: false` nothing comes after this.
        else run?.bundles.push(withoutCode(bundle as RollupBundle));
      },
    },
    writeBundle: {
      // Last, so that what is measured is what lies on the disk. Called once for each output.
      order: "post",
      sequential: true,
      handler(_output, bundle) {
        const run = runs.get(keyOf(this));
        if (!run) return;
        run.unwritten -= 1;
        run.bundles.push(withoutCode(bundle as RollupBundle));
      },
    },
    buildEnd: {
      order: "post",
      sequential: true,
      async handler(error) {
        if (error) await finish(this, true);
      },
    },
    renderError: {
      order: "post",
      sequential: true,
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
      const modules = Object.fromEntries(
        Object.entries(output.modules ?? {}).map(([id, { renderedLength }]) => [id, { renderedLength }]),
      );
      return [file, { type, name, isEntry, imports, viteMetadata, modules, size: outputSize(output) }];
    }),
  );
}

import { statSync } from "node:fs";
import { join } from "node:path";
import type { Options } from "./options.js";
import { type Bundler, type WebpackModule, type WebpackStats, mapsWithoutSize, reduce } from "./reduce.js";
import { report } from "./send.js";

/** The part of webpack's and rspack's compiler that is used here, so that neither has to be installed. */
export interface Compiler {
  name?: string;
  watchMode?: boolean;
  outputPath: string;
  webpack?: { version?: string; rspackVersion?: string };
  hooks: { done: { tapPromise(name: string, done: (stats: Stats) => Promise<void>): void } };
  run(callback: (error: Error | null, stats?: unknown) => void, ...more: unknown[]): void;
}

export interface Stats {
  toJson(options: Record<string, boolean>): object;
  compilation: Compilation;
}

export interface Compilation {
  chunks: Iterable<CompiledChunk>;
  chunkGraph: { getChunkModulesIterable(chunk: CompiledChunk): Iterable<Module> };
}

/** The bundler's own: it is only handed back. */
type CompiledChunk = any;

export interface Module {
  nameForCondition(): string | null | undefined;
  size(): number;
  /** Of a module into which others were joined. */
  modules?: Iterable<Module>;
}

export interface WebpackPlugin {
  apply(compiler: Compiler): void;
}

/** `all: false` keeps modules out (they are most of 200 MB); without `cachedAssets` cached ones fall into one nameless row. */
const PARTS = {
  all: false,
  assets: true,
  cachedAssets: true,
  relatedAssets: true,
  chunks: true,
  ids: true,
  timings: true,
  version: true,
  errorsCount: true,
  warningsCount: true,
};

/** For `plugins` of webpack 5. In a multi-compiler each configuration sends its own event. */
export function webpackPlugin(options: Options = {}): WebpackPlugin {
  return pluginFor("webpack", options);
}

export function pluginFor(bundler: Bundler, options: Options): WebpackPlugin {
  return {
    apply(compiler) {
      let sent = false;
      let done = false;

      // Not the hook `emit`: time and final sizes are known in `done` only.
      compiler.hooks.done.tapPromise("spanhook", async (stats) => {
        done = true;
        if (compiler.watchMode && sent && !options.watch) return;
        sent = true;
        await report(() => {
          const json = stats.toJson(PARTS) as WebpackStats & { version?: string; rspackVersion?: string };
          addSourceMaps(json, compiler.outputPath);
          addModules(json, stats.compilation);
          const bundlerVersion = json.rspackVersion ?? json.version;
          return { ...reduce(json, "webpack"), bundler, bundlerVersion, name: compiler.name };
        }, options);
      });

      // With `bail`, or when a plugin throws, there is no `done`, and the hook `failed` cannot wait: the command
      // line would end the process before the request is out. So the end of `run` waits.
      const run = compiler.run.bind(compiler);
      compiler.run = (callback, ...more) => {
        const started = Date.now();
        done = false;
        run((error, stats) => {
          // An error after `done` is not the build's own: with `strict` it may be ours.
          if (!error || done) return callback(error, stats);
          const compileTimeMs = Date.now() - started;
          void report(() => {
            const bundlerVersion = compiler.webpack?.rspackVersion ?? compiler.webpack?.version;
            return { ...reduce({}, "webpack", { errors: 1, compileTimeMs }), bundler, bundlerVersion, name: compiler.name };
          }, options).finally(() => callback(error, stats));
        }, ...more);
      };
    },
  };
}

/** rspack names source maps but leaves the list of related assets empty, so their sizes come from the disk. */
function addSourceMaps(stats: WebpackStats, folder: string): void {
  for (const asset of stats.assets ?? []) {
    for (const name of mapsWithoutSize(asset)) {
      const size = statSync(join(folder, name), { throwIfNoEntry: false })?.size;
      if (size !== undefined) asset.related = [...(asset.related ?? []), { name, size }];
    }
  }
}

/** As `toJson` would, which writes of each module who imported it, and more that nobody reads. */
function addModules(stats: WebpackStats, { chunks, chunkGraph }: Compilation): void {
  const found = new Map<unknown, CompiledChunk>();
  for (const chunk of chunks) found.set(chunk.id, chunk);
  for (const chunk of stats.chunks ?? []) {
    const compiled = found.get(chunk.id);
    if (compiled) chunk.modules = [...chunkGraph.getChunkModulesIterable(compiled)].map(told);
  }
}

function told(module: Module): WebpackModule {
  const modules = module.modules && [...module.modules].map(told);
  return { nameForCondition: module.nameForCondition(), size: module.size(), modules };
}

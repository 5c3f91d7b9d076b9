import { type Package, packagesOf } from "./packages.js";

export type Bundler = "webpack" | "rspack" | "vite" | "rollup" | "esbuild";

/** Formats that `reduce` reads. A rollup bundle has the format "vite". */
export type Format = "webpack" | "rspack" | "vite" | "esbuild";

export interface Metrics {
  compile_time_ms?: number;
  /** Everything that ships: assets without source maps. */
  total_asset_size_bytes?: number;
  asset_count?: number;
  chunk_count?: number;
  /** Left out when the statistics name source maps without their size. */
  source_map_size_bytes?: number;
}

export interface Asset {
  name: string;
  size: number;
}

export interface Chunk {
  names: string[];
  files: string[];
  size: number;
  entry: boolean;
  initial: boolean;
  /** How many are in it, where the statistics tell. */
  modules?: number;
  /** What they weigh before or after minimizing, as the bundler tells; the sum need not be `size`. */
  packages?: Package[];
}

export interface Details {
  largest_assets: Asset[];
  chunks: Chunk[];
}

export interface Reduced {
  status: "success" | "failed";
  errors_count: number;
  warnings_count: number;
  metrics: Metrics;
  details: Details;
}

/** What the statistics do not say themselves: only webpack and rspack know their time and errors. */
export interface Measured {
  compileTimeMs?: number;
  errors?: number;
  warnings?: number;
  /** esbuild: output folder as it stands in the metafile; it is taken off the names. */
  outdir?: string;
}

/** Statistics of webpack and rspack (`stats.toJson`), and of rollup plugins that copy their shape. */
export interface WebpackStats {
  time?: number;
  errorsCount?: number;
  warningsCount?: number;
  errors?: unknown[];
  warnings?: unknown[];
  assets?: WebpackAsset[];
  chunks?: WebpackChunk[];
  modules?: WebpackModule[];
}

export interface WebpackAsset {
  name?: string;
  size?: number;
  /** Source maps, licence texts and compressed copies hang below the asset that they belong to. */
  related?: WebpackAsset[];
  info?: { related?: { sourceMap?: string | string[] } };
}

export interface WebpackModule {
  name?: string;
  /** The file's path without loaders and query; the bundler's own modules have none. */
  nameForCondition?: string | null;
  size?: number;
  /** By their ids; modules of a chunk need not tell. */
  chunks?: (string | number)[];
  /** Those that were joined into this one. */
  modules?: WebpackModule[];
}

export interface WebpackChunk {
  id?: string | number | null;
  /** Only on request; else the modules are listed once and name their chunks. */
  modules?: WebpackModule[];
  names?: string[];
  files?: Iterable<string>;
  size?: number;
  entry?: boolean;
  initial?: boolean;
}

/** The bundle that rollup, rolldown and Vite give to `writeBundle`. */
export type RollupBundle = Record<string, RollupOutput>;

export interface RollupOutput {
  type: "chunk" | "asset";
  name?: string;
  code?: string;
  source?: string | Uint8Array;
  /** In place of `code` and `source`, for who does not want to keep them. */
  size?: number;
  isEntry?: boolean;
  imports?: string[];
  modules?: Record<string, { renderedLength: number }>;
  viteMetadata?: { importedCss?: Iterable<string> };
}

/** esbuild's metafile. */
export interface Metafile {
  outputs: Record<string, MetafileOutput>;
}

export interface MetafileOutput {
  bytes: number;
  entryPoint?: string;
  cssBundle?: string;
  imports?: { path: string; kind: string; external?: boolean }[];
  inputs?: Record<string, { bytesInOutput: number }>;
}

const MAX_ASSETS = 20;
const MAX_CHUNKS = 50;
const MAX_LIST = 20;

/** Turns a bundler's statistics, which may be 200 MB, into what a build event holds. */
export function reduce(stats: object, format: Format, measured: Measured = {}): Reduced {
  switch (format) {
    case "webpack":
    case "rspack":
      return summarize(webpackStats(stats as WebpackStats), measured);
    case "vite":
      return summarize(viteStats(stats as WebpackStats | RollupBundle | RollupBundle[]), measured);
    case "esbuild":
      return summarize(metafile(stats as Partial<Metafile>, measured.outdir), measured);
    default:
      throw new TypeError(`unknown format ${String(format)}: webpack, rspack, vite or esbuild`);
  }
}

/** Every bundler's statistics in one form. */
interface Found {
  time?: number;
  errors?: number;
  warnings?: number;
  assets: Asset[];
  maps: Asset[];
  /** True when there are source maps whose size nobody told. */
  mapsUnknown?: boolean;
  chunks: Chunk[];
}

function summarize(found: Found, measured: Measured): Reduced {
  const errors = measured.errors ?? found.errors ?? 0;
  const time = measured.compileTimeMs ?? found.time;
  const reduced: Reduced = {
    status: errors > 0 ? "failed" : "success",
    errors_count: errors,
    warnings_count: measured.warnings ?? found.warnings ?? 0,
    metrics: time === undefined ? {} : { compile_time_ms: Math.max(0, Math.round(time)) },
    details: { largest_assets: [], chunks: [] },
  };
  // A failed build has left-overs of sizes; they would show as a sudden drop.
  if (errors > 0) return reduced;

  Object.assign(reduced.metrics, {
    total_asset_size_bytes: sum(found.assets),
    asset_count: found.assets.length,
    chunk_count: found.chunks.length,
  });
  if (!found.mapsUnknown) reduced.metrics.source_map_size_bytes = sum(found.maps);
  reduced.details.largest_assets = largest(found.assets, MAX_ASSETS).map(({ name, size }) => ({ name: clean(name), size }));
  reduced.details.chunks = largest(found.chunks, MAX_CHUNKS).map((chunk) => ({
    ...chunk,
    names: chunk.names.slice(0, MAX_LIST).map(clean),
    files: chunk.files.slice(0, MAX_LIST).map(clean),
  }));
  return reduced;
}

function webpackStats(stats: WebpackStats): Found {
  const listed = (stats.assets ?? []).map(toAsset);
  // Of what is related only the maps count: licence texts and compressed copies are not in the printed sizes either.
  const related = (stats.assets ?? []).flatMap((asset) => asset.related ?? []).map(toAsset).filter(isMap);
  const sizes = new Map(listed.map(({ name, size }) => [name, size]));
  const modules = modulesByChunk(stats.modules ?? []);
  return {
    time: stats.time,
    errors: stats.errorsCount ?? stats.errors?.length,
    warnings: stats.warningsCount ?? stats.warnings?.length,
    assets: listed.filter((asset) => !isMap(asset)),
    maps: [...listed.filter(isMap), ...related],
    mapsUnknown: (stats.assets ?? []).some((asset) => mapsWithoutSize(asset).some((name) => !sizes.has(name))),
    chunks: (stats.chunks ?? []).map((chunk) => {
      const files = [...(chunk.files ?? [])];
      return {
        names: chunk.names ?? [],
        files,
        size: chunk.size ?? files.reduce((total, file) => total + (sizes.get(file) ?? 0), 0),
        entry: chunk.entry ?? false,
        initial: chunk.initial ?? false,
        ...contents(chunk.modules?.flatMap(leaves) ?? modules.get(chunk.id ?? "")),
      };
    }),
  };
}

type Module = [path: string, size: number];

function modulesByChunk(modules: WebpackModule[]): Map<string | number, Module[]> {
  const found = new Map<string | number, Module[]>();
  for (const module of modules) {
    for (const chunk of module.chunks ?? []) {
      const known = found.get(chunk) ?? [];
      known.push(...leaves(module));
      found.set(chunk, known);
    }
  }
  return found;
}

function leaves({ name, nameForCondition, size, modules = [] }: WebpackModule): Module[] {
  return modules.length > 0 ? modules.flatMap(leaves) : [[nameForCondition ?? name ?? "", size ?? 0]];
}

function contents(modules: Module[] | undefined): Pick<Chunk, "modules" | "packages"> {
  const packages = packagesOf(modules ?? []);
  // Statistics that were cut down tell no modules, or none with a size.
  return packages.length > 0 ? { modules: packages.reduce((sum, it) => sum + it.modules, 0), packages } : {};
}

/** Either what rollup-plugin-webpack-stats writes, or bundles: one for each output. */
function viteStats(stats: WebpackStats | RollupBundle | RollupBundle[]): Found {
  if (!Array.isArray(stats)) return Array.isArray(stats.assets) ? webpackStats(stats) : rollupBundle(stats as RollupBundle);
  const found = stats.map(rollupBundle);
  return {
    assets: found.flatMap(({ assets }) => assets),
    maps: found.flatMap(({ maps }) => maps),
    chunks: found.flatMap(({ chunks }) => chunks),
  };
}

function rollupBundle(bundle: RollupBundle): Found {
  const outputs = Object.entries(bundle);
  const assets = outputs.map(([name, output]) => ({ name, size: outputSize(output) }));
  const sizes = new Map(assets.map(({ name, size }) => [name, size]));
  const codes = outputs.filter(([, output]) => output.type === "chunk");
  const entries = codes.filter(([, output]) => output.isEntry).map(([name]) => name);
  const initial = reachable(entries, (name) => bundle[name]?.imports ?? []);
  return {
    assets: assets.filter((asset) => !isMap(asset)),
    maps: assets.filter(isMap),
    chunks: codes.map(([file, output]) => ({
      names: output.name ? [output.name] : [],
      files: [file, ...(output.viteMetadata?.importedCss ?? [])],
      size: sizes.get(file) ?? 0,
      entry: output.isEntry ?? false,
      initial: initial.has(file),
      ...contents(Object.entries(output.modules ?? {}).map(([id, { renderedLength }]) => [id, renderedLength])),
    })),
  };
}

function metafile({ outputs = {} }: Partial<Metafile>, outdir = ""): Found {
  const prefix = outdir.replace(/\\/g, "/").replace(/^\.\//, "").replace(/\/*$/, "/");
  const short = (path: string) => (path.startsWith(prefix) ? path.slice(prefix.length) : path);
  const all = Object.entries(outputs);
  const assets = all.map(([path, { bytes: size }]) => ({ name: short(path), size }));
  const imports = (path: string, dynamic: boolean) =>
    (outputs[path]?.imports ?? []).filter((item) => !item.external && (item.kind === "dynamic-import") === dynamic).map((item) => item.path);
  // With splitting, esbuild also calls the target of an import() an entry point.
  const lazy = new Set(all.flatMap(([path]) => imports(path, true)));
  const isEntry = (path: string) => outputs[path]?.entryPoint !== undefined && !lazy.has(path);
  const codes = all.filter(([path, output]) => output.entryPoint !== undefined || /\.[cm]?js$/.test(path));
  const initial = reachable(codes.map(([path]) => path).filter(isEntry), (path) => imports(path, false));
  return {
    assets: assets.filter((asset) => !isMap(asset)),
    maps: assets.filter(isMap),
    chunks: codes.map(([path, output]) => ({
      names: [short(path).replace(/\.[^./]+$/, "")],
      files: [path, ...(output.cssBundle ? [output.cssBundle] : [])].map(short),
      size: output.bytes,
      entry: isEntry(path),
      initial: initial.has(path),
      ...contents(Object.entries(output.inputs ?? {}).map(([id, { bytesInOutput }]) => [id, bytesInOutput])),
    })),
  };
}

/** Names of source maps that the statistics mention but do not list. */
export function mapsWithoutSize({ info, related = [] }: WebpackAsset): string[] {
  return [info?.related?.sourceMap ?? []].flat().filter((name) => !related.some((other) => other.name === name));
}

function toAsset(asset: WebpackAsset): Asset {
  return { name: asset.name ?? "", size: asset.size ?? 0 };
}

function isMap({ name }: Asset): boolean {
  return /\.map(\?|$)/.test(name);
}

function reachable(from: string[], next: (name: string) => string[]): Set<string> {
  const found = new Set(from);
  // A set that grows while it is walked: for…of sees the new members.
  for (const name of found) for (const other of next(name)) found.add(other);
  return found;
}

export function outputSize({ size, code, source }: RollupOutput): number {
  if (size !== undefined) return size;
  const content = code ?? source;
  return typeof content === "string" ? Buffer.byteLength(content) : (content?.byteLength ?? 0);
}

function sum(assets: Asset[]): number {
  return assets.reduce((total, asset) => total + asset.size, 0);
}

function largest<T extends { size: number }>(items: T[], count: number): T[] {
  return [...items].sort((a, b) => b.size - a.size).slice(0, count);
}

/** Folders outside the output say where somebody's home is: of such a path only the end is kept. */
function clean(name: string): string {
  const path = name.replace(/\\/g, "/").replace(/\?.*$/s, "");
  const outside = /^(\/|[A-Za-z]:|[a-z]+:\/\/)/.test(path);
  return outside ? path.slice(path.lastIndexOf("/") + 1) : path.replace(/^(\.{1,2}\/)+/, "");
}
